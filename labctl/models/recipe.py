"""Training recipes: a TOML file from which a network, its coded versions and their cards are made again."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labctl.devices.errors import ConfigError
from labctl.models.checkpoint import SUFFIX, DatasetCard, describe, save_network
from labctl.models.datasets import TOY_SETS, DataSource, FloatArray, ToySet
from labctl.models.metrics import EnergyReference, mode_total_variation
from labctl.models.network import RowTableNetwork
from labctl.models.points import load_points
from labctl.models.reference import converged_samples, start_noise
from labctl.models.refit import REFIT_ITERATIONS, REFIT_LEARNING_RATE, RefitTarget, quantise, refit_settings
from labctl.models.training import Progress, ProgressCallback, TrainSettings, train
from labctl.programs.codes import DEFAULT_BITS, MAX_BITS, MIN_BITS, ScaleRule


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


class QuantiseSection(_Section):
    """Which coded versions to make, and how long the re-fit of each is."""

    bits: tuple[Annotated[int, Field(ge=MIN_BITS, le=MAX_BITS)], ...] = (DEFAULT_BITS,)
    scale: ScaleRule = "row"
    target: RefitTarget = "network"
    iterations: int = Field(default=REFIT_ITERATIONS, ge=1)
    learning_rate: float = Field(default=REFIT_LEARNING_RATE, gt=0)


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
        where = str(path)
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
    for key, value in (overrides or {}).items():
        _set(content, key, value)
    try:
        return TrainRecipe.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first(error)}") from error


def shipped_recipes() -> dict[str, Path]:
    """The training recipes that come with the package, by name."""
    folder = Path(str(resources.files("labctl_recipes"))) / "training"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


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
    folder = Path(out)
    bits: list[int | None] = [None, *dict.fromkeys(plan.quantise.bits)]
    paths = [folder / (plan.name + ("" if b is None else f"-{b}bit") + SUFFIX) for b in bits]
    taken = [path for path in paths if path.exists()]
    if taken and not overwrite:
        raise ConfigError(f"{taken[0]}: exists already; choose another name or ask for overwriting")

    seeds = (plan.seed,)
    network = train(source, plan.train, seeds=seeds, progress=progress).network
    metrics = measure(network, source, plan.evaluate)
    base: dict[str, Any] = {
        "description": plan.description,
        "dataset": DatasetCard(
            name=source.name, checksum=source.checksum(), mean=source.affine.mean, std=source.affine.std
        ),
        "seed": plan.seed,
        "settings": plan.train.model_dump(mode="json"),
    }
    card = save_network(
        network, paths[0], describe(network, paths[0].stem, metrics=metrics, **base), overwrite=overwrite
    )
    refit = refit_settings(plan.train).model_copy(
        update={"iterations": plan.quantise.iterations, "learning_rate": plan.quantise.learning_rate}
    )
    for width, path in zip(bits[1:], paths[1:], strict=True):
        if width is None:
            continue
        coded = quantise(
            network,
            source,
            width,
            scale=plan.quantise.scale,
            target=plan.quantise.target,
            settings=refit,
            seeds=seeds,
            progress=_staged(progress, f"re-fit at {width} bit"),
        ).network
        described = describe(
            coded,
            path.stem,
            metrics=measure(coded, source, plan.evaluate),
            parent_sha256=card.sha256,
            refit={
                **refit.model_dump(mode="json"),
                "scale": plan.quantise.scale,
                "target": plan.quantise.target,
            },
            **base,
        )
        save_network(coded, path, described, overwrite=overwrite)
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


def _staged(progress: ProgressCallback | None, stage: str) -> ProgressCallback | None:
    if progress is None:
        return None

    def report(event: Progress) -> None:
        progress(replace(event, stage=stage))

    return report


def _find(recipe: str | Path) -> Path:
    path, shipped = Path(recipe), shipped_recipes()
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise ConfigError(f"{path}: no such recipe file")
        return path
    if str(recipe) in shipped:
        return shipped[str(recipe)]
    near = difflib.get_close_matches(str(recipe), shipped, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{recipe}: no training recipe of that name ({', '.join(shipped)}), nor a file{hint}")


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = content.get(parent, {})
        if not isinstance(inner, Mapping):
            raise ConfigError(f"{key}: {parent} is a value, not a section")
        content[parent] = dict(inner)
        content = content[parent]
    content[last] = value


_SECTIONS: dict[str, type[BaseModel]] = {
    "": TrainRecipe,
    "data": DataSection,
    "train": TrainSettings,
    "quantise": QuantiseSection,
    "evaluate": EvaluateSection,
}


def _first(error: ValidationError) -> str:
    """One line for the first thing wrong, with the nearest allowed name for an unknown key."""
    found = error.errors()[0]
    *section, last = [str(part) for part in found["loc"]] or [""]
    where = ".".join([*section, last])
    if found["type"] == "extra_forbidden":
        allowed = list(_SECTIONS[section[0] if section else ""].model_fields)
        near = difflib.get_close_matches(last, allowed, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(allowed)}"
        return f"unknown key {where!r}; {hint}"
    given = "" if found["type"] == "missing" else f" (given: {found['input']!r})"
    return f"field {where}: {found['msg']}{given}"
