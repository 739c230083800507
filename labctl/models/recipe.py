"""Training recipes: a TOML file from which a network, its coded versions and their cards are made again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labctl.config_files import first_problem, nearest, parse_toml, read_toml, set_dotted
from labctl.devices.errors import ConfigError
from labctl.models.datasets import TOY_SETS, DataSource, FloatArray, ToySet
from labctl.models.making import QuantiseSection, coded_names, make_networks, new_paths
from labctl.models.metrics import EnergyReference, mode_total_variation
from labctl.models.network import RowTableNetwork
from labctl.models.points import load_points
from labctl.models.reference import converged_samples, start_noise
from labctl.models.training import ProgressCallback, TrainSettings


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(_Section):
    """Either a shipped `set`, or a `file` of own points (with `columns`, and `key` for a .npz)."""

    set: str | None = None
    file: str | None = None
    columns: tuple[int | str, ...] | None = None
    key: str | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.set is None) == (self.file is None):
            raise ValueError("exactly one of `set` and `file` is allowed")
        if self.set is not None and self.set not in TOY_SETS:
            raise ValueError(f"set {self.set!r}: allowed are {', '.join(TOY_SETS)}")
        return self


class EvaluateSection(_Section):
    """What the metrics on the cards are taken from: `draws` times `samples` points; 0 samples: no metrics."""

    samples: int = Field(default=20_000, ge=0)
    draws: int = Field(default=4, ge=2)
    sigma_min: tuple[Annotated[float, Field(gt=0)], ...] = (0.02, 0.06)


class TrainRecipe(_Section):
    """A whole recipe. `name` is the checkpoint's name, `seed` that of initial weights, data and noise."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    description: str = ""
    seed: int = Field(default=0, ge=0)
    data: DataSection
    train: TrainSettings = TrainSettings()
    quantise: QuantiseSection = QuantiseSection()
    evaluate: EvaluateSection = EvaluateSection()


def load_recipe(
    recipe: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> TrainRecipe:
    """A recipe from a shipped name, a TOML file or a mapping; `overrides` are dotted, "train.iterations".

    Raises ConfigError naming file, field and what is allowed.
    """
    if isinstance(recipe, Mapping):
        where, content = "recipe", dict(recipe)
    else:
        path = _find(recipe)
        where, content = str(path), recipe_content(path)
    for key, value in (overrides or {}).items():
        set_dotted(content, key, value)
    try:
        return TrainRecipe.model_validate(content)
    except ValidationError as error:
        raise first_problem(error, where, TrainRecipe) from None


def shipped_recipes() -> dict[str, Path]:
    """The training recipes that come with the package, by name."""
    folder = Path(str(resources.files("labctl_recipes"))) / "training"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def recipe_content(path: Path) -> dict[str, Any]:
    """What a recipe file says; `extends` names a shipped recipe whose keys hold where it gives none.

    Raises ConfigError for a file that is no TOML, or extends what is not there or extends another itself.
    """
    own = parse_toml(read_toml(path), str(path))
    if "extends" not in own:
        return own
    base, shipped = own.pop("extends"), shipped_recipes()
    if not isinstance(base, str) or base not in shipped:
        raise ConfigError(
            f"{path}: extends = {base!r}{nearest(str(base), shipped)}; allowed: {', '.join(shipped)}"
        )
    content = parse_toml(read_toml(shipped[base]), str(shipped[base]))
    if "extends" in content:
        raise ConfigError(f"{path}: extends = {base!r}, which extends another; allowed: one that does not")
    for key, value in own.items():
        both_tables = isinstance(value, dict) and isinstance(content.get(key), dict)
        content[key] = {**content[key], **value} if both_tables else value
    return content


def open_source(data: DataSection) -> DataSource:
    """The data that a recipe names; DataError when a file of points makes no sense."""
    if data.set is not None:
        return TOY_SETS[data.set]
    return load_points(data.file or "", columns=data.columns, key=data.key)


def train_from_recipe(
    recipe: str | Path | Mapping[str, Any] | TrainRecipe,
    *,
    out: Path | str = ".",
    overrides: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Train, quantise, measure and save; returns the checkpoints, float first, in folder `out`.

    Raises ConfigError for the recipe, DataError for the data and CheckpointError for existing files (before
    any training) and unwritable ones.
    """
    plan = recipe if isinstance(recipe, TrainRecipe) else load_recipe(recipe, overrides)
    source = open_source(plan.data)
    paths = new_paths(out, coded_names(plan.name, plan.quantise.bits), overwrite=overwrite)
    make_networks(
        source,
        plan.train,
        plan.quantise,
        paths,
        seed=plan.seed,
        measured=lambda network: measure(network, source, plan.evaluate),
        card={"description": plan.description},
        progress=progress,
        overwrite=overwrite,
    )
    return paths


def measure(network: RowTableNetwork, source: DataSource, how: EvaluateSection) -> dict[str, float]:
    """Metrics of the converged sampler of a one-replica network against fresh data, by name.

    Energy distance at each sigma_min, and mode total variation where the set is a mixture: means over
    `draws` independent draws of data and start noise, the former with the standard error of its mean. Empty
    for a network with classes, and for 0 samples.
    """
    if how.samples == 0 or source.n_classes:
        return {}
    found: dict[str, list[float]] = {}
    for draw in range(how.draws):
        # Far from the seeds of trainings, so that neither data nor noise has been seen.
        seed = 2**40 + draw
        data, _ = source.draw(how.samples, np.random.Generator(np.random.Philox(key=seed)))
        reference = EnergyReference.of(data)
        start = start_noise(how.samples, source.dim, seed=seed)
        for sigma_min in how.sigma_min:
            samples: FloatArray = converged_samples(network, start, sigma_min=sigma_min).double().numpy()
            at = f"sigma_min_{sigma_min:g}"
            found.setdefault(f"energy_distance_{at}", []).append(reference.distance(samples))
            if isinstance(source, ToySet) and source.centres is not None and source.weights is not None:
                variation = mode_total_variation(samples, source.centres, source.weights)
                found.setdefault(f"mode_total_variation_{at}", []).append(variation)
    metrics = {"samples": float(how.samples), "draws": float(how.draws)}
    for name, values in found.items():
        metrics[name] = float(np.mean(values))
        if name.startswith("energy"):
            metrics[f"{name}_standard_error"] = float(np.std(values, ddof=1) / math.sqrt(how.draws))
    return metrics


def _find(recipe: str | Path) -> Path:
    path, shipped = Path(recipe), shipped_recipes()
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise ConfigError(f"{path}: no such recipe file")
        return path
    if str(recipe) in shipped:
        return shipped[str(recipe)]
    raise ConfigError(
        f"{recipe}: no training recipe of that name ({', '.join(shipped)}), nor a file"
        f"{nearest(str(recipe), shipped)}"
    )
