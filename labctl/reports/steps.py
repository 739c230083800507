"""Pictures of what happened step by step: settling, residuals, scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from labctl.reports.statistics import percentile, settle_statistics
from labctl.reports.style import LIGHT, Theme, drawing
from labctl.reports.words import share

FloatArray = NDArray[np.float64]

_RIDGES_UP_TO = 12


def settle_figure(
    times_us: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    wait_us: float | None = None,
    tau_us: float | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Settle times [K, A] in us, one histogram a step above the other; NaN is an unsettled sample.

    The wait is marked, the 95th percentile of every step ticked, and a second scale on top counts tau. Times
    beyond the frame, and unsettled samples, are counted at the right margin.
    """
    times = np.atleast_2d(np.asarray(times_us, dtype=np.float64))
    names = names or [str(step + 1) for step in range(len(times))]
    with drawing(theme):
        if len(times) > _RIDGES_UP_TO:
            return _settle_lines(times, wait_us, theme)
        figure = Figure(figsize=(5.6, 0.9 + 0.5 * len(times)))
        axes = figure.add_subplot()
        finite = times[np.isfinite(times)]
        # A few stragglers would squeeze everything else: they are counted at the margin instead.
        right = 1.15 * max(float(np.percentile(finite, 98)) if finite.size else 1.0, wait_us or 0.0)
        edges = np.linspace(0, right, int(np.clip(4 * times.shape[1] ** 0.5, 24, 80)) + 1)
        for place, row in enumerate(times):
            base = len(times) - 1 - place
            _ridge(axes, row, base, edges, theme)
        axes.set_yticks(range(len(times)), list(reversed(list(names))))
        axes.set(xlim=(0, right), ylim=(-0.12, len(times) - 0.02), xlabel="settle time (µs)", ylabel="step")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        if wait_us is not None:
            _mark_wait(axes, wait_us, theme)
        if tau_us:
            above = axes.secondary_xaxis("top", functions=_scaling(tau_us))
            above.set_xlabel("in units of the time constant τ", color=theme.faint)
            above.tick_params(labelcolor=theme.faint)
            above.spines["top"].set_visible(False)
    return figure


def norms_figure(
    step_norm: ArrayLike, residual_norm: ArrayLike, *, at_rest: bool = False, theme: Theme = LIGHT
) -> Figure:
    """Step norm and residual norm [K, B] against the step: median, and the band from 5 to 95%.

    at_rest: the residual is that of oscillators, root mean square of dtheta/dt.
    """
    with drawing(theme):
        figure = Figure(figsize=(5.6, 2.7))
        axes = figure.add_subplot()
        for values, colour, name in (
            (residual_norm, theme.accent, "left of motion  rms dθ/dt" if at_rest else "residual  |F(z) − z|"),
            (step_norm, theme.other, "last change of the state"),
        ):
            _band(axes, np.atleast_2d(np.asarray(values, dtype=np.float64)), colour, name)
        axes.set_yscale("log")
        _over_steps(axes, "rad per unit of time" if at_rest else "network units", theme)
    return figure


def holding_figure(locking_load: ArrayLike, slowest_rate: ArrayLike, *, theme: Theme = LIGHT) -> Figure:
    """How safely anchors hold oscillators at rest [K, B] against the step: median, band from 5 to 95%.

    Below the line at 1 the locking bound holds; above 0 the smallest eigenvalue says that states near rest
    approach it.
    """
    with drawing(theme):
        figure = Figure(figsize=(5.6, 2.7))
        axes = figure.add_subplot()
        for values, colour, name in (
            (locking_load, theme.accent, "locking load"),
            (slowest_rate, theme.other, "smallest eigenvalue"),
        ):
            _band(axes, np.atleast_2d(np.asarray(values, dtype=np.float64)), colour, name)
        axes.axhline(1.0, color=theme.warning, linewidth=1, linestyle=(0, (4, 2)))
        axes.axhline(0.0, color=theme.ink, linewidth=0.6)
        _over_steps(axes, "share; 1 / unit of time", theme)
    return figure


def _over_steps(axes: Axes, quantity: str, theme: Theme) -> None:
    """Whole steps along, a legend above."""
    axes.set(xlabel="step", ylabel=quantity)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=theme.rule, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.17), borderaxespad=0)


