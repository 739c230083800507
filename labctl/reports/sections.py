"""What the page shows of one panel, apart from what frames it."""

from __future__ import annotations

from dataclasses import dataclass, field

from labctl.devices import Outcome
from labctl.reports.classes import ClassRow, class_rows
from labctl.reports.meanings import Said, said
from labctl.reports.statistics import (
    LedgerTotals,
    StepStatistics,
    ledger_totals,
    outcome_totals,
    step_statistics,
)
from labctl.runlog import ControlRecord, OscillatorRecord, PanelReader, ProgramRecord, RunHeader


@dataclass(frozen=True)
class Picture:
    """One picture in both themes, ready for the page."""

    name: str
    alt: str
    light: str
    dark: str
    width: int


@dataclass
class Section:
    """What the page shows of one panel."""

    name: str
    title: str
    panel: PanelReader
    steps: tuple[StepStatistics, ...]
    totals: dict[Outcome, int]
    ledger: LedgerTotals
    program: ProgramRecord | OscillatorRecord | None
    said: list[Said]
    classes: list[ClassRow]
    controls: tuple[ControlRecord, ...] = ()
    pictures: dict[str, Picture] = field(default_factory=dict)

    @property
    def of_oscillators(self) -> bool:
        """Whether an oscillator board played it."""
        return isinstance(self.program, OscillatorRecord)

    @property
    def settles(self) -> bool:
        """Whether settle times were measured in any step."""
        return any(step.settle for step in self.steps)


def section_of(panel: PanelReader, header: RunHeader) -> Section:
    """All but the pictures."""
    steps = step_statistics(panel)
    return Section(
        name=panel.name,
        title=panel.title if panel.name else header.title,
        panel=panel,
        steps=steps,
        totals=outcome_totals(steps),
        ledger=ledger_totals(panel.ledger, panel.n_samples),
        program=panel.program,
        said=said(panel.metrics, panel.settings, header, forecast=panel.forecast),
        classes=class_rows(panel, header.class_names),
        controls=panel.controls,
    )
