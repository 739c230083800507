"""What else makes such pictures, beside what a run made: its figures in words, and a few pictures of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labctl.reports.samples import picture_sheet
from labctl.reports.style import LIGHT, Theme, bare, drawing
from labctl.runlog import ControlRecord

NO_CONTROLS = (
    "no controls stand beside: none are shipped that the same nets have judged; training recipes as "
    "digits8_controls make such"
)
_COLUMNS, _ROWS = 10, 2


def controls_in_words(controls: Sequence[ControlRecord]) -> str:
    """What the controls' figures are of, in a sentence or two."""
    judged = {int(one.figures["judged_pictures"]) for one in controls}
    counts = " or ".join(f"{count:,}" for count in sorted(judged))
    models = " or ".join(sorted({str(one.figures.get("trained_as", "this model")) for one in controls}))
    return (
        f"controls: in floats, without a board, measured when they were made over {counts} pictures; trained "
        f"ones with the objective, data and number of steps of {models}"
    )


def controls_figure(
    made: NDArray[np.uint8], controls: Sequence[ControlRecord], *, theme: Theme = LIGHT
) -> Figure:
    """Rows of pictures [P, height, width]: of the run, then of each control, named above with its FD*."""
    groups = [("this run", made), *((_named(one), one.pictures) for one in controls)]
    across = 2
    down = -(-len(groups) // across)
    with drawing(theme):
        figure = Figure(figsize=(3.9 * across, 1.15 * down + 0.1), layout="compressed")
        for place, (title, pictures) in enumerate(groups):
            axes = figure.add_subplot(down, across, place + 1)
            axes.imshow(
                picture_sheet(pictures, None, _ROWS, _COLUMNS)[0],
                cmap="gray_r" if theme.name == "light" else "gray",
                interpolation="nearest",
                vmin=0,
                vmax=255,
            )
            bare(axes)
            axes.set_title(title, pad=5)
    return figure


def _named(control: ControlRecord) -> str:
    return f"{control.what}: FD* {float(control.figures['frechet_star']):.3f}"
