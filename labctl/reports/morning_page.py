"""A morning's control charts as one self-contained page: what was read, the limits, what left them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from labctl_calibration.drift.charts import EWMA
from labctl_calibration.drift.morning import Morning
from matplotlib.figure import Figure

from labctl.devices import DataError
from labctl.reports.inlined import drawn, pages
from labctl.reports.sections import Picture
from labctl.reports.style import Theme, drawing


@dataclass(frozen=True)
class Line:
    """One group of series on the page."""

    name: str
    about: str
    farthest: str
    of_limit: str
    good: bool
    picture: Picture


def write_page(folder: Path, found: Morning) -> Path:
    """Write index.html and its PNGs into a new folder. DataError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page = folder / "index.html"
        text = (
            pages()
            .get_template("morning.html.j2")
            .render(
                rig=found.rig,
                green=found.green,
                learnt=found.learnt,
                at=f"{found.at:%Y-%m-%d %H:%M} UTC",
                since=found.baseline_at[:16].replace("T", " ") + " UTC",
                readings=len(found.history),
                charts=len(found.charts.baseline.names),
                device_s=found.device_s,
                diagnosis=found.diagnosis,
                cold=found.cold,
                lines=_lines(found, folder),
                wrong=[one.words for one in found.wrong]
                + [f"{one.kind}: {one.words}" for one in found.stale],
                remedies=[f"labctl calibrate {found.rig} --only {name}" for name in found.remedies],
            )
        )
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder}: the page cannot be written: {error.strerror or error}") from None
    return page


def _lines(found: Morning, folder: Path) -> list[Line]:
    over = found.charts.over.max(axis=0)
    lines = []
    for name in dict.fromkeys(group.name for group in found.baseline.groups):
        mine = [i for i, group in enumerate(found.baseline.groups) if group.name == name]
        worst = max(mine, key=lambda i: over[i])
        group = found.baseline.groups[worst]
        series = found.charts.baseline.names[worst]
        title = series if len(mine) == 1 else f"{series}, the farthest of {len(mine)}"
        lines.append(
            Line(
                name,
                group.words,
                series,
                f"{100 * over[worst]:.0f}%",
                bool(over[worst] <= 1),
                drawn(
                    re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"),
                    f"Control chart of {series}",
                    partial(chart_figure, found, worst, title),
                    folder,
                ),
            )
        )
    return lines


def chart_figure(found: Morning, index: int, title: str, theme: Theme) -> Figure:
    """Readings in sd from the baseline over the mornings, the EWMA, and its limits."""
    baseline = found.charts.baseline
    x = (found.history[:, index] - baseline.mean[index]) / baseline.sd[index]
    z = ewma(x)
    reach = found.charts.limits[0] * math.sqrt(EWMA.parameter / (2 - EWMA.parameter))
    days = np.arange(1, len(x) + 1)
    with drawing(theme):
        figure = Figure(figsize=(4.0, 2.2))
        axes = figure.add_subplot()
        axes.axhspan(-reach, reach, color=theme.faint, alpha=0.25, linewidth=0)
        axes.axhline(0.0, color=theme.faint, linewidth=0.7)
        axes.plot(days, x, "o", color=theme.other, markersize=3.5, markeredgewidth=0, label="reading")
        axes.plot(days, z, color=theme.accent, linewidth=1.2, marker=".", markersize=4, label="EWMA")
        top = max(1.25 * reach, 1.1 * float(np.abs(np.concatenate([x, z])).max()))
        axes.set(
            title=title, ylabel="sd from usual", ylim=(-top, top), xlim=(0.5, max(len(x), 7) + 0.5),
        )  # fmt: skip
        axes.set_xlabel("number of the reading", loc="left")
        axes.legend(ncols=2, loc="upper right", bbox_to_anchor=(1, -0.14), borderaxespad=0)
    return figure


def ewma(x: np.ndarray) -> np.ndarray:
    """As `Charts` forms it."""
    z, out = 0.0, []
    for value in x:
        z = (1 - EWMA.parameter) * z + EWMA.parameter * float(value)
        out.append(z)
    return np.array(out)
