"""Light through the panel: director, retardance, field behind the analyser, relay, and what is collected.

A parallel-aligned cell at 45 degrees between crossed polarisers passes the field (exp(i G) - 1) / 2, G being its
retardance, G = G_rest cos^2(tilt). The tilt turns with the voltage above threshold by
tilt = pi / 2 - 2 atan(exp(-(V - V_c) / V_0)) (Saleh and Teich, Fundamentals of Photonics, 18.3). Directors of
neighbouring pixels pull at each other (`fringe_px`). A relay of finite aperture spreads the field; one share of
the light interferes over that spread, the rest adds as intensity. Emitters do not interfere with one another:
so what detectors collect is linear in each emitter's power, and one frame is a matrix.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from foreign_bench.unit import (
    CELL_PX,
    LEVELS,
    NOMINAL_REST,
    NOMINAL_THRESHOLD_V,
    NOMINAL_TURNING_V,
    PANEL_PX,
    ForeignUnit,
    N,
)

Image = NDArray[np.float32]
FloatArray = NDArray[np.floating]
HALF_PX = (PANEL_PX[0], PANEL_PX[1] // 2)
FIELD_PX = (N * CELL_PX[0], N * CELL_PX[1])


def driver_volts() -> FloatArray:
    """The driver's table [levels]: volts at which the maker's panel retards by pi g / (levels - 1)."""
    share = np.arange(LEVELS) / (LEVELS - 1) / NOMINAL_REST  # cos^2 of the tilt
    tilt = np.arccos(np.sqrt(share))
    with np.errstate(divide="ignore"):
        return np.asarray(NOMINAL_THRESHOLD_V - NOMINAL_TURNING_V * np.log(np.tan((np.pi / 2 - tilt) / 2)))


def retardance(volts: FloatArray, unit: ForeignUnit) -> FloatArray:
    """Retardance (rad) of the unit's liquid crystal in the middle of the panel."""
    over = np.maximum(np.minimum(volts, unit.highest_v) - unit.threshold_v, 0.0)
    tilt = np.pi / 2 - 2 * np.arctan(np.exp(-over / unit.turning_v))
    return np.asarray(np.pi * unit.rest_retardance * np.cos(tilt) ** 2)


def over_half(coefficients: FloatArray) -> Image:
    """Polynomial map [height, width / 2] of coefficients [3, 3] (powers down, powers across, in -1 .. 1)."""
    down, across = (np.linspace(-1, 1, size) for size in HALF_PX)
    return np.polynomial.legendre.leggrid2d(down, across, coefficients).astype(np.float32)


class PanelField:
    """The panel of one unit and everything behind it that stands still."""

    def __init__(self, unit: ForeignUnit) -> None:
        self._unit = unit
        self._levels = retardance(driver_volts(), unit).astype(np.float32)
        self._gap = np.concatenate([1 + over_half(c) for c in unit.gap_map], axis=1)
        self._stray = np.concatenate(
            [s * (1 + over_half(c)) for s, c in zip(unit.stray, unit.stray_map, strict=True)], axis=1
        ).astype(np.float32)
        self._paths = [Collection(unit, path) for path in (0, 1)]

    def seen_by(self, unit: ForeignUnit, least_px: float) -> bool:
        """Whether a unit whose panel lies elsewhere, by so much at least, now takes this one's place."""
        if np.abs(unit.shift_px - self._unit.shift_px).max() < least_px:
            return False
        self._unit, self._paths = unit, [Collection(unit, path) for path in (0, 1)]
        return True

    def retardances(self, levels: NDArray[np.uint16]) -> Image:
        """Retardance [height, width] (rad) that the directors come to rest at."""
        at_rest = self._levels[levels] * self._gap
        if self._unit.fringe_px:
            at_rest = gaussian_filter(at_rest, self._unit.fringe_px, mode="nearest")
        dead = self._unit.dead_pixels
        at_rest[dead[:, 0], dead[:, 1]] = np.pi * dead[:, 2]
        return np.asarray(at_rest, np.float32)

    def intensity(self, retarded: Image) -> Image:
        """Share of the light [height, width] that each pixel's place in the image gets of that on it."""
        return np.asarray(self._unit.fill * self.relayed(retarded) + self._stray, np.float32)

    def relayed(self, retarded: Image) -> Image:
        """The same of what levels steer, for whole pixels: any size [h, w], dark around."""
        unit = self._unit
        wide = np.exp(-0.5 * (unit.band * retarded) ** 2) if unit.band else np.float32(1.0)
        passed = np.asarray(0.5 * (1 - wide * np.cos(retarded)), np.float32)  # mean over the emitters' band
        if unit.blur_px:
            spread = unit.blur_px / math.sqrt(2)  # of the intensity: a Gaussian squared
            apart = gaussian_filter(passed, spread, mode="constant")
            real = gaussian_filter(0.5 * (np.cos(retarded) - 1), unit.blur_px, mode="constant")
            imaginary = gaussian_filter(0.5 * np.sin(retarded), unit.blur_px, mode="constant")
            together = real**2 + imaginary**2
            passed = (1 - unit.coherence) * apart + unit.coherence * together
        return passed

    def ripple(self, retarded: Image) -> Image:
        """Change of the intensity per relative change of every retardance."""
        return np.asarray(self._unit.fill * 0.5 * retarded * np.sin(retarded), np.float32)

    def matrices(self, image: Image) -> FloatArray:
        """What each path's outputs collect of each input's light [2, out, in], lossless and fully lit = 1."""
        width = HALF_PX[1]
        return np.stack(
            [path.collect(image[:, k * width : (k + 1) * width]) for k, path in enumerate(self._paths)]
        )


