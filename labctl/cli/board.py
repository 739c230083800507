"""What a run has done so far, added up from what its watcher is told."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from labctl.cli.session import session
from labctl.procedures import PanelResult, Part, SettleReport, Watcher


@dataclass
class PanelRow:
    """One chain: settles done, the worst p95 settle time so far, outcomes and modelled device time.

    `at_once`: the machine steps it by itself, so that all settles are reported when the last one is done.
    `word`: what the parts counted are called.
    """

    title: str
    samples: int
    of: int
    done: int = 0
    p95_us: float = math.nan
    outcomes: Counter[str] = field(default_factory=Counter)
    device_us: float = 0.0
    at_once: bool = False
    word: str = "settles"

    @property
    def paced(self) -> int:
        """Settles done, as far as they tell the pace: of a chain that arrives at once, all or none."""
        return self.done if not self.at_once or self.done == self.of else 0

    def add(self, report: SettleReport) -> None:
        """Count one settle in."""
        self.done = report.index + 1
        self.p95_us = float(np.fmax(self.p95_us, report.settle_p95_us))
        self.outcomes.update(report.outcomes)
        self.device_us += report.device_us


class Board(Watcher):
    """Keeps the score; a subclass shows it. Use as a context manager."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self.rows: dict[str, PanelRow] = {}
        self.current = ""

    def planned(self, parts: Sequence[Part], path: Path) -> None:
        """Note every part, and where the file is."""
        session().file = path
        self._began = self._now()
        self.rows = {
            part.name: PanelRow(
                part.title, part.n_samples, part.settles, at_once=part.at_once, word=part.word
            )
            for part in parts
        }
        self.current = parts[0].name

    def settled(self, report: SettleReport) -> None:
        """Count one settle in."""
        self.current = report.panel
        self.rows[report.panel].add(report)

    def panel_done(self, panel: PanelResult) -> None:
        """Move on to the next panel."""
        names = list(self.rows)
        after = names.index(panel.name) + 1
        self.current = names[after] if after < len(names) else ""

    @property
    def word(self) -> str:
        """What is counted: the panels' own word where they agree, else steps."""
        words = {row.word for row in self.rows.values()}
        return words.pop() if len(words) == 1 else "steps"

    @property
    def device_us(self) -> float:
        """Modelled device time so far."""
        return sum(row.device_us for row in self.rows.values())

    @property
    def seconds_left(self) -> float:
        """Host time still needed, from the pace so far; nan before anything tells it."""
        done = sum(row.paced * row.samples for row in self.rows.values())
        left = sum((row.of - row.paced) * row.samples for row in self.rows.values())
        return (self._now() - self._began) * left / done if done else math.nan
