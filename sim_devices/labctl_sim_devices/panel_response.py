"""What each pixel lets through: its region's level curve, its contrast, and pixels that are stuck.

Panel at 45 degrees to its polariser: T(g) = T_off + (T_on - T_off) sin^2(Gamma(g) / 2) with
Gamma(g) = pi r (g / (levels - 1))^p. r, p and T_off are those of a coarse grid of regions over the panel,
and T is interpolated linearly between their centres.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.physics import Stream
from labctl_sim_devices.profile import OpticalProfile
from labctl_sim_devices.units import UnitTruth

FloatArray = NDArray[np.float64]
Levels = NDArray[np.uint16]


class PanelResponse:
    """Levels to transmittances, for one bench."""

    def __init__(self, profile: OpticalProfile, unit: UnitTruth, seed: int) -> None:
        p = profile
        self._shape = p.panel_shape_px
        grid = np.broadcast_shapes(
            unit.response_retardance.shape, unit.response_exponent.shape, unit.contrast_off.shape
        )
        # the region's own numbers [gy, gx, 1]
        retardance, exponent, off = (
            np.broadcast_to(part, grid)[..., None]
            for part in (unit.response_retardance, unit.response_exponent, unit.contrast_off)
        )
        level = np.arange(p.panel_levels) / (p.panel_levels - 1)
        gamma = math.pi * retardance * level**exponent
        dark = p.transmittance_off + off
        self.curves: FloatArray = dark + (p.transmittance_on - dark) * np.sin(gamma / 2) ** 2
        self._dead = self._drawn_dead(float(unit.dead_pixel_share), seed)

    def light(self, levels: Levels) -> FloatArray:
        """Transmittance of every pixel [height, width] of a frame."""
        out = np.empty(levels.shape)
        _interpolate(levels, self.curves, out)
        rows, columns, values = self._dead
        out[rows, columns] = values
        return out

    def dark(self) -> float:
        """Mean transmittance at level 0."""
        return float(self.curves[..., 0].mean())

    @property
    def dead_pixels(self) -> NDArray[np.int64]:
        """Places (row, column) of the pixels that hold one level for ever [k, 2]."""
        return np.stack(self._dead[:2], axis=1)

    def _drawn_dead(self, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
        height, width = self._shape
        count = round(share * height * width)
        words = Stream(seed, "unit", "dead_pixels").words(np.arange(count), 4).astype(np.int64)
        rows, columns = words[:, 0] * height >> 32, words[:, 1] * width >> 32
        level = words[:, 2] * self.curves.shape[2] >> 32
        return rows, columns, self.curves.mean(axis=(0, 1))[level]


def place_in_regions(pixel: float, pixels: int, regions: int) -> tuple[int, float]:
    """Lower region and share of the upper one for a pixel's coordinate; ends are held."""
    if regions == 1:
        return 0, 0.0
    place = min(max(pixel * regions / pixels - 0.5, 0.0), regions - 1.0)
    low = min(int(place), regions - 2)
    return low, place - low


_place = njit(cache=True, nogil=True)(place_in_regions)


@njit(cache=True, nogil=True, error_model="numpy")
def _interpolate(levels: Levels, curves: FloatArray, out: FloatArray) -> None:  # pragma: no cover - compiled
    rows, columns = curves.shape[0], curves.shape[1]
    for y in range(levels.shape[0]):
        i, v = _place(y + 0.5, levels.shape[0], rows)
        k = min(i + 1, rows - 1)
        for x in range(levels.shape[1]):
            j, u = _place(x + 0.5, levels.shape[1], columns)
            m = min(j + 1, columns - 1)
            g = levels[y, x]
            upper = (1 - u) * curves[i, j, g] + u * curves[i, m, g]
            lower = (1 - u) * curves[k, j, g] + u * curves[k, m, g]
            out[y, x] = (1 - v) * upper + v * lower