def placed(unit: ForeignUnit, path: int, v: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where points (v down, u across, px from the field's upper left) lie on the half (y, x), px."""
    down, across = np.broadcast_arrays(v - FIELD_PX[0] / 2, u - FIELD_PX[1] / 2)
    corner = math.hypot(*FIELD_PX) / 2
    tilt = unit.keystone_px[path]
    grown = (1 + unit.barrel_px[path] * (down**2 + across**2) / corner**3) / (
        1 + (tilt[0] * down + tilt[1] * across) / corner**2
    )
    down, across = down * grown * unit.zoom[path, 0], across * grown * unit.zoom[path, 1]
    turn = unit.turn_rad[path]
    return (
        HALF_PX[0] / 2 + unit.shift_px[path, 0] + math.cos(turn) * down + math.sin(turn) * across,
        HALF_PX[1] / 2 + unit.shift_px[path, 1] - math.sin(turn) * down + math.cos(turn) * across,
    )


class Collection:
    """One half of the panel seen through its optics: beams down the columns, detectors along the rows.

    Every point of the design's field lies somewhere on the panel: shift, turn, zoom, the perspective of a panel
    askew, and a barrel distortion that grows with the cube of the distance from the middle. The image is
    interpolated there.
    """

    def __init__(self, unit: ForeignUnit, path: int) -> None:
        height, width = CELL_PX
        v = np.arange(FIELD_PX[0]) + 0.5
        u = np.arange(FIELD_PX[1]) + 0.5
        y, x = placed(unit, path, v[:, None], u[None, :])
        self._corner, self._weights = _bilinear(y - 0.5, x - 0.5)
        fall = np.exp(-unit.beam_fall[path] * (2 * v / FIELD_PX[0] - 1) ** 2)
        self._detectors = (_areas(v, height, unit.detector_width, unit.soft_edge) * fall[:, None]).astype(
            np.float32
        )
        # a beam keeps its power when it is narrower: then it is brighter
        self._beams = (_areas(u, width, unit.beam_width, unit.soft_edge) / unit.beam_width).astype(np.float32)

    def collect(self, half: Image) -> FloatArray:
        """[out, in] of an image [height, width] of this half; beyond it there is no panel, and no light."""
        # one dark pixel around: what falls off the half finds that
        padded = np.pad(half, 1).reshape(-1)
        across = HALF_PX[1] + 2
        seen = padded[self._corner] * self._weights[0]
        for step, weight in zip((1, across, across + 1), self._weights[1:], strict=True):
            seen += padded[self._corner + step] * weight
        return np.asarray(self._detectors.T @ (seen @ self._beams), np.float64)


def _bilinear(y: FloatArray, x: FloatArray) -> tuple[NDArray[np.int32], tuple[Image, ...]]:
    """Index of the upper left neighbour in the padded half, and weights of the four neighbours."""
    below, right = np.floor(y), np.floor(x)
    down, across = (y - below).astype(np.float32), (x - right).astype(np.float32)
    row = np.clip(below + 1, 0, HALF_PX[0]).astype(np.int32)
    column = np.clip(right + 1, 0, HALF_PX[1]).astype(np.int32)
    inside = ((below >= -1) & (below < HALF_PX[0]) & (right >= -1) & (right < HALF_PX[1])).astype(np.float32)
    return (row * (HALF_PX[1] + 2) + column).astype(np.int32), (
        (1 - down) * (1 - across) * inside,
        (1 - down) * across * inside,
        down * (1 - across) * inside,
        down * across * inside,
    )


def _areas(middles: FloatArray, pitch: int, width: float, soft: float) -> FloatArray:
    """Share of a cell in each pixel's strip [px, n]: a top hat `width` cells wide, its edges blurred by `soft`."""
    centre = (np.arange(N) + 0.5) * pitch

    def ramp(x: FloatArray) -> FloatArray:
        """Integral of the blurred step."""
        if not soft:
            return np.maximum(x, 0.0)
        s = soft * pitch
        return np.asarray(x * ndtr(x / s) + s * np.exp(-0.5 * (x / s) ** 2) / math.sqrt(2 * math.pi))

    from_centre = middles[:, None] - centre[None, :]
    reach = width * pitch / 2
    total = np.zeros_like(from_centre)
    for side, sign in ((-reach, 1.0), (reach, -1.0)):
        total += sign * (ramp(from_centre + 0.5 - side) - ramp(from_centre - 0.5 - side))
    return total / pitch
