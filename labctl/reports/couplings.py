"""The couplings of an oscillator program, segment by segment."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labctl.reports.style import LIGHT, Theme, drawing
from labctl.runlog import OscillatorRecord

SEGMENTS_DRAWN = 4  # segments; more would be too small to see
_WIDTH_IN = 2.4


def couplings_figure(record: OscillatorRecord, theme: Theme = LIGHT) -> Figure:
    """One field for each of the first segments: a line for every coupling that is not zero, at their sites.

    The half of a line that is next to an oscillator is what that one hears from the other, coloured by its
    code; oscillators that are read are dots. Sites on a circle where the topology has none.
    """
    sites = _places(record)
    shown = min(len(record.coupling_codes), SEGMENTS_DRAWN)
    top = float(max(1, 2 ** (record.bits - 1) - 1))
    near = sites[record.target]
    halves = np.stack([near, (near + sites[record.source]) / 2], axis=1)[:, :, ::-1]
    few = len(sites) <= 150
    with drawing(theme):
        figure = Figure(figsize=(_WIDTH_IN * shown + 0.8, _WIDTH_IN + 0.4))
        fields = figure.subplots(1, shown, squeeze=False)[0]
        for k, axes in enumerate(fields):
            codes = np.asarray(record.coupling_codes[k], np.float64)
            order = np.argsort(np.abs(codes))  # the strongest on top
            order = order[codes[order] != 0]
            lines = LineCollection(
                list(halves[order]), cmap=theme.diverging(), linewidths=1.6 if few else 0.6, rasterized=True
            )
            lines.set_array(codes[order])
            lines.set_clim(-top, top)
            axes.add_collection(lines)
            seen = sites[record.visible]
            axes.scatter(seen[:, 1], seen[:, 0], s=7 if few else 1, color=theme.ink, linewidths=0, zorder=3)
            axes.set_xlim(sites[:, 1].min() - 0.6, sites[:, 1].max() + 0.6)
            axes.set_ylim(sites[:, 0].max() + 0.6, sites[:, 0].min() - 0.6)
            axes.set_aspect("equal")
            axes.set_axis_off()
            axes.set_title(f"segment {k + 1}")
        bar = figure.colorbar(lines, ax=list(fields), shrink=0.8, pad=0.02, aspect=24)
        bar.outline.set_visible(False)
        bar.set_label("coupling code")
    return figure


def _places(record: OscillatorRecord) -> NDArray[np.float64]:
    if record.sites is not None:
        return np.asarray(record.sites, np.float64)
    n = record.in_phase_codes.shape[1]
    angle = 2 * np.pi * np.arange(n) / n
    return np.asarray(n / 6 * np.stack([np.sin(angle), np.cos(angle)], axis=1))
