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

    The wait is marked, the 95th percentile of every step ticked, and a second scale on top counts tau.
    """
    times = np.atleast_2d(np.asarray(times_us, dtype=np.float64))
    names = names or [str(step + 1) for step in range(len(times))]
    with drawing(theme):
        if len(times) > _RIDGES_UP_TO:
            return _settle_lines(times, wait_us, theme)
        figure = Figure(figsize=(5.6, 0.9 + 0.5 * len(times)))
        axes = figure.add_subplot()
        finite = times[np.isfinite(times)]
        slowest = float(finite.max()) if finite.size else 1.0
        right = 1.05 * max(slowest if wait_us is None else min(slowest, 2 * wait_us), wait_us or 0.0)
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


def norms_figure(step_norm: ArrayLike, residual_norm: ArrayLike, *, theme: Theme = LIGHT) -> Figure:
    """Step norm and residual norm [K, B] against the step: median, and the band from 5 to 95%."""
    with drawing(theme):
        figure = Figure(figsize=(5.6, 2.7))
        axes = figure.add_subplot()
        for values, colour, name in (
            (residual_norm, theme.accent, "residual  |F(z) − z|"),
            (step_norm, theme.other, "last change of the state"),
        ):
            _band(axes, np.atleast_2d(np.asarray(values, dtype=np.float64)), colour, name)
        axes.set_yscale("log")
        axes.set(xlabel="step", ylabel="network units")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=theme.rule, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.17), borderaxespad=0)
    return figure


def scan_figure(
    table: Mapping[str, FloatArray],
    axis: str,
    signal: str,
    *,
    units: Mapping[str, str] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Every column of a scan against the scanned one; the signal first."""
    units = units or {}
    columns = [signal, *(name for name in table if name not in (axis, signal))]
    columns = [name for name in columns if np.isfinite(table[name]).any()][:6] or [signal]
    across = min(2, len(columns))
    down = -(-len(columns) // across)
    with drawing(theme):
        figure = Figure(figsize=(3.4 * across, 2.35 * down))
        for index, name in enumerate(columns):
            axes = figure.add_subplot(down, across, index + 1)
            order = np.argsort(table[axis], kind="stable")
            axes.plot(
                table[axis][order],
                table[name][order],
                marker="o",
                markersize=4,
                linewidth=1.3,
                color=theme.accent if name == signal else theme.other,
            )
            axes.set_title(_with_unit(name, units))
            axes.set_xlabel(_with_unit(axis, units))
            if np.array_equal(table[axis], np.rint(table[axis])):
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(color=theme.rule, linewidth=0.5)
            axes.set_axisbelow(True)
    return figure


def _ridge(axes: Axes, row: FloatArray, base: int, edges: FloatArray, theme: Theme) -> None:
    finite = row[np.isfinite(row)]
    axes.axhline(base, color=theme.rule, linewidth=0.6, zorder=1)
    if not finite.size:
        return
    counts = np.histogram(np.clip(finite, edges[0], edges[-1]), bins=edges)[0]
    heights = counts / counts.max() * 0.78
    axes.stairs(base + heights, edges, baseline=base, fill=True, color=theme.accent, alpha=0.5, zorder=2)
    statistics = settle_statistics(row)
    if np.isfinite(statistics.p95_us):
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
    if statistics.unsettled_share:
        axes.annotate(
            f"{statistics.unsettled_share:.1%}\nunsettled",
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


def _with_unit(name: str, units: Mapping[str, str]) -> str:
    unit = units.get(name, "").replace("us", "µs")
    return f"{name} ({unit})" if unit else name
