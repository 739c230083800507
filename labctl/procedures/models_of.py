"""From what a recipe names to a network at the bits it asks for, with the data it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labctl.config_files import nearest
from labctl.devices import ConfigError
from labctl.models.checkpoint import Checkpoint, describe, list_zoo, load_checkpoint
from labctl.models.datasets import TOY_SETS, Affine, DataSource
from labctl.models.network import RowTableNetwork
from labctl.models.points import load_points
from labctl.models.refit import quantise, refit_settings
from labctl.models.training import Progress, TrainSettings, train
from labctl.procedures.recipe import SampleRecipe

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Subject:
    """What a chain runs: the network, its card, the data source (None where it is not at hand).

    uncoded: the float network that its codes were made from, where that is at hand.
    """

    network: RowTableNetwork
    card: dict[str, object]
    source: DataSource | None
    affine: Affine
    uncoded: RowTableNetwork | None = None


def subject_of(recipe: SampleRecipe, tell: Tell, *, dry: bool = False) -> Subject:
    """Load, train or re-fit as the recipe needs; `tell(what, done, total)` reports training.

    With `dry`, one iteration of each stands for all: the network has the right shape and is no good.

    Raises ConfigError or DataError naming the key and what is allowed.
    """
    if recipe.data:
        return _from_points(recipe, tell, dry)
    checkpoint = _checkpoint(recipe)
    card = checkpoint.card
    source = TOY_SETS.get(card.dataset.name) if card.dataset is not None else None
    network, uncoded = checkpoint.network, _uncoded(recipe, checkpoint)
    wanted = None if recipe.bits == "float" else int(recipe.bits)
    document: dict[str, object] = card.model_dump(mode="json")
    if card.bits != wanted:
        if card.bits is not None:
            raise ConfigError(
                f"bits is {recipe.bits}, but {checkpoint.path.name} holds {card.bits}-bit codes; "
                "name the float checkpoint to code it anew"
            )
        if source is None:
            raise ConfigError(
                f"bits is {recipe.bits}: coding {recipe.model!r} anew re-fits it on its data, which are not "
                "at hand; allowed: the bits it ships with"
            )
        settings = refit_settings(TrainSettings(**card.settings))
        network = _coded(network, source, recipe, _cut(settings, dry), card.seed or 0, tell)
        document = describe(network, f"{card.name}, {wanted} bits").model_dump(mode="json")
    affine = (
        Affine(card.dataset.mean, card.dataset.std)
        if card.dataset is not None
        else Affine((0.0,) * network.sizes[0], (1.0,) * network.sizes[0])
    )
    return Subject(network, document, source, affine, uncoded)


def _checkpoint(recipe: SampleRecipe) -> Checkpoint:
    name = recipe.model
    zoo = list_zoo()
    if name not in zoo and not Path(name).exists():
        raise ConfigError(
            f"model {name!r} is neither in the zoo nor a file{nearest(name, zoo)}; zoo: {', '.join(zoo)}"
        )
    coded = f"{name}-{recipe.bits}bit"
    if recipe.weight_scale == "row" and coded in zoo:
        return load_checkpoint(coded)
    return load_checkpoint(name)


def _uncoded(recipe: SampleRecipe, checkpoint: Checkpoint) -> RowTableNetwork | None:
    if checkpoint.card.bits is None:
        return checkpoint.network
    # a coded network of the zoo lies beside the one it was made from
    return load_checkpoint(recipe.model).network if recipe.model in list_zoo() else None


def _cut(settings: TrainSettings, dry: bool) -> TrainSettings:
    return settings.model_copy(update={"iterations": 1}) if dry else settings


def _from_points(recipe: SampleRecipe, tell: Tell, dry: bool) -> Subject:
    source = load_points(recipe.data)
    if source.dim > 24:
        raise ConfigError(f"{recipe.data}: {source.dim} columns; allowed: 2 to 24 on a 48-variable machine")
    settings = TrainSettings(iterations=recipe.train_iterations)
    hidden = (48 - source.dim) // 2
    settings = settings.model_copy(update={"hidden": (hidden, hidden)})
    network = train(
        source, _cut(settings, dry), seeds=(recipe.seed,), progress=_telling("training", tell)
    ).network.replica(0)
    uncoded = network
    if recipe.bits != "float":
        refit = _cut(refit_settings(settings), dry)
        network = _coded(network, source, recipe, refit, recipe.seed, tell)
    card = describe(network, recipe.data, seed=recipe.seed, settings=settings.model_dump(mode="json"))
    return Subject(network, card.model_dump(mode="json"), source, source.affine, uncoded)


def _coded(
    network: RowTableNetwork,
    source: DataSource,
    recipe: SampleRecipe,
    settings: TrainSettings,
    seed: int,
    tell: Tell,
) -> RowTableNetwork:
    return quantise(
        network,
        source,
        int(recipe.bits),
        scale=recipe.weight_scale,
        settings=settings,
        seeds=(seed,),
        progress=_telling(f"re-fit at {recipe.bits} bits", tell),
    ).network.replica(0)


def _telling(what: str, tell: Tell) -> Callable[[Progress], None]:
    return lambda progress: tell(what, progress.done, progress.total)
