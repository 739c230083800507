"""The interlocks of a rig, looked at while a run goes on: wherever it tells its watcher something."""

from __future__ import annotations

from labctl.procedures.watching import PanelResult, Relay, SettleReport, Watcher
from labctl.rig.interlocks import Interlocks

DURING = "during the run"


class Interlocked(Relay):
    """Tells `inner`, and looks at the interlocks: InterlockTripped ends the run, and leaves the rig safe."""

    def __init__(self, inner: Watcher, interlocks: Interlocks) -> None:
        super().__init__(inner)
        self._interlocks = interlocks

    def preparing(self, what: str, done: int, total: int) -> None:
        """Passed on after a look."""
        self._interlocks.check_now_and_then(DURING)
        self._inner.preparing(what, done, total)

    def settled(self, report: SettleReport) -> None:
        """Passed on before a look: the step is in the file."""
        self._inner.settled(report)
        self._interlocks.check_now_and_then(DURING)

    def panel_done(self, panel: PanelResult) -> None:
        """Passed on before a look."""
        self._inner.panel_done(panel)
        self._interlocks.check_now_and_then(DURING)
