"""The pictures of README and docs, from the run file of a `labctl demo`: python docs/make_pictures.py RUN_FILE."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labctl.reports import LIGHT, placed_matrix_figure, settle_figure, to_png
from labctl.reports.style import bare, drawing
from labctl.runlog import PanelReader, RunReader

IMG = Path(__file__).parent / "img"
POINTS = 2000  # of each cloud, data and samples alike
GRID_ROWS = 4  # of pictures, one column a class


def demo_figure(panels: list[PanelReader]) -> Figure:
    """Data above, samples below: a column for each two-dimensional set, then the garments."""
    clouds = [p for p in panels if p.pictures is None and p.reference is not None and p.d == 2]
    garments = [p for p in panels if p.pictures is not None and p.reference_pictures is not None]
    widths = [1.0] * len(clouds) + [10 / GRID_ROWS] * len(garments)
    with drawing(LIGHT):
        figure = Figure(figsize=(1.55 * sum(widths) + 0.3, 3.45), layout="constrained")
        grid = figure.subplots(2, len(widths), squeeze=False, width_ratios=widths)
        for column, panel in enumerate(clouds):
            _clouds(panel, grid[0, column], grid[1, column])
        for column, panel in enumerate(garments, start=len(clouds)):
            _pictures(panel, grid[0, column], grid[1, column])
        for axes, word in zip(grid[:, 0], ("data", "simulated machine"), strict=True):
            axes.set_ylabel(word, color=LIGHT.faint)
    return figure


def _clouds(panel: PanelReader, above: Axes, below: Axes) -> None:
    data, samples = panel.reference, panel.samples
    if data is None or samples is None:
        raise SystemExit(f"panel {panel.name}: no samples")
    low, high = np.percentile(data, [0.1, 99.9], axis=0)
    middle, half = (low + high) / 2, 0.58 * float((high - low).max())
    for axes, points, colour in ((above, data, LIGHT.other), (below, samples, LIGHT.accent)):
        shown = points[:POINTS]
        axes.scatter(shown[:, 0], shown[:, 1], s=1.4, c=colour, linewidths=0, alpha=0.8, rasterized=True)
        axes.set(
            xlim=(middle[0] - half, middle[0] + half),
            ylim=(middle[1] - half, middle[1] + half),
            aspect="equal",
        )
        bare(axes)
    above.set_title(panel.title, loc="center")


def _pictures(panel: PanelReader, above: Axes, below: Axes) -> None:
    for axes, stack, labels in (
        (above, panel.reference_pictures, panel.reference_labels),
        (below, panel.pictures, panel.sample_labels),
    ):
        if stack is None or labels is None:
            raise SystemExit(f"panel {panel.name}: no pictures with classes")
        axes.imshow(_sheet(stack, labels), cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
        bare(axes)
    above.set_title(panel.title, loc="center")


def _sheet(stack: NDArray[np.uint8], labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """GRID_ROWS pictures of each class, one column a class."""
    columns = [np.concatenate(stack[labels == label][:GRID_ROWS]) for label in np.unique(labels)]
    return np.concatenate(columns, axis=1)


def main() -> None:
    """Write demo.png, settling.png and weights.png."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run_file", type=Path)
    options.add_argument("--out", type=Path, default=IMG, help="folder, docs/img by default")
    chosen = options.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with RunReader(chosen.run_file) as run:
        panels, timing = list(run.panels.values()), run.header.timing
        first = panels[0]
        program = first.program
        if program is None or timing is None or not first.settle_measured.any():
            raise SystemExit(f"{chosen.run_file}: pictures need a run on a loop, with an audit")
        measured = first.settle_measured
        figures = {
            "demo": demo_figure(panels),
            "settling": settle_figure(
                first.settle_time_us[measured],
                names=[str(step + 1) for step in np.flatnonzero(measured)],
                wait_us=timing.wait_us,
                tau_us=timing.tau_us,
            ),
            "weights": placed_matrix_figure(
                program.weights if program.codes is None else program.codes,
                program.layers,
                mask=program.mask,
                bits=program.bits,
            ),
        }
    for name, figure in figures.items():
        (chosen.out / f"{name}.png").write_bytes(to_png(figure))
        print(chosen.out / f"{name}.png")


if __name__ == "__main__":
    main()
