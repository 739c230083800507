"""The README's picture, from the file of a demo run: python docs/make_pictures.py RUN.nxs"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from labctl.runlog import RunReader

SETS = {
    "moons": "Two moons",
    "swiss_roll": "Swiss roll",
    "gaussians": "Unequal Gaussians",
    "checkerboard": "Checkerboard",
}
INK, LIGHT, DOTS = "#222222", "#8a8f98", "#1f6fb2"
POINTS = 2000


def main(run_file: str) -> None:
    """Draw data over samples for the planar sets, then a row of garments per class."""
    with RunReader(run_file) as run:
        panels = run.panels
        figure = plt.figure(figsize=(11, 4.3), dpi=110)
        grid = figure.add_gridspec(
            2, 4, left=0.035, right=0.62, top=0.92, bottom=0.02, wspace=0.06, hspace=0.06
        )
        for column, (name, title) in enumerate(SETS.items()):
            panel = panels[name]
            rows = (("data", panel.reference, LIGHT), ("samples", panel.samples, DOTS))
            low, high = np.quantile(panel.reference, [0.001, 0.999], axis=0)
            margin = 0.12 * (high - low)
            for row, (what, points, colour) in enumerate(rows):
                axes = figure.add_subplot(grid[row, column])
                axes.scatter(*points[:POINTS].T, s=1.2, color=colour, linewidths=0)
                axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
                axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
                axes.set_box_aspect(1)
                axes.set_xticks([])
                axes.set_yticks([])
                for side in axes.spines.values():
                    side.set_color("#d8dbe0")
                if row == 0:
                    axes.set_title(title, fontsize=11, color=INK)
                if column == 0:
                    axes.set_ylabel(what, fontsize=11, color=INK)
        panel = panels["fashion_latent"]
        pictures, labels = panel.pictures, panel.sample_labels
        sheet = np.vstack([np.hstack(pictures[labels == c][:10]) for c in range(10)])
        axes = figure.add_axes((0.645, 0.02, 0.345, 0.9))
        axes.imshow(255 - sheet, cmap="gray", vmin=0, vmax=255)
        axes.set_title("Garments, one class a row", fontsize=11, color=INK)
        axes.axis("off")
    out = Path(__file__).parent / "img" / "demo.png"
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out, facecolor="white")
    print(out.relative_to(Path(__file__).parents[1]))


if __name__ == "__main__":
    main(sys.argv[1])
