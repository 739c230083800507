"""The interlocks of a rig, looked at while a run goes on: wherever it tells its watcher something."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labctl.procedures.parts import Part
from labctl.procedures.watching import PanelResult, SettleReport, Watcher
from labctl.rig.interlocks import Interlocks
from labctl.runlog import DriftRecord

DURING = "during the run"


class Interlocked(Watcher):
    """Tells `inner`, and looks at the interlocks: InterlockTripped ends the run, and leaves the rig safe."""

    def __init__(self, inner: Watcher, interlocks: Interlocks) -> None:
        self._inner, self._interlocks = inner, interlocks

    def training(self, what: str, done: int, total: int) -> None:
        """Passed on; nothing is lit meanwhile."""
        self._inner.training(what, done, total)

    def preparing(self, what: str, done: int, total: int) -> None:
        """Passed on after a look."""
        self._interlocks.check_now_and_then(DURING)
        self._inner.preparing(what, done, total)

    def computing(self, what: str, done: int, total: int) -> None:
        """Passed on; nothing is lit meanwhile."""
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
        """Passed on before a look: the step is in the file."""
        self._inner.settled(report)
        self._interlocks.check_now_and_then(DURING)

    def panel_done(self, panel: PanelResult) -> None:
        """Passed on before a look."""
        self._inner.panel_done(panel)
        self._interlocks.check_now_and_then(DURING)

    def drifted(self, event: DriftRecord) -> None:
        """Passed on."""
        self._inner.drifted(event)