def scan_figure(
    table: Mapping[str, FloatArray],
    axis: str,
    signal: str,
    *,
    units: Mapping[str, str] | None = None,
    series: Mapping[str, tuple[str, str]] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Every quantity of a scan against the scanned column; the signal's first, six at most.

    `series` gives a column's quantity and label; columns of one quantity share an axes and get a legend.
    """
    units, series = units or {}, series or {}
    quantities = _quantities(table, axis, signal, series)
    across = min(2, len(quantities))
    down = -(-len(quantities) // across)
    order = np.argsort(table[axis], kind="stable")
    with drawing(theme):
        figure = Figure(figsize=(3.4 * across, 2.35 * down))
        for index, (quantity, columns) in enumerate(quantities.items()):
            axes = figure.add_subplot(down, across, index + 1)
            for place, name in enumerate(columns):
                colour = theme.accent if index == 0 else theme.other
                axes.plot(
                    table[axis][order],
                    table[name][order],
                    marker="o",
                    markersize=4,
                    linewidth=1.3,
                    color=colour if len(columns) == 1 else theme.classes[place % len(theme.classes)],
                    label=series.get(name, ("", ""))[1] or name,
                )
            axes.set_title(_with_unit(quantity, units.get(columns[0], "")))
            axes.set_xlabel(_with_unit(axis, units.get(axis, "")))
            if np.array_equal(table[axis], np.rint(table[axis])):
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(color=theme.rule, linewidth=0.5)
            axes.set_axisbelow(True)
            if index == 0 and len(columns) > 1:
                axes.legend()
    return figure


def _quantities(
    table: Mapping[str, FloatArray], axis: str, signal: str, series: Mapping[str, tuple[str, str]]
) -> dict[str, list[str]]:
    """Columns with any number in them, by quantity; the signal's quantity first."""
    first = series.get(signal, (signal, ""))[0]
    found: dict[str, list[str]] = {first: []}
    for name, values in table.items():
        if name != axis and (np.isfinite(values).any() or name == signal):
            found.setdefault(series.get(name, (name, ""))[0], []).append(name)
    return dict(list(found.items())[:6])


def _ridge(axes: Axes, row: FloatArray, base: int, edges: FloatArray, theme: Theme) -> None:
    finite = row[np.isfinite(row)]
    axes.axhline(base, color=theme.rule, linewidth=0.6, zorder=1)
    if not finite.size:
        return
    counts = np.histogram(finite, bins=edges)[0]
    heights = counts / max(counts.max(), 1) * 0.78
    axes.stairs(base + heights, edges, baseline=base, fill=True, color=theme.accent, alpha=0.5, zorder=2)
    statistics = settle_statistics(row)
    if statistics.p95_us <= edges[-1]:
        p95 = statistics.p95_us
        axes.plot([p95, p95], [base, base + 0.5], color=theme.ink, linewidth=1.1, zorder=5)
        axes.annotate(
            f"95%: {p95:.1f}",
            (p95, base + 0.3),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=7,
            bbox={"facecolor": theme.paper, "edgecolor": "none", "pad": 0.6},
            zorder=5,
        )
    later = int((finite > edges[-1]).sum())
    notes = [f"{later} slower"] if later else []
    if statistics.unsettled_share:
        notes.append(f"{share(statistics.unsettled_share)} unsettled")
    if notes:
        axes.annotate(
            "\n".join(notes),
            (1, base + 0.08),
            xytext=(3, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=7,
            color=theme.warning,
        )


def _scaling(unit: float) -> tuple[Callable[[ArrayLike], ArrayLike], Callable[[ArrayLike], ArrayLike]]:
    """Functions to and from multiples of a unit, for a second axis."""
    return (lambda value: np.asarray(value) / unit, lambda value: np.asarray(value) * unit)


def _settle_lines(times: FloatArray, wait_us: float | None, theme: Theme) -> Figure:
    """Many steps: percentiles against the step instead of one histogram each."""
    figure = Figure(figsize=(5.6, 2.9))
    axes = figure.add_subplot()
    steps = np.arange(1, len(times) + 1)
    rows = [settle_statistics(row) for row in times]
    for values, width, name in (
        ([row.p50_us for row in rows], 1.1, "median"),
        ([row.p95_us for row in rows], 1.8, "95%"),
        ([row.p99_us for row in rows], 0.8, "99%"),
    ):
        axes.plot(steps, values, color=theme.accent, linewidth=width, label=name)
    if wait_us is not None:
        axes.axhline(wait_us, color=theme.warning, linewidth=1, linestyle=(0, (4, 2)), label="wait")
    axes.set(xlabel="step", ylabel="settle time (µs)", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(ncols=4, loc="upper right", bbox_to_anchor=(1, 1.15), borderaxespad=0)
    return figure


def _mark_wait(axes: Axes, wait_us: float, theme: Theme) -> None:
    axes.axvline(wait_us, color=theme.warning, linewidth=1.0, linestyle=(0, (4, 2)), zorder=4)
    axes.annotate(
        f"wait {wait_us:g} µs",
        (wait_us, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4, -2),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=7.5,
        color=theme.warning,
    )


def _band(axes: Axes, values: FloatArray, colour: str, name: str) -> None:
    levels = [[percentile(row, q) for row in values] for q in (5, 50, 95)]
    steps = np.arange(1, len(values) + 1)
    if not np.isfinite(levels[1]).any():
        return
    axes.fill_between(steps, levels[0], levels[2], color=colour, alpha=0.2, linewidth=0)
    axes.plot(steps, levels[1], color=colour, marker="o", markersize=3.5, linewidth=1.4, label=name)


def _with_unit(name: str, unit: str) -> str:
    words = name.removesuffix(f"_{unit.lower()}") if unit else name
    words = words.replace("_", " ")
    return f"{words} ({unit.replace('us', 'µs')})" if unit else words
