"""Run a protocol on a rig: plan, check, settle step by step, log each step, leave everything safe."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Aborted, RunLogError, Scalar, UserError
from labctl.procedures.chain_part import ChainPart
from labctl.procedures.compensating import compensated
from labctl.procedures.diffusing import diffusions_of
from labctl.procedures.drifting import DriftWatcher, require_watchable
from labctl.procedures.forecasting import with_forecast
from labctl.procedures.generating import generations_of
from labctl.procedures.interlocked import Interlocked
from labctl.procedures.interrupts import uninterrupted
from labctl.procedures.parts import Part
from labctl.procedures.plan import chains_of
from labctl.procedures.recipe import DiffuseRecipe, GenerateRecipe, Protocol, Scan, load_protocol
from labctl.procedures.records import header_of, plan_of
from labctl.procedures.scanning import add_to_row
from labctl.procedures.threads import one_thread
from labctl.procedures.watching import PanelResult, Watcher
from labctl.rig import Rig
from labctl.runlog import RunHeader, RunPlan, RunWriter, fresh_path

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RunResult:
    """A finished run: its file and what it holds."""

    file: Path
    panels: tuple[PanelResult, ...]
    metrics: dict[str, Scalar] = field(default_factory=dict)

    @property
    def samples(self) -> FloatArray:
        """Samples of the only (or first) panel."""
        return self.panels[0].samples


def run(
    protocol: Protocol | str | Path,
    rig: Rig,
    *,
    out: str | Path = "runs",
    watcher: Watcher | None = None,
) -> RunResult:
    """Run a protocol on an open rig and write one NeXus file into the folder `out`.

    The rig's interlocks are looked at before, during and after; InterlockTripped ends it as an error does.
    Raises UserError or RunLogError before the first step when the protocol makes no sense on this rig or the
    folder cannot be written; the rig stays open. From the first step on, any error closes the file marked
    failed and Ctrl-C closes it marked aborted, with every finished step in it; the rig is closed, which
    leaves it safe, and Ctrl-C raises Aborted.
    """
    watcher = watcher or Watcher()
    if not isinstance(protocol, Protocol):
        protocol = load_protocol(protocol)
    with one_thread():
        return _run(protocol, rig, Path(out), watcher)


def _run(protocol: Protocol, rig: Rig, out: Path, watcher: Watcher) -> RunResult:
    try:
        rig.require_open()  # refused now, not after a training
        rig.require_trusted()
        rig.interlocks.check("before the run")
        require_watchable(rig)
        watcher = Interlocked(watcher, rig.interlocks)
        if rig.config.watch is not None:
            watcher = DriftWatcher(watcher, rig, rig.config.watch)
        used_us = 0.0 if rig.world is None else float(rig.world.now_us)
        check_folder(out)
        parts, device_us = _parts(protocol, rig, watcher), 0.0
        for done, part in enumerate(parts):
            if rig.config.law == "loop":
                watcher.preparing("state noise", done, len(parts))
            parts[done] = part.ready(rig)
            device_us += parts[done].expected_us(rig)
        if rig.config.engine == "optical-host-loop":
            watcher.expecting(device_us)
        header, plan = header_of(protocol, rig, parts, used_us), plan_of(protocol, rig, parts)
    except (UserError, RunLogError):
        raise
    except BaseException as error:
        with uninterrupted():
            _make_safe(rig, error)
            if isinstance(error, KeyboardInterrupt):
                raise Aborted(
                    "stopped; before the first step: nothing was written, the rig is safe"
                ) from None
            raise
    return _recorded(protocol, rig, parts, out, header, plan, watcher)


def _parts(protocol: Protocol, rig: Rig, watcher: Watcher) -> list[Part]:
    """Everything compiled for this rig, and adapted to its bench where it was brought up."""
    if isinstance(protocol.recipe, GenerateRecipe):
        return list(generations_of(protocol, protocol.recipe, rig))
    if isinstance(protocol.recipe, DiffuseRecipe):
        return list(diffusions_of(protocol, protocol.recipe, rig))
    chains = compensated(chains_of(protocol, rig, watcher.training), rig, watcher.training)
    chains, found = with_forecast(chains, rig, watcher.computing)
    if found is not None:
        watcher.foreseen(f"quality {found.words}")
    return [ChainPart(chain) for chain in chains]


def _recorded(
    protocol: Protocol,
    rig: Rig,
    parts: list[Part],
    out: Path,
    header: RunHeader,
    plan: RunPlan,
    watcher: Watcher,
) -> RunResult:
    """Run the parts into a new file; however that ends, the rig is safe and then the file is whole."""
    writer: RunWriter | None = None
    try:
        with uninterrupted():
            writer = _created(out, protocol.name, header, plan)
            if isinstance(watcher, DriftWatcher):
                watcher.writes_to(writer)
        return _written(protocol, rig, parts, writer, watcher)
    except BaseException as error:
        with uninterrupted():
            safe = _make_safe(rig, error)
            state = "complete" if writer and not writer.open else "whole and marked aborted"
            if writer is not None:
                writer.__exit__(type(error), error, None)
            if isinstance(error, KeyboardInterrupt) and writer is not None:
                raise Aborted(
                    f"stopped; the rig {'is safe' if safe else 'could not be closed'}; "
                    f"the file is {state}: {writer.path}"
                ) from None
            raise


def _written(
    protocol: Protocol,
    rig: Rig,
    parts: list[Part],
    writer: RunWriter,
    watcher: Watcher,
) -> RunResult:
    panels: list[PanelResult] = []
    metrics: dict[str, Scalar] = {}
    watcher.planned(parts, writer.path)
    rows: dict[float, dict[str, float]] = {}
    for part in parts:
        result = part.run(rig, writer.panel(part.name), watcher)
        panels.append(result)
        watcher.panel_done(result)
        if isinstance(protocol.recipe, Scan) and part.row is not None:
            row = rows.setdefault(part.row, {protocol.recipe.scan: part.row})
            if add_to_row(protocol.recipe, row, part.series, result.metrics):
                with uninterrupted():
                    writer.scan_row(row)
    rig.interlocks.check("after the run")
    if isinstance(watcher, DriftWatcher):
        metrics |= watcher.metrics()
    metrics |= {f"passed_{name}": words for name, words in rig.passed.items()}
    with uninterrupted():
        file = writer.finish(metrics=metrics)
    return RunResult(file, tuple(panels), metrics)


def _created(out: Path, stem: str, header: RunHeader, plan: RunPlan) -> RunWriter:
    """A new run file; another process may take the name in the same moment, then the next one is tried."""
    while True:
        path = fresh_path(out, stem)
        try:
            return RunWriter.create(path, header, plan)
        except RunLogError:
            if fresh_path(out, stem) == path:  # still free: the name was not what stood in the way
                raise


def _make_safe(rig: Rig, error: BaseException) -> bool:
    """Close the rig after `error`; what goes wrong in that is noted on it, never put in its place."""
    try:
        rig.close()
    except Exception as problem:  # noqa: BLE001 - the first error is the one to report
        error.add_note(f"the rig could not be closed: {problem}")
        return False
    return True


def check_folder(out: Path) -> None:
    """Refuse a folder that cannot be made or written in, before anything long is begun."""
    place = next(p for p in (out.absolute(), *out.absolute().parents) if os.path.lexists(p))
    if not place.is_dir():
        raise RunLogError(f"{out}: {place} is not a folder; run files need one")
    if not os.access(place, os.W_OK | os.X_OK):
        raise RunLogError(f"{out}: no permission to write in {place}")
