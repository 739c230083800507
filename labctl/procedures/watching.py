"""What a run tells whoever watches, and what it makes of a panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Outcome, Scalar
from labctl.runlog import DriftRecord

if TYPE_CHECKING:
    from labctl.procedures.parts import Part

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SettleReport:
    """One settle (or a segment), for whoever watches: counts by outcome, settle times of the audit share.

    sigma is nan where the program has no noise levels. settle_p95_us counts a sample that had not settled
    after 80 tau as infinite; nan where none was audited.
    """

    panel: str
    index: int
    of: int
    kind: str
    sigma: float
    samples: int
    outcomes: dict[str, int]
    settle_p95_us: float
    unsettled_share: float
    device_us: float
    host_s: float


def counted(outcome: NDArray[np.uint8]) -> dict[str, int]:
    """How often each outcome there was, by name: of outcomes [B] as an engine gives them."""
    counts = np.bincount(outcome, minlength=len(Outcome))
    return {Outcome(i).name: int(count) for i, count in enumerate(counts) if count}


class Watcher:
    """Told what happens; override what you want to see. Watching never changes a run."""

    def training(self, what: str, done: int, total: int) -> None:
        """A network is being trained or re-fitted."""

    def preparing(self, what: str, done: int, total: int) -> None:
        """Something before the first settle is being done: `what`, the `done`-th of `total`."""

    def computing(self, what: str, done: int, total: int) -> None:
        """Something is being worked out on the host: `what`, the `done`-th of `total`."""

    def foreseen(self, words: str) -> None:
        """What quality to expect of the run, or why nobody can tell."""

    def expecting(self, device_us: float) -> None:
        """Every iterate is an exposure: what the bench is expected to take, told before the first settle."""

    def planned(self, parts: Sequence[Part], path: Path) -> None:
        """All parts are compiled and the file is open; `path` is the name it will have when whole."""

    def settled(self, report: SettleReport) -> None:
        """One settle of one panel is done and safe in the file."""

    def panel_done(self, panel: PanelResult) -> None:
        """One panel is done."""

    def drifted(self, event: DriftRecord) -> None:
        """The watch on drift saw something, and did about it what its policy says."""


@dataclass(frozen=True, eq=False)
class PanelResult:
    """One panel's result: samples [B, d] in own units, metrics, reports of every settle, pictures or None."""

    name: str
    samples: FloatArray
    metrics: dict[str, Scalar]
    settles: tuple[SettleReport, ...]
    pictures: NDArray[np.uint8] | None = None


class Relay(Watcher):
    """Passes everything on to `inner`; override where more is to be done than that."""

    def __init__(self, inner: Watcher) -> None:
        self._inner = inner

    def training(self, what: str, done: int, total: int) -> None:
        """Passed on."""
        self._inner.training(what, done, total)

    def preparing(self, what: str, done: int, total: int) -> None:
        """Passed on."""
        self._inner.preparing(what, done, total)

    def computing(self, what: str, done: int, total: int) -> None:
        """Passed on."""
        self._inner.computing(what, done, total)

    def foreseen(self, words: str) -> None:
        """Passed on."""
        self._inner.foreseen(words)

    def expecting(self, device_us: float) -> None:
        """Passed on."""
        self._inner.expecting(device_us)

    def planned(self, parts: Sequence[Part], path: Path) -> None:
        """Passed on."""
        self._inner.planned(parts, path)

    def settled(self, report: SettleReport) -> None:
        """Passed on."""
        self._inner.settled(report)

    def panel_done(self, panel: PanelResult) -> None:
        """Passed on."""
        self._inner.panel_done(panel)

    def drifted(self, event: DriftRecord) -> None:
        """Passed on."""
        self._inner.drifted(event)
