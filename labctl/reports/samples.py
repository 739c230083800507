"""Pictures of samples beside the data they should look like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from labctl.reports.style import LIGHT, Theme, bare, drawing

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.integer]
Limits = tuple[tuple[float, float], tuple[float, float]]

_SCATTER_UP_TO = 5000
_SHORTEST = 0.55


def samples_figure(
    samples: ArrayLike,
    data: ArrayLike | None = None,
    *,
    labels: IntArray | None = None,
    data_labels: IntArray | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Samples [B, d] beside data [M, d], same range and equal axes; the first two dimensions where d > 2.

    Both sides show the same number of points, so that the eye compares like with like.
    """
    points, labels = _finite(samples, labels)
    reference = None
    if data is not None:
        reference, data_labels = _finite(data, data_labels)
    with drawing(theme):
        if points.shape[1] == 1:
            return _histograms(points[:, 0], None if reference is None else reference[:, 0], theme)
        count = len(points) if reference is None else min(len(points), len(reference))
        clouds = [(*_thinned(points, labels, count), len(points), "Samples from the run", theme.accent)]
        if reference is not None:
            clouds.insert(0, (*_thinned(reference, data_labels, count), len(reference), "Data", theme.other))
        limits = _common_limits(points, reference)
        wide, high = (limit[1] - limit[0] for limit in limits)
        size = (3.3 * len(clouds) + 0.3, float(np.clip(2.95 * high / wide, 1.6, 4.4)) + 0.75)
        figure = Figure(figsize=size, layout="compressed")
        for index, (cloud, classes, available, title, colour) in enumerate(clouds):
            axes = figure.add_subplot(1, len(clouds), index + 1)
            _cloud(axes, cloud, classes, colour, limits, theme)
            shown = f"{count:,}" if count == available else f"{count:,} of {available:,}"
            outside = int(_outside(cloud, limits).sum())
            axes.set_title(f"{title}  ({shown}{f', {outside:,} outside' if outside else ''})")
            axes.set_xlabel("$x_1$")
            if index == 0:
                axes.set_ylabel("$x_2$")
            else:
                axes.tick_params(labelleft=False)
    return figure


def chain_figure(
    states: Sequence[ArrayLike], names: Sequence[str], *, most: int = 6, theme: Theme = LIGHT
) -> Figure:
    """The samples [B, d] after each step, noise to result: up to `most` frames, each with its own range."""
    chosen = np.unique(np.linspace(0, len(states) - 1, min(most, len(states))).round().astype(int))
    with drawing(theme):
        figure = Figure(figsize=(1.32 * len(chosen), 1.5), layout="compressed")
        for place, index in enumerate(chosen):
            axes = figure.add_subplot(1, len(chosen), place + 1)
            points = _finite(states[index])[0][:2000]
            if points.shape[1] == 1:
                axes.hist(points[:, 0], bins=40, color=theme.accent)
                axes.set_box_aspect(1)
            else:
                size = _point_size(len(points)) * 0.35
                axes.scatter(points[:, 0], points[:, 1], s=size, c=theme.accent, linewidths=0, alpha=0.7)
                limits = _limits([points])
                axes.set(xlim=limits[0], ylim=limits[1], aspect="equal")
            bare(axes)
            axes.set_title(names[index], fontsize=7.5, loc="center", color=theme.faint, pad=4)
    return figure


def picture_grid_figure(
    pictures: NDArray[np.uint8],
    reference: NDArray[np.uint8] | None = None,
    *,
    labels: IntArray | None = None,
    reference_labels: IntArray | None = None,
    class_names: Sequence[str] = (),
    rows: int = 8,
    columns: int = 10,
    theme: Theme = LIGHT,
) -> Figure:
    """Grids of pictures [P, height, width]: real ones beside generated ones.

    With labels of two to `columns` classes every column is one class, named above it.
    """
    grids = [("Made by the run", pictures, labels)]
    if reference is not None:
        grids.insert(0, ("Real pictures", reference, reference_labels))
    with drawing(theme):
        figure = Figure(figsize=(3.9 * len(grids), 3.9 * rows / columns + 0.5), layout="compressed")
        for index, (title, stack, classes) in enumerate(grids):
            axes = figure.add_subplot(1, len(grids), index + 1)
            sheet, heads = picture_sheet(stack, classes, rows, columns)
            # Garments are drawn light on black in the data sets; on paper they read better dark on white.
            axes.imshow(
                sheet,
                cmap="gray_r" if theme.name == "light" else "gray",
                interpolation="nearest",
                vmin=0,
                vmax=255,
            )
            bare(axes)
            axes.set_title(title, pad=16 if heads else 7)
            width = sheet.shape[1] / columns
            for column, head in enumerate(heads):
                name = class_names[head].split("/")[0] if head < len(class_names) else str(head)
                axes.text(
                    (column + 0.5) * width,
                    -3,
                    name,
                    ha="center",
                    va="bottom",
                    fontsize=5,
                    color=theme.faint,
                )
    return figure


