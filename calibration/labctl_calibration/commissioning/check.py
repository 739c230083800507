"""A wiring put to the test: random weights by its rows and columns, random phi, who looks like whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceFault
from labctl_calibration.probing import Probing

FloatArray = NDArray[np.float64]
FRAMES = 4  # of random weights: any two rows are then alike by a tenth or so
PATTERNS = 3  # a channel, of each frame
DRIVE = 0.6


@dataclass(frozen=True)
class Check:
    """Least correlation of a row's or column's measured weights with those that it was given, and the largest
    with those of another.
    """

    OWN: ClassVar[float] = 0.6
    OTHER: ClassVar[float] = 0.8  # of a row's own

    own: float
    other: float


def check_wiring(probing: Probing, columns: NDArray[np.int64], grid_px: FloatArray) -> Check:
    """Show, drive, solve, compare; `columns` are those that have light. grid_px [2, 2, 2]: of each half
    (left, right) and axis (down, across) where its cell 0 lies and how far the next one is.

    DeviceFault, naming the worst row or column, where it does not look like its own.
    """
    n = probing.spec.n_channels
    rng = np.random.Generator(np.random.Philox(key=40_961))
    given = rng.choice([-1.0, 1.0], size=(FRAMES, n, n))
    phi = rng.choice([-DRIVE, DRIVE], size=(PATTERNS * n, n))
    solve = np.linalg.pinv(np.column_stack([phi, np.ones(len(phi))]))[:n]
    measured = np.empty_like(given)
    for weights, seen in zip(given, measured, strict=True):
        probing.show(_painted(weights, probing, grid_px))
        seen[:] = (solve @ probing.probe(phi, at="phi")).T
    own, other = [], []
    for kind, axes in (("row", (1, 0, 2)), ("column", (2, 0, 1))):
        who = np.arange(n) if kind == "row" else columns
        beside = columns if kind == "row" else np.arange(n)
        found, asked = (m.transpose(axes)[who][:, :, beside].reshape(len(who), -1) for m in (measured, given))
        alike = _correlations(found, asked)
        diagonal, rest = np.diag(alike), np.abs(alike - np.diag(np.diag(alike))).max(axis=1)
        worst = int((Check.OTHER * diagonal - rest).argmin())
        if diagonal[worst] < Check.OWN or rest[worst] > Check.OTHER * diagonal[worst]:
            raise DeviceFault(
                f"{kind} {who[worst]} of the panel resembles the random weights it was given by "
                f"{diagonal[worst]:.2f}, and another's by {rest[worst]:.2f}; allowed: {Check.OWN:g} or more, "
                f"and others less than {Check.OTHER:g} of that; the wiring that was found is not this one",
                device=probing.modulator.name, operation="commission",
            )  # fmt: skip
        own.append(float(diagonal.min()))
        other.append(float(rest.max()))
    return Check(min(own), max(other))


def _painted(weights: FloatArray, probing: Probing, grid_px: FloatArray) -> NDArray[np.uint16]:
    """Cells of weight 1 bright on the left half, of weight -1 on the right one."""
    height, width = probing.panel.shape_px
    n, middle = len(weights), width // 2
    frame = np.zeros((height, width), np.uint16)
    for side, sign in enumerate((1.0, -1.0)):
        sizes = (height, middle)
        row, column = (
            np.rint((np.arange(size) + 0.5 - first) / step).astype(np.int64)
            for size, (first, step) in zip(sizes, grid_px[side], strict=True)
        )
        inside = ((row >= 0) & (row < n))[:, None] & ((column >= 0) & (column < n))
        lit = inside & (weights[np.ix_(row.clip(0, n - 1), column.clip(0, n - 1))] == sign)
        frame[:, side * middle : (side + 1) * middle] = lit * (probing.panel.n_levels - 1)
    return frame


def _correlations(found: FloatArray, asked: FloatArray) -> FloatArray:
    """Of every row of one with every row of the other."""
    parts = [(m - m.mean(axis=1, keepdims=True)) for m in (found, asked)]
    parts = [m / np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-12) for m in parts]
    return np.asarray(parts[0] @ parts[1].T)
