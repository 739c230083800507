"""How much of its neighbours' light a cell gets: cells end between pixels, and the optics blur their edges.

Pixels belong to the cell that their centres lie in, so that along an edge the frame's border stands up to
half a pixel on one side of the optics' border. With a blur of standard deviation s, a border that lies d
inside a cell gives the neighbour s (u Phi(u) + phi(u)), u = d / s, of the cell's width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from labctl.programs.cell_map import CellMap

FloatArray = NDArray[np.float64]
ALONG = 5  # places along an edge: a turned field crosses pixel borders on the way
LEAST_BLUR_PX = 1e-3


@dataclass(frozen=True, eq=False)
class Spill:
    """Shares of a cell's area [n, n, 2] that show the cell before and the one after it, along both axes."""

    rows: FloatArray
    columns: FloatArray

    def seen(self, light: FloatArray) -> FloatArray:
        """What cells get [n, n] of what each shows [n, n], above dark; beyond the field it is dark."""
        return self._along(self._along(light, self.columns, 1), self.rows, 0)

    @staticmethod
    def _along(light: FloatArray, share: FloatArray, axis: int) -> FloatArray:
        before, after = np.zeros_like(light), np.zeros_like(light)
        if axis == 0:
            before[1:], after[:-1] = light[:-1], light[1:]
        else:
            before[:, 1:], after[:, :-1] = light[:, :-1], light[:, 1:]
        own = 1 - share.sum(axis=2)
        return np.asarray(own * light + share[..., 0] * before + share[..., 1] * after)


def spill_of(cells: CellMap, blur_px: float) -> Spill:
    """Spill of a frame painted by this map, with the optics' blur (standard deviation, pixels)."""
    return Spill(*(_shares(cells, blur_px, axis) for axis in (0, 1)))


def _shares(cells: CellMap, blur_px: float, axis: int) -> FloatArray:
    n = cells.n
    out = np.empty((n, n, 2))
    index = np.arange(n)
    along = (np.arange(ALONG) + 0.5) / ALONG
    row, column, share = np.meshgrid(index, index, along, indexing="ij")
    size = cells.cell_size_px[axis]
    facing = 1.0 if cells.affine[axis, axis] > 0 else -1.0  # mirrored: the cell before lies at higher pixels
    for k, edge in enumerate((0.0, 1.0)):
        places: list[NDArray[np.floating]] = [row + share, column + share]
        places[axis] = (row, column)[axis] + edge
        border = cells.places(np.stack(places, axis=-1))[..., axis]
        pixel = np.rint(border)  # the frame changes between pixels, whose centres stand at halves
        inwards = np.asarray(facing * (1.0 if k == 0 else -1.0) * (pixel - border), np.float64)
        shares = _beyond(inwards, max(blur_px, LEAST_BLUR_PX)) / size
        out[..., k] = shares.mean(axis=2)
    return out


def _beyond(inwards: FloatArray, blur_px: float) -> FloatArray:
    u = inwards / blur_px
    return np.asarray(blur_px * (u * ndtr(u) + np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi)))
