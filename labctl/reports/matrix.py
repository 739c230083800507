"""The weight matrix as placed on the machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from labctl.reports.style import LIGHT, Theme, drawing
from labctl.runlog import LayerSlice


def placed_matrix_figure(
    values: ArrayLike,
    layers: Sequence[LayerSlice] = (),
    *,
    mask: NDArray[np.bool_] | None = None,
    bits: int | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Codes (or weights) [n, n], row = output, column = input, with the blocks of the layers outlined.

    Structural zeros (mask False) are left grey, so that a stored 0 and an empty place differ. `bits` makes
    the scale one of whole codes. Layers are in cyclic order: block i maps layer i-1 to layer i.
    """
    matrix = np.asarray(values, dtype=np.float64)
    size = matrix.shape[0]
    if mask is None:
        mask = _mask_of(layers, size)
    top = float(2 ** (bits - 1) - 1) if bits and bits > 1 else float(np.abs(matrix).max()) or 1.0
    empty = "#dfe3e7" if theme.name == "light" else "#262b31"
    with drawing(theme):
        figure = Figure(figsize=(4.9, 4.3))
        axes = figure.add_subplot()
        axes.set_facecolor(empty)
        image = axes.imshow(
            np.where(mask, matrix, np.nan),
            cmap=theme.diverging(),
            vmin=-top,
            vmax=top,
            interpolation="nearest",
        )
        for out, into in _blocks(layers):
            axes.add_patch(
                Rectangle(
                    (into.start - 0.5, out.start - 0.5),
                    into.stop - into.start,
                    out.stop - out.start,
                    fill=False,
                    edgecolor=theme.ink,
                    linewidth=1.0,
                    clip_on=False,
                    zorder=3,
                )
            )
        if layers:
            middles = [(layer.start + layer.stop - 1) / 2 for layer in layers]
            names = [f"{layer.name}\n{layer.stop - layer.start}" for layer in layers]
            axes.set_xticks(middles, names)
            axes.set_yticks(middles, [name.replace("\n", "  ") for name in names])
            axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set(xlabel="input channel (layer, size)", ylabel="output channel (layer, size)")
        bar = figure.colorbar(image, ax=axes, shrink=0.82, pad=0.03, aspect=28)
        bar.outline.set_visible(False)
        bar.set_label("weight code" if bits else "weight, network units")
        if bits and 1 < bits <= 5:
            bar.set_ticks([-top, -round(top / 2), 0, round(top / 2), top])
    return figure


def _blocks(layers: Sequence[LayerSlice]) -> list[tuple[LayerSlice, LayerSlice]]:
    """(output, input) layers of every block, the last one closing the cycle."""
    return list(zip(layers, (layers[-1], *layers[:-1]), strict=True)) if layers else []


def _mask_of(layers: Sequence[LayerSlice], size: int) -> NDArray[np.bool_]:
    if not layers:
        return np.ones((size, size), dtype=np.bool_)
    mask = np.zeros((size, size), dtype=np.bool_)
    for out, into in _blocks(layers):
        mask[out.start : out.stop, into.start : into.stop] = True
    return mask
