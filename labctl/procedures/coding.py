"""Which codes a recipe's generator runs with: those it was trained with, or its floats rounded."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.devices import Coercion, ConfigError
from labctl.models.checkpoint import shipped_cards
from labctl.models.oscillators.checkpoint import KIND, GeneratorCard, LoadedGenerator, load_generator
from labctl.models.oscillators.generator import program_of, rounded_program
from labctl.procedures.board_program import check_bits, check_known
from labctl.procedures.recipe import GenerateRecipe
from labctl.programs import OscillatorProgram


@dataclass(frozen=True, eq=False)
class CodedGenerator:
    """A program with the card of the model it is of; the note says how it came about, "" as its card does.

    coercions: what the rounding of floats clipped.
    """

    card: GeneratorCard
    program: OscillatorProgram
    note: str = ""
    coercions: tuple[Coercion, ...] = ()


def coded_generator(recipe: GenerateRecipe) -> CodedGenerator:
    """The program that a recipe names. ConfigError for a model that is not there, or not of these bits."""
    zoo = shipped_cards(KIND)
    name = f"{recipe.model}{recipe.segments}" if recipe.segments else recipe.model
    if recipe.coding == "rounded":
        return _rounded(_loaded(name, zoo), recipe.bits)
    coded = f"{name}-{recipe.bits}bit"
    loaded = _loaded(coded if coded in zoo else name, zoo)
    card = loaded.card
    check_bits(card, recipe.bits, ', or coding "rounded" for a model of floats')
    if recipe.segments and card.shape.segments != recipe.segments:
        raise ConfigError(
            f"segments is {recipe.segments}, but {card.name} has {card.shape.segments}; allowed: 0, or "
            "as many"
        )
    trained = f"{name}: trained means codes that it was trained with"
    note = f"{card.name}: {card.description}" if recipe.segments else trained
    return CodedGenerator(card, program_of(loaded.generator), note)


def _rounded(loaded: LoadedGenerator, bits: int) -> CodedGenerator:
    card = loaded.card
    if card.bits is not None:
        raise ConfigError(
            f'coding is "rounded", but {card.name} has couplings of {card.bits} bits; allowed: a model of '
            'floats, or coding "trained"'
        )
    program, clipped = rounded_program(loaded.generator, bits)
    note = (
        f"{card.name}: rounded means the nearest codes to its float couplings, one scale a segment of least "
        "squared error; nothing was trained with them"
    )
    return CodedGenerator(card, program, note, clipped)


def _loaded(name: str, zoo: dict[str, dict[str, object]]) -> LoadedGenerator:
    check_known(name, zoo, "generator")
    return load_generator(name)
