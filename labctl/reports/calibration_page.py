"""A calibration as one self-contained page: what was measured, how well, and what changed since last time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
from labctl_calibration.procedure import Plot, Quantity
from labctl_calibration.session import Outcome
from labctl_calibration.staleness import in_words
from labctl_calibration.today import Ability
from matplotlib.figure import Figure

from labctl.devices import DataError
from labctl.reports import words
from labctl.reports.inlined import drawn, pages
from labctl.reports.sections import Picture
from labctl.reports.style import Theme, drawing

MANY = 200  # points: more are drawn without marks of their own uncertainty


@dataclass(frozen=True)
class Line:
    """One quantity on the page."""

    name: str
    value: str
    allowed: str
    change: str
    about: str
    accepted: bool


@dataclass(frozen=True)
class Part:
    """One procedure on the page."""

    title: str
    state: str
    state_style: str
    findings: tuple[str, ...]
    lines: tuple[Line, ...]
    pictures: tuple[Picture, ...]
    failed: str
    facts: str
    notices: str


def write_page(
    folder: Path,
    rig: str,
    operator: str,
    ended: str,
    outcomes: Sequence[Outcome],
    able: Sequence[Ability],
) -> Path:
    """Write index.html and its PNGs into a new folder. DataError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        parts = [_part(one, folder) for one in outcomes]
        page = folder / "index.html"
        text = (
            pages()
            .get_template("calibration.html.j2")
            .render(
                rig=rig,
                operator=operator,
                ended=ended,
                parts=parts,
                able=[(one.quantity.name, told(one.quantity), one.quantity.words) for one in able],
                measured=sum(one.measured is not None for one in outcomes),
            )
        )
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder}: the page cannot be written: {error.strerror or error}") from None
    return page


def told(quantity: Quantity) -> str:
    """Value, uncertainty and unit."""
    return words.uncertain(quantity.value, quantity.sd, quantity.unit)


def change_in_words(outcome: Outcome, quantity: Quantity) -> str:
    """Against the record before: the difference, and that in combined standard uncertainties."""
    if outcome.change is None:
        return "first" if outcome.measured is not None else ""
    found = next((one for one in outcome.change.changes if one.single and one.name == quantity.name), None)
    if found is None:
        return "new"
    difference = found.new - found.old
    if not np.isfinite(difference):
        return "–"
    sigmas = "" if np.isnan(found.sigmas) else f" ({found.sigmas:+.1f} σ)"
    return f"{difference:+.2g}{sigmas}"


def state_of(outcome: Outcome) -> tuple[str, str]:
    """In a word or two, and the style that goes with it."""
    if outcome.failed:
        return "not measured", "failed"
    if outcome.measured is None:
        if outcome.before.in_order:
            return "in use", "running"
        return ("not in order", "aborted") if outcome.stored is not None else ("missing", "aborted")
    return ("measured", "success") if outcome.accepted else ("out of range", "failed")


def plot_figure(plot: Plot, theme: Theme) -> Figure:
    """Points with their uncertainties, and the fit as a line."""
    with drawing(theme):
        figure = Figure(figsize=(4.0, 2.4))
        axes = figure.add_subplot()
        size = 4.0 if len(plot.x) <= MANY else 1.5
        if plot.sd is not None and len(plot.x) <= MANY:
            axes.errorbar(plot.x, plot.y, plot.sd, fmt="none", ecolor=theme.faint, elinewidth=0.7)
        axes.plot(plot.x, plot.y, "o", color=theme.accent, markersize=size, markeredgewidth=0)
        if plot.fit is not None:
            axes.plot(plot.x, plot.fit, color=theme.other, linewidth=1.0, zorder=0)
        axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
    return figure


def _part(outcome: Outcome, folder: Path) -> Part:
    state, style = state_of(outcome)
    stored, procedure = outcome.stored, outcome.procedure
    plots = () if outcome.measured is None else outcome.measured.plots
    pictures = tuple(
        drawn(
            f"{procedure.name}_{_file_name(plot.title)}",
            f"{plot.title}: {plot.y_label} against {plot.x_label}",
            partial(plot_figure, plot),
            folder,
        )
        for plot in plots
    )
    quantities = () if stored is None else stored.about.quantities
    facts = []
    if stored is not None:
        facts = [f"record {stored.name}", f"taken {stored.record.taken_at}", stored.record.device_serial]
        if stored.about.temperature_c is not None:
            facts.append(f"{stored.about.temperature_c:.1f} °C")
        if np.isfinite(stored.about.valid_s):
            facts.append(f"valid for {in_words(timedelta(seconds=stored.about.valid_s))}")
        facts += [f"override of {name}: {why}" for name, why in stored.about.overrides.items()]
    return Part(
        title=procedure.title,
        state=state,
        state_style=style,
        findings=() if stored is None else stored.about.findings,
        lines=tuple(
            Line(
                one.name, told(one), one.allowed, change_in_words(outcome, one), one.words, one.accepted
            )
            for one in quantities
        ),
        pictures=pictures,
        failed=outcome.failed or ("" if outcome.measured is not None else outcome.before.words),
        facts=", ".join(facts),
        notices=", ".join(procedure.notices),
    )  # fmt: skip


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
