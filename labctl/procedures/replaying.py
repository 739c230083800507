"""Run a run again from its file alone, and compare the two files step by step.

The same bits are promised on the same build, threads and batching (conventions, section 6); what differs
between then and now is found first and told with the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from labctl_calibration.store import RecordStore
from numpy.typing import NDArray
from pydantic import ValidationError

from labctl.config_files import first_problem, parse_json
from labctl.devices import ConfigError, RunLogError
from labctl.procedures.recipe import KINDS, Protocol
from labctl.procedures.running import run
from labctl.procedures.watching import Watcher
from labctl.rig import Rig, RigConfig
from labctl.runlog import PanelReader, RunHeader, RunReader, software_versions
from labctl.version import source_commit


@dataclass(frozen=True)
class PanelMatch:
    """One panel of both files. steps: how many were compared. first_difference says where, "" for nowhere;
    largest is the largest difference found there and after, in the quantity's own unit.
    """

    name: str
    steps: int
    first_difference: str
    largest: float

    @property
    def equal(self) -> bool:
        """Whether every bit is the same."""
        return not self.first_difference


@dataclass(frozen=True)
class Replay:
    """A run made again. `changes`: what was not as it was (versions, commit, a rig in use)."""

    original: Path
    file: Path
    panels: tuple[PanelMatch, ...]
    changes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether the new file holds the same bits as far as the old one goes."""
        return all(panel.equal for panel in self.panels)


def replay(
    file: str | Path,
    *,
    out: str | Path = "runs",
    records: str | Path = "calibrations",
    watcher: Watcher | None = None,
) -> Replay:
    """Make a run again from protocol and rig as its file holds them, into a new file in `out`.

    An unfinished run is made whole; what the old file holds is compared. A run that worked by records needs
    those it names, in the folder `records`. Raises RunLogError for a file that is no whole header,
    ConfigError where its protocol or rig makes no sense to this version, CalibrationMissing where a record is
    not there.
    """
    with RunReader(file) as old:
        header, path = old.header, old.path
    ids = tuple(str(header.numerics.get("records", "")).split())
    protocol, config = _protocol(header, path), _rig(header, path)
    with Rig(config, RecordStore(records) if ids else None, ids) as rig:
        made = run(protocol, rig, out=out, watcher=watcher)
    with RunReader(path) as old, RunReader(made.file) as new:
        missing = [name for name in old.panels if name not in new.panels]
        if missing:
            raise RunLogError(f"{path}: panel {missing[0]!r} is not in the run that its protocol makes now")
        panels = tuple(_match(panel, new.panels[name]) for name, panel in old.panels.items())
    return Replay(path, made.file, panels, _changes(header))


def _protocol(header: RunHeader, path: Path) -> Protocol:
    where = f"{path}: protocol"
    values = parse_json(header.protocol.text, where)
    kind = str(values.get("kind", "sample"))
    if kind not in KINDS:
        raise ConfigError(f"{where}: kind = {kind!r}; allowed: {', '.join(KINDS)}")
    try:
        return Protocol(name=header.protocol.name, recipe=KINDS[kind](**values))
    except ValidationError as error:
        raise first_problem(error, where, KINDS[kind]) from None


def _rig(header: RunHeader, path: Path) -> RigConfig:
    where = f"{path}: rig"
    try:
        return RigConfig(**parse_json(header.rig.text, where))
    except ValidationError as error:
        raise first_problem(error, where, RigConfig) from None


def _changes(header: RunHeader) -> tuple[str, ...]:
    now = software_versions()
    found = [
        f"{name} was {then}, is {now.get(name, 'not there')}"
        for name, then in header.versions.items()
        if now.get(name) != then
    ]
    if header.git_commit != (commit := source_commit()):
        found.append(f"commit was {header.git_commit or 'not known'}, is {commit or 'not known'}")
    if (threads := int(header.numerics.get("torch_threads", 1))) != 1:
        found.append(f"threads were {threads}, is 1")
    if used_us := float(header.numerics.get("rig_used_us", 0.0)):
        found.append(f"the twin had been used for {used_us * 1e-6:.3g} s (a panel remembers), now it is new")
    return tuple(found)


def _match(old: PanelReader, new: PanelReader) -> PanelMatch:
    """Compare everything that a step keeps, in the order in which it came about."""
    first, largest = "", 0.0
    hashes = [panel.settings.get("program_sha256") for panel in (old, new)]
    if hashes[0] != hashes[1]:
        first = "the program"
    for where, then, now in _pairs(old, new):
        if then is None or now is None:
            if (then is None) != (now is None):
                first = first or where
            continue
        if not np.array_equal(then, now, equal_nan=then.dtype.kind == "f"):
            first = first or where
            both = np.isfinite(then) & np.isfinite(now)
            difference = np.abs(then.astype(np.float64) - now.astype(np.float64))[both]
            largest = max(largest, float(difference.max(initial=0.0)))
    return PanelMatch(old.name, old.n_steps, first, largest)


def _pairs(
    old: PanelReader, new: PanelReader
) -> Iterator[tuple[str, NDArray[np.generic] | None, NDArray[np.generic] | None]]:
    yield "the start noise", old.x_start, new.x_start
    for step in range(old.n_steps):
        for what in ("injection", "injection_codes", "state", "outcome", "x"):
            yield f"step {step + 1}, {what}", getattr(old, what)(step), getattr(new, what)(step)
        for what in ("step_norm", "residual_norm", "settle_time_us", "transient"):
            yield f"step {step + 1}, {what}", getattr(old, what)[step], getattr(new, what)[step]
    if old.finished:
        yield "the samples", old.samples, new.samples
        yield "the pictures", old.pictures, new.pictures
