"""Where the cells of a sign path lie on the panel: an affine map with one radial distortion, both ways.

A cell (row = output, column = input) has its design place q, from the field's middle, in pixels:
q = ((row + 1/2 - n/2) height, (column + 1/2 - n/2) width). On the panel it is seen at

    p = middle + affine (1 + k |q|^2) q,      k |corner|^3 = distortion_px

with p = (y, x) in pixels from the panel's upper left edge: pixel (0, 0) has its centre at (1/2, 1/2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord

FloatArray = NDArray[np.float64]
INVERSE_PASSES = 4  # each takes three orders off: distortions are below 1e-3 of the place


@dataclass(frozen=True, eq=False)
class CellMap:
    """Cells of one path: middle_px [2], affine [2, 2] (1 = as designed), distortion_px at a field's corner.

    pitch_px: height and width of a cell as designed. A negative diagonal is a mirrored field.
    """

    n: int
    pitch_px: tuple[float, float]
    middle_px: FloatArray
    affine: FloatArray
    distortion_px: float = 0.0

    @classmethod
    def of_record(cls, record: CalibrationRecord, path: int) -> CellMap:
        """The map of path 0 (positive) or 1 that a measured panel record holds."""
        height, width = (float(v) for v in record.array("cell_px"))
        return cls(
            n=record.array("zero_units").shape[0],
            pitch_px=(height, width),
            middle_px=record.array("path_middle_px")[path],
            affine=record.array("path_affine")[path],
            distortion_px=float(record.array("path_distortion_px")[path]),
        )

    @property
    def per_square_px(self) -> float:
        """k of the distortion, 1/px^2."""
        return self.distortion_px / float(np.hypot(*self.pitch_px) * self.n / 2) ** 3

    @property
    def cell_size_px(self) -> tuple[float, float]:
        """Height and width of a cell as the panel shows it."""
        return (
            float(np.hypot(*self.affine[:, 0]) * self.pitch_px[0]),
            float(np.hypot(*self.affine[:, 1]) * self.pitch_px[1]),
        )

    def designed(self) -> FloatArray:
        """q of every cell's centre [n, n, 2]."""
        index = np.arange(self.n) + 0.5
        return self._designed(np.stack(np.meshgrid(index, index, indexing="ij"), axis=2))

    def centres(self) -> FloatArray:
        """Places of the cells' centres on the panel [n, n, 2] (y, x), px."""
        return self._placed(self.designed())

    def places(self, cells: FloatArray) -> FloatArray:
        """Places (y, x) on the panel, px, of (row, column) [..., 2] in cells, 0 .. n over the field."""
        return self._placed(self._designed(cells))

    def _designed(self, cells: FloatArray) -> FloatArray:
        return np.asarray((cells - self.n / 2) * self.pitch_px)

    def _placed(self, q: FloatArray) -> FloatArray:
        bent = q * (1 + self.per_square_px * (q**2).sum(axis=-1, keepdims=True))
        return np.asarray(self.middle_px + bent @ self.affine.T)

    def cells(self, points_px: FloatArray) -> FloatArray:
        """(row, column) of points [..., 2] on the panel, in cells: 0 .. n covers the field."""
        straight = (points_px - self.middle_px) @ np.linalg.inv(self.affine).T
        q = straight
        for _ in range(INVERSE_PASSES if self.distortion_px else 0):
            q = straight / (1 + self.per_square_px * (q**2).sum(axis=-1, keepdims=True))
        return np.asarray(q / self.pitch_px + self.n / 2)

    def index_of_pixels(self, shape_px: tuple[int, int]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """Row and column of the cell in which each pixel's centre lies [height, width]; -1 outside."""
        row, column, _ = self._located(shape_px)
        return row, column

    def inner_pixels(self, shape_px: tuple[int, int], share: float) -> NDArray[np.int16]:
        """As the rows of `index_of_pixels`, of the pixels in the middle `share` of a cell's height only."""
        row, _, along = self._located(shape_px)
        return np.where(np.abs(along - 0.5) < share / 2, row, np.int16(-1))

    def _located(
        self, shape_px: tuple[int, int]
    ) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.float32]]:
        row, column = (np.empty(shape_px, np.int16) for _ in range(2))
        along = np.empty(shape_px, np.float32)
        inverse = np.ascontiguousarray(np.linalg.inv(self.affine), dtype=np.float64)
        _locate(self.middle_px, inverse, self.per_square_px, *self.pitch_px, self.n, row, column, along)
        return row, column, along


@njit(cache=True, error_model="numpy")
def _locate(  # pragma: no cover - compiled
    middle: FloatArray,
    inverse: FloatArray,
    per_square: float,
    height: float,
    width: float,
    n: int,
    row: NDArray[np.int16],
    column: NDArray[np.int16],
    along: NDArray[np.float32],
) -> None:
    """`CellMap.cells` of every pixel's centre, in one pass."""
    for y in range(row.shape[0]):
        for x in range(row.shape[1]):
            dy, dx = y + 0.5 - middle[0], x + 0.5 - middle[1]
            sy, sx = inverse[0, 0] * dy + inverse[0, 1] * dx, inverse[1, 0] * dy + inverse[1, 1] * dx
            qy, qx = sy, sx
            for _ in range(INVERSE_PASSES):
                bend = 1 + per_square * (qy * qy + qx * qx)
                qy, qx = sy / bend, sx / bend
            v, u = qy / height + 0.5 * n, qx / width + 0.5 * n
            if 0.0 <= v < n and 0.0 <= u < n:
                row[y, x], column[y, x] = int(v), int(u)
                along[y, x] = v - int(v)
            else:
                row[y, x] = column[y, x] = -1
                along[y, x] = 0.0
