"""From a recipe to generators or chains with cards: train floats, then codes, judge each and save it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.devices.errors import ConfigError
from labctl.models.making import training_facts
from labctl.models.oscillators.chain_checkpoint import describe_chain, save_chain
from labctl.models.oscillators.chain_fitting import fit_chain, fit_chain_codes
from labctl.models.oscillators.checkpoint import (
    LoadedGenerator,
    OscillatorCard,
    check_data,
    describe_generator,
    load_generator,
    save_generator,
)
from labctl.models.oscillators.diffuser import TrainableDiffuser
from labctl.models.oscillators.fitting import Fitted, fit, fit_codes
from labctl.models.oscillators.generator import TrainableGenerator
from labctl.models.oscillators.model import OscillatorModel
from labctl.models.oscillators.scoring import PictureJudge, copies
from labctl.models.oscillators.settings import BoardErrors
from labctl.models.picture_data import PictureData
from labctl.models.picture_recipes import ChainRecipe, JudgedRecipe, OscillatorRecipe
from labctl.models.training import ProgressCallback

RESIDUAL = BoardErrors(detuning=0.02)  # units, left on a trimmed board: what a chain is judged with beside
REFINED = 8  # times the steps, beside every figure: what a training learnt of the solver would not survive


@dataclass(frozen=True)
class _Craft:
    """One kind of model: how it is begun, trained in floats and towards codes, measured, described, saved.

    start: card of the float model that it begins at, which is then not trained again.
    """

    begun: Callable[[], TrainableGenerator | TrainableDiffuser]
    fit: Callable[[Any], Fitted]
    fit_codes: Callable[[Any, int], Fitted]
    measured: Callable[[Any], dict[str, float]]
    described: Callable[..., OscillatorCard]
    saved: Callable[..., OscillatorCard]
    objective: str
    start: OscillatorCard | None = None


def make_generators(
    recipe: OscillatorRecipe,
    data: PictureData,
    paths: list[Path],
    *,
    progress: ProgressCallback | None = None,
    overwrite: bool = False,
) -> None:
    """Write the float generator to paths[0] and each coded version to its own, in the order of its bits.

    Where the recipe starts from a float generator, the coded versions alone. Raises ConfigError or
    ProgramError, before any training, for a shape, judge or start that does not fit.
    """
    judge = _judge(recipe, data)
    real = data.train_pictures
    started = _start(recipe) if recipe.start else None

    def begun() -> TrainableGenerator:
        model = TrainableGenerator(data.side, recipe.shape, seed=recipe.seed)
        if started is not None:
            model.begin_at(started.generator.parameters)
        return model

    craft = _Craft(
        begun=begun,
        fit=lambda model: fit(model, real, recipe.train, seed=recipe.seed, progress=progress),
        fit_codes=lambda model, bits: fit_codes(
            model, real, bits, recipe.train, recipe.coded, seed=recipe.seed + 1, progress=progress
        ),
        measured=lambda made: measured(made, judge, data) | {"step_bound": made.row_sum() * made.shape.step},
        described=describe_generator,
        saved=save_generator,
        objective=recipe.train.objective,
        start=None if started is None else started.card,
    )
    _make(craft, recipe, judge, data, paths, overwrite)


def make_chains(
    recipe: ChainRecipe,
    data: PictureData,
    paths: list[Path],
    *,
    progress: ProgressCallback | None = None,
    overwrite: bool = False,
) -> None:
    """Write the float chain to paths[0] and each coded version to its own, in the order of its bits.

    Raises as `make_generators`.
    """
    judge = _judge(recipe, data)
    real = data.train_pictures
    craft = _Craft(
        begun=lambda: TrainableDiffuser(data.side, recipe.shape, seed=recipe.seed),
        fit=lambda model: fit_chain(model, real, recipe.train, seed=recipe.seed, progress=progress),
        fit_codes=lambda model, bits: fit_chain_codes(
            model, real, bits, recipe.train, recipe.coded, seed=recipe.seed + 1, progress=progress
        ),
        measured=lambda made: measured(made, judge, data, errors=RESIDUAL),
        described=describe_chain,
        saved=save_chain,
        objective=recipe.train.objective,
    )
    _make(craft, recipe, judge, data, paths, overwrite)


def _judge(recipe: JudgedRecipe, data: PictureData) -> PictureJudge:
    judge = PictureJudge.of(recipe.classifier, recipe.reference)
    if judge.classifier.side != data.side:
        raise ConfigError(
            f"classifier {recipe.classifier}: it judges {judge.classifier.side} pixels a side; allowed: "
            f"{data.side}, as the pictures of this recipe"
        )
    return judge


def _make(
    craft: _Craft,
    recipe: JudgedRecipe,
    judge: PictureJudge,
    data: PictureData,
    paths: list[Path],
    overwrite: bool,
) -> None:
    bits_made = tuple(dict.fromkeys(recipe.coded.bits))
    for bits in bits_made:  # a shape that no program can hold shows now, not after the training
        trial = craft.begun()
        trial.use_codes(bits)
        trial.finished()
    base = {
        "description": recipe.description,
        "objective": craft.objective,
        "why": recipe.why,
        "dataset": data.card(),
        "classifier": judge.classifier_name,
        "reference": judge.reference_name,
        "seed": recipe.seed,
        "settings": recipe.train.model_dump(mode="json"),
    }

    def kept(path: Path, work: Callable[[], Fitted], **more: Any) -> OscillatorCard:
        """Train, measure, describe and save what came of it."""
        began = time.monotonic()
        fitted = work()
        facts = training_facts(time.monotonic() - began)
        made = model.finished()
        card = craft.described(
            made, path.stem, metrics=craft.measured(made), skipped=fitted.skipped, **more, **facts, **base
        )
        return craft.saved(made, path, card, overwrite=overwrite)

    model = craft.begun()
    parent = craft.start
    if parent is None:
        parent, paths = kept(paths[0], lambda: craft.fit(model)), paths[1:]
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    for bits, path in zip(bits_made, paths, strict=True):
        model.load_state_dict(trained)
        kept(
            path,
            lambda bits=bits: craft.fit_codes(model, bits),  # type: ignore[misc]
            parent_sha256=parent.sha256,
            coded=recipe.coded.model_dump(mode="json"),
        )


def _start(recipe: OscillatorRecipe) -> LoadedGenerator:
    """The float generator that a recipe starts from; ConfigError where it is another's."""
    found = load_generator(recipe.start)
    check_data(found.card, recipe.data_set, recipe.side)
    for key, own, said in (
        ("shape", found.card.shape, recipe.shape),
        ("train", found.card.settings, recipe.train.model_dump(mode="json")),
        ("bits", found.card.bits, None),
    ):
        if own != said:
            raise ConfigError(
                f"start = {recipe.start!r}: its {key} is {own}; allowed: {said}, as the recipe's"
            )
    return found


def measured(
    model: OscillatorModel,
    judge: PictureJudge,
    data: PictureData,
    *,
    errors: BoardErrors | None = None,
) -> dict[str, float]:
    """The figures on a card: FD* as trained, at refined steps and on a board with `errors`, density,
    coverage, nearest pictures.
    """

    def draw(count: int, seed: int) -> Any:
        return model.generate(count, seed=seed)

    found = judge.scores(draw)
    refined = judge.scores(lambda count, seed: model.generate(count, seed=seed, refine=REFINED))
    near = copies(draw, data.train_pictures, data.test_pictures)
    out = {
        "frechet_star": found.frechet_star,
        "frechet_star_standard_error": found.spread,
        f"frechet_star_{REFINED}x_steps": refined.frechet_star,
        "density": found.density,
        "coverage": found.coverage,
        "judged_pictures": float(found.size * found.sets),
        "nearest_training_picture": near.made,
        "nearest_training_picture_of_test": near.test,
        "share_nearer_than_1_percent_of_test": near.nearer,
        "coupling_row_sum": model.row_sum(),
    }
    if errors is not None:
        on_board = judge.scores(lambda count, seed: model.generate(count, seed=seed, errors=errors))
        out["frechet_star_detuned"] = on_board.frechet_star
    return out
