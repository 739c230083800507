"""What a run asks of each of its parts, whatever the machine's law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

from labctl.procedures.watching import PanelResult, Watcher
from labctl.rig import Rig
from labctl.runlog import PanelPlan, PanelWriter


class Part(Protocol):
    """One panel of a run, compiled: a chain of diffusion steps, or a program of an oscillator board.

    row and series are its place in a scan. settles: reports that a run of it gives, and `word` what they are
    of ("settles", "segments"); at_once: all of them in the end. n_classes is 0 and class_names empty where
    its samples have none. card: of what it runs.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def row(self) -> float | None: ...
    @property
    def series(self) -> str: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def d(self) -> int: ...
    @property
    def settles(self) -> int: ...
    @property
    def word(self) -> str: ...
    @property
    def at_once(self) -> bool: ...
    @property
    def n_classes(self) -> int: ...
    @property
    def class_names(self) -> Sequence[str]: ...
    @property
    def card(self) -> dict[str, Any]: ...

    def ready(self, rig: Rig) -> Self:
        """The same after what has to be measured on the rig before the first step; raises what forbids it."""
        ...

    def expected_us(self, rig: Rig) -> float:
        """Modelled device time of the whole batch, after `ready`."""
        ...

    def panel(self, rig: Rig) -> PanelPlan:
        """Its place in the run file."""
        ...

    def run(self, rig: Rig, log: PanelWriter, watcher: Watcher) -> PanelResult:
        """Make the samples, step by step into the file; tells the watcher of each."""
        ...
