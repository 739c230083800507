"""What runs a folder holds."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from labctl.devices import RunLogError
from labctl.runlog.reader import RunReader
from labctl.runlog.writer import PART, SUFFIX, part_of


@dataclass(frozen=True)
class RunSummary:
    """One line of a list of runs. `problem` says why a file could not be read; the rest is then empty."""

    path: Path
    title: str = ""
    protocol: str = ""
    rig: str = ""
    simulated: bool = True
    seed: int | None = None
    start_time: str = ""
    end_time: str | None = None
    status: str = "unreadable"
    n_samples: int = 0
    steps_done: int = 0
    steps_planned: int = 0
    problem: str | None = None


def summarise(path: str | os.PathLike[str]) -> RunSummary:
    """The summary of one file; RunLogError where it is not a readable run."""
    with RunReader(path) as run:
        header = run.header
        return RunSummary(
            path=run.path,
            title=header.title,
            protocol=header.protocol.name,
            rig=header.rig.name,
            simulated=header.simulated,
            seed=header.seed,
            start_time=header.start_time,
            end_time=run.end_time,
            status=run.status,
            n_samples=header.n_samples,
            steps_done=sum(panel.n_steps for panel in run.panels.values()),
            steps_planned=sum(panel.n_steps_planned for panel in run.panels.values()),
        )


def list_runs(folder: str | os.PathLike[str]) -> tuple[RunSummary, ...]:
    """Every run below a folder, oldest first; files that cannot be read come last, with the problem."""
    root = Path(folder)
    if not root.is_dir():
        raise RunLogError(f"{root}: no such folder")
    found = []
    for path in sorted([*root.rglob(f"*{SUFFIX}"), *root.rglob(f"*{SUFFIX}{PART}")]):
        try:
            found.append(summarise(path))
        except RunLogError as error:
            found.append(RunSummary(path, problem=str(error)))
    return tuple(sorted(found, key=lambda run: (run.problem is not None, run.start_time, str(run.path))))


def fresh_path(folder: str | os.PathLike[str], stem: str, suffix: str = SUFFIX) -> Path:
    """A path for a new run (or another file): stem, local time, and a number where that name is taken."""
    clean = re.sub(r"[^\w.+-]+", "_", stem).strip("_") or "run"
    base = f"{clean}_{datetime.now():%Y%m%d-%H%M%S}"
    path = Path(folder) / f"{base}{suffix}"
    number = 2
    while path.exists() or part_of(path).exists():
        path = Path(folder) / f"{base}_{number}{suffix}"
        number += 1
    return path
