"""From data to checkpoints: train a float network, re-fit its coded versions, measure and save each."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from labctl.devices.errors import ConfigError
from labctl.models.checkpoint import SUFFIX, DatasetCard, card_path, describe, save_network
from labctl.models.datasets import DataSource
from labctl.models.network import RowTableNetwork
from labctl.models.refit import REFIT_ITERATIONS, REFIT_LEARNING_RATE, RefitTarget, quantise, refit_settings
from labctl.models.training import ProgressCallback, TrainSettings, train
from labctl.programs.codes import DEFAULT_BITS, MAX_BITS, MIN_BITS, ScaleRule


class QuantiseSection(BaseModel):
    """Which coded versions to make, and how their row functions are re-fitted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bits: tuple[Annotated[int, Field(ge=MIN_BITS, le=MAX_BITS)], ...] = (DEFAULT_BITS,)
    scale: ScaleRule = "row"
    target: RefitTarget = "network"
    iterations: int = Field(default=REFIT_ITERATIONS, ge=1)
    learning_rate: float = Field(default=REFIT_LEARNING_RATE, gt=0)

    def settings(self, trained: TrainSettings) -> TrainSettings:
        """The re-fit's settings for a network that was trained with `trained`."""
        own = {"iterations": self.iterations, "learning_rate": self.learning_rate}
        return refit_settings(trained).model_copy(update=own)


def new_paths(folder: Path | str, names: list[str], *, overwrite: bool) -> list[Path]:
    """Checkpoint files of these names; ConfigError (before any training) when one or its card exists."""
    paths = [Path(folder) / (name + SUFFIX) for name in names]
    taken = [p for path in paths for p in (path, card_path(path)) if p.exists()]
    if taken and not overwrite:
        raise ConfigError(f"{taken[0]}: exists already; choose another name or ask for overwriting")
    return paths


def coded_names(name: str, bits: Iterable[int]) -> list[str]:
    """The names of a model of floats and of its coded versions."""
    return [name, *(f"{name}-{b}bit" for b in dict.fromkeys(bits))]


def training_facts(took_s: float) -> dict[str, Any]:
    """What a card says of the work: `took_s` of wall time and the kind of machine, never which one."""
    threads = torch.get_num_threads()
    where = f"{threads} thread{'s' if threads > 1 else ''} of {_processor()}"
    return {"training_s": round(took_s), "trained_on": where}


def _processor() -> str:
    """The processor as the system calls it, or its architecture where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, [*named, platform.processor(), platform.machine()]), "an unnamed processor")


def make_networks(
    source: DataSource,
    settings: TrainSettings,
    how: QuantiseSection,
    paths: list[Path],
    *,
    seed: int,
    measured: Callable[[RowTableNetwork], dict[str, float]],
    card: dict[str, Any],
    progress: ProgressCallback | None = None,
    overwrite: bool = False,
) -> None:
    """Write the float network to paths[0] and each coded version to its own, in the order of `coded_names`.

    `measured` gives the metrics on each card, `card` whatever else stands there.
    """
    base = {
        "dataset": DatasetCard(
            name=source.name, checksum=source.checksum(), mean=source.affine.mean, std=source.affine.std
        ),
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        **card,
    }
    began = time.monotonic()
    network = train(source, settings, seeds=(seed,), progress=progress).network
    facts = training_facts(time.monotonic() - began)
    described = describe(network, paths[0].stem, metrics=measured(network), **facts, **base)
    parent = save_network(network, paths[0], described, overwrite=overwrite)
    refit = how.settings(settings)
    for bits, path in zip(dict.fromkeys(how.bits), paths[1:], strict=True):
        began = time.monotonic()
        coded = quantise(
            network,
            source,
            bits,
            scale=how.scale,
            target=how.target,
            settings=refit,
            seeds=(seed,),
            progress=_staged(progress, f"re-fit at {bits} bit"),
        ).network
        facts = training_facts(time.monotonic() - began)
        described = describe(
            coded,
            path.stem,
            metrics=measured(coded),
            **facts,
            parent_sha256=parent.sha256,
            refit={**refit.model_dump(mode="json"), "scale": how.scale, "target": how.target},
            **base,
        )
        save_network(coded, path, described, overwrite=overwrite)


def _staged(progress: ProgressCallback | None, stage: str) -> ProgressCallback | None:
    if progress is None:
        return None
    return lambda event: progress(replace(event, stage=stage))