def step_pictures_figure(
    steps: NDArray[np.uint8], names: Sequence[str], heads: Sequence[str] = (), *, theme: Theme = LIGHT
) -> Figure:
    """Pictures [steps, P, height, width], a row a step with its name, a column a sample under its head."""
    rows, columns = steps.shape[:2]
    gap = max(1, steps.shape[3] // 14)  # blank, or small pictures run into each other
    framed = np.pad(steps.astype(np.float64), ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    height, width = framed.shape[2:]
    sheet = framed.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    with drawing(theme):
        figure = Figure(figsize=(0.52 * columns + 0.9, 0.52 * rows + 0.4), layout="compressed")
        axes = figure.add_subplot()
        shades = "gray_r" if theme.name == "light" else "gray"
        axes.imshow(sheet, cmap=shades, interpolation="nearest", vmin=0, vmax=255)
        bare(axes)
        for row, name in enumerate(names):
            axes.text(
                -3, (row + 0.5) * height, name, ha="right", va="center", fontsize=5.5, color=theme.faint
            )
        for column, head in enumerate(heads[:columns]):
            at, short = (column + 0.5) * width, head.split("/")[0]
            axes.text(at, -3, short, ha="center", va="bottom", fontsize=5.5, color=theme.faint)
    return figure


def picture_sheet(
    stack: NDArray[np.uint8], classes: IntArray | None, rows: int, columns: int
) -> tuple[NDArray[np.float64], list[int]]:
    """One image of rows x columns pictures, blank (NaN) where there are too few; the class of each column."""
    height, width = stack.shape[1:]
    gap = 2
    sheet = np.full((rows * (height + gap), columns * (width + gap)), np.nan)
    heads: list[int] = []
    order = np.arange(min(len(stack), rows * columns))
    cells = [(int(picture), *divmod(place, columns)) for place, picture in enumerate(order)]
    if classes is not None:
        found = np.unique(classes[: len(stack)])
        if 2 <= len(found) <= columns:
            heads = [int(name) for name in found]
            cells = [
                (int(picture), row, column)
                for column, name in enumerate(found)
                for row, picture in enumerate(np.flatnonzero(classes[: len(stack)] == name)[:rows])
            ]
    for picture, row, column in cells:
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = stack[picture]
    return sheet, heads


def _cloud(
    axes: Axes, points: FloatArray, classes: IntArray | None, colour: str, limits: Limits, theme: Theme
) -> None:
    if len(points) > _SCATTER_UP_TO and classes is None:
        edges = [np.linspace(*limit, 121) for limit in limits]
        counts = np.histogram2d(points[:, 0], points[:, 1], bins=edges)[0].T
        axes.pcolormesh(*edges, np.sqrt(counts), cmap=theme.density(), rasterized=True)
    else:
        shades: str | list[str] = colour
        if classes is not None:
            shades = [theme.classes[int(name) % len(theme.classes)] for name in classes]
        size = _point_size(len(points))
        axes.scatter(points[:, 0], points[:, 1], s=size, c=shades, linewidths=0, alpha=0.75)
    axes.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def _histograms(points: FloatArray, reference: FloatArray | None, theme: Theme) -> Figure:
    figure = Figure(figsize=(5.2, 2.9))
    axes = figure.add_subplot()
    both = points if reference is None else np.concatenate([points, reference])
    low, high = np.percentile(both, [0.1, 99.9])
    edges = np.linspace(low - 0.05 * (high - low), high + 0.05 * (high - low), 61).tolist()
    if reference is not None:
        axes.hist(reference, bins=edges, density=True, color=theme.other, alpha=0.45, label="Data")
    axes.hist(
        points, bins=edges, density=True, histtype="step", color=theme.accent, linewidth=1.4, label="Samples"
    )
    axes.set(xlabel="$x_1$", ylabel="density")
    axes.legend()
    return figure


def _common_limits(points: FloatArray, reference: FloatArray | None) -> Limits:
    """A frame around the data where nearly all samples lie in it too, else around both."""
    if reference is not None and len(reference) and len(points):
        around_data = _limits([reference], margin=0.72)
        if _outside(points, around_data).mean() <= 0.01:
            return around_data
    return _limits([points] if reference is None else [points, reference])


def _outside(points: FloatArray, limits: Limits) -> NDArray[np.bool_]:
    low, high = np.array(limits).T
    return np.asarray(((points[:, :2] < low) | (points[:, :2] > high)).any(axis=1))


def _limits(clouds: Sequence[FloatArray], margin: float = 0.57) -> Limits:
    """A frame around all but the outermost points, neither axis much shorter than the other."""
    points = np.concatenate(clouds)[:, :2]
    if not len(points):
        return (-1.0, 1.0), (-1.0, 1.0)
    low, high = np.percentile(points, [0.1, 99.9], axis=0)
    longest = max(float((high - low).max()), 1e-9)
    middle, half = (low + high) / 2, np.maximum(high - low, _SHORTEST * longest) * margin
    return (
        (float(middle[0] - half[0]), float(middle[0] + half[0])),
        (float(middle[1] - half[1]), float(middle[1] + half[1])),
    )


def _finite(values: ArrayLike, labels: IntArray | None = None) -> tuple[FloatArray, IntArray | None]:
    """The points without NaN or infinity, and their labels where there is one for each point."""
    points = np.atleast_2d(np.asarray(values, dtype=np.float64))
    kept = np.isfinite(points).all(axis=1)
    return points[kept], labels[kept] if labels is not None and len(labels) == len(points) else None


def _thinned(points: FloatArray, labels: IntArray | None, count: int) -> tuple[FloatArray, IntArray | None]:
    """`count` of the points, evenly picked, and their labels."""
    kept = np.linspace(0, len(points) - 1, count).round().astype(np.int64)
    return points[kept], None if labels is None else labels[kept]


def _point_size(count: int) -> float:
    return float(np.clip(2600 / max(count, 1), 1.2, 14))
