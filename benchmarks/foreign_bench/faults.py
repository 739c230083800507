"""Thirty things that break, on the foreign bench: the names of labctl's faults, in this bench's own physics.

Names, and how large a fault is, are what a study compares; nothing here was used to choose how one is found.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foreign_bench.broken import Broken
from foreign_bench.cables import Cables
from foreign_bench.unit import CELL_PX, LEVELS, PANEL_PX, ForeignUnit, N

FloatArray = NDArray[np.floating]
Change = tuple[ForeignUnit, Broken, Cables | None]
LIGHT_PER_C = -0.003


@dataclass(frozen=True, eq=False)
class _Draw:
    rng: np.random.Generator
    unit: ForeignUnit
    size: float

    def row(self) -> int:
        return int(self.rng.integers(N))

    def side(self) -> int:
        return int(self.rng.integers(2))

    def sign(self) -> float:
        return float(self.rng.choice([-1.0, 1.0]))

    def emitters(self, count: int = 1) -> NDArray[np.int64]:
        light = self.unit.efficiency
        lives = np.flatnonzero(light > 0.3 * np.median(light))
        return np.asarray(self.rng.choice(lives, size=count, replace=False), np.int64)


def _light(draw: _Draw, which: NDArray[np.int64] | slice, left: float) -> Change:
    efficiency = draw.unit.efficiency.copy()
    efficiency[which] *= left
    return replace(draw.unit, efficiency=efficiency), Broken(), None


def _swapped(draw: _Draw, a: int, b: int, *, drives: bool) -> Change:
    order, plain = np.arange(N), np.arange(N)
    order[[a, b]] = b, a
    no, every = np.zeros(N, np.bool_), np.ones(N, np.bool_)
    emitter, detector = (order, plain) if drives else (plain, order)
    return draw.unit, Broken(), Cables(emitter, detector, no, no, every)


def _drives_swapped(draw: _Draw) -> Change:
    a, b = (int(one) for one in draw.emitters(2))
    return _swapped(draw, a, b, drives=True)


def _detectors_swapped(draw: _Draw) -> Change:
    a, b = (int(one) for one in draw.rng.choice(N, size=2, replace=False))
    return _swapped(draw, a, b, drives=False)


def _image_shifted(draw: _Draw) -> Change:
    axis, shift = draw.side(), draw.unit.shift_px.copy()
    shift[:, axis] += draw.sign() * draw.size * CELL_PX[axis]
    return replace(draw.unit, shift_px=shift), Broken(), None


def _image_turned(draw: _Draw) -> Change:
    turn = draw.unit.turn_rad + draw.sign() * 1e-3 * draw.size
    return replace(draw.unit, turn_rad=turn), Broken(), None


def _image_flipped(draw: _Draw) -> Change:
    ways = [(True, False), (False, True), (True, True)]
    upside_down, mirrored = ways[int(draw.rng.integers(3))]
    plain, no, every = np.arange(N), np.zeros(N, np.bool_), np.ones(N, np.bool_)
    return draw.unit, Broken(), Cables(plain, plain, no, no, every, upside_down, mirrored)


def _line(draw: _Draw, part: tuple[slice, slice]) -> Change:
    level = round(draw.size * (LEVELS - 1))

    def frame(levels: NDArray[np.uint16]) -> NDArray[np.uint16]:
        shown = levels.copy()
        shown[part] = level
        return shown

    return draw.unit, Broken(frame=frame), None


def _row_stuck(draw: _Draw) -> Change:
    top = (PANEL_PX[0] - N * CELL_PX[0]) // 2 + draw.row() * CELL_PX[0]
    return _line(draw, (slice(top, top + CELL_PX[0]), slice(None)))


def _column_stuck(draw: _Draw) -> Change:
    column, path = int(draw.emitters()[0]), draw.side()
    left = path * PANEL_PX[1] // 2 + column * CELL_PX[1]
    return _line(draw, (slice(None), slice(left, left + CELL_PX[1])))


def _level_table(draw: _Draw) -> Change:
    table = np.rint((LEVELS - 1) * (np.arange(LEVELS) / (LEVELS - 1)) ** ((1 + draw.size) ** draw.sign()))

    def frame(levels: NDArray[np.uint16]) -> NDArray[np.uint16]:
        return np.asarray(table[levels], np.uint16)

    return draw.unit, Broken(frame=frame), None


def _slow(draw: _Draw) -> Change:
    unit = draw.unit
    return replace(unit, rise_us=draw.size * unit.rise_us, fall_us=draw.size * unit.fall_us), Broken(), None


def _dust(draw: _Draw) -> Change:
    path, row, column = draw.side(), draw.row(), int(draw.emitters()[0])
    radius = float(draw.rng.uniform(1.5, 3.0))
    y, x = np.meshgrid(np.arange(N) - row, np.arange(N) - column, indexing="ij")
    passed = np.ones((2, N, N))
    passed[path] -= draw.size * np.exp(-(y**2 + x**2) / (2 * radius**2))
    return draw.unit, Broken(passed=passed), None


def _ambient(draw: _Draw) -> Change:
    tilt, share = float(draw.rng.uniform(-0.4, 0.4)), float(draw.rng.uniform(0.3, 0.7))
    along = draw.size * (1 + tilt * np.linspace(-1, 1, N))
    seen = np.stack([along, share * along])
    return draw.unit, Broken(detector_units=seen[:: int(draw.sign())].copy()), None


def _responsive(draw: _Draw, part: tuple[int | slice, int], factor: float) -> Change:
    responsivity = draw.unit.responsivity.copy()
    responsivity[part] *= factor
    return replace(draw.unit, responsivity=responsivity), Broken(), None


def _dark_current(draw: _Draw) -> Change:
    units = np.zeros((2, N))
    units[draw.side(), draw.row()] = draw.size
    return draw.unit, Broken(detector_units=units), None


def _stuck_bit(draw: _Draw) -> Change:
    return draw.unit, Broken(stuck_bit=(draw.row(), round(draw.size), draw.side())), None


def _row_slow(draw: _Draw) -> Change:
    tau_us = draw.unit.tau_us.copy()
    tau_us[draw.row()] *= draw.size
    return replace(draw.unit, tau_us=tau_us), Broken(), None


def _row_noisy(draw: _Draw) -> Change:
    noise = np.ones(N)
    noise[draw.row()] = draw.size
    return draw.unit, Broken(noise=noise), None


def _too_warm(draw: _Draw) -> Change:
    unit, _, _ = _light(draw, slice(None), 1 + LIGHT_PER_C * draw.size)
    return unit, Broken(warmer_c=draw.size), None


def _gained(draw: _Draw) -> Change:
    scale = draw.unit.gain_scale * (1 + draw.size) ** draw.sign()
    return replace(draw.unit, gain_scale=scale), Broken(), None


# name: rule, smallest and largest size
FAULTS: dict[str, tuple[Callable[[_Draw], Change], float, float]] = {
    "emitter-dead": (lambda d: _light(d, d.emitters(), 0.0), 1, 1),
    "emitter-dim": (lambda d: _light(d, d.emitters(), 1 - d.size), 0.2, 0.6),
    "supply-sag": (lambda d: _light(d, slice(None), 1 - d.size), 0.07, 0.25),
    "drive-stuck": (lambda d: (d.unit, Broken(stuck=(int(d.emitters()[0]), d.size)), None), 0.4, 1.0),
    "drives-swapped": (_drives_swapped, 1, 1),
    "image-shifted": (_image_shifted, 0.25, 1.0),
    "image-turned": (_image_turned, 8, 20),
    "image-flipped": (_image_flipped, 1, 1),
    "defocused": (
        lambda d: (replace(d.unit, blur_px=float(np.hypot(d.unit.blur_px, d.size))), Broken(), None),
        3,
        7,
    ),
    "panel-row-stuck": (_row_stuck, 0.25, 1),
    "panel-column-stuck": (_column_stuck, 0.25, 1),
    "level-table-wrong": (_level_table, 0.2, 0.5),
    "panel-flicker": (lambda d: (replace(d.unit, flicker=d.size), Broken(), None), 0.02, 0.08),
    "panel-slow": (_slow, 3, 6),
    "shutter-closed": (lambda d: _light(d, slice(None), d.size), 1e-4, 1e-3),
    "dust": (_dust, 0.4, 0.9),
    "ambient-light": (_ambient, 0.3, 1.5),
    "detector-dead": (lambda d: _responsive(d, (d.side(), d.row()), 0.0), 1, 1),
    "dark-current": (_dark_current, 0.2, 1.0),
    "row-gain": (lambda d: _responsive(d, (slice(None), d.row()), (1 + d.size) ** d.sign()), 0.12, 0.3),
    "detectors-swapped": (_detectors_swapped, 1, 1),
    "crosstalk": (
        lambda d: (replace(d.unit, neighbour=d.unit.neighbour + d.size), Broken(), None),
        0.05,
        0.15,
    ),
    "adc-offset": (lambda d: (d.unit, Broken(adc_units=d.sign() * d.size), None), 0.06, 0.2),
    "adc-stuck-bit": (_stuck_bit, 6, 10),
    "loop-gain": (_gained, 0.1, 0.3),
    "row-slow": (_row_slow, 1.4, 2.5),
    "mains-hum": (lambda d: (replace(d.unit, hum_units=d.size), Broken(), None), 0.04, 0.15),
    "row-noisy": (_row_noisy, 4, 15),
    "too-warm": (_too_warm, 10, 25),
    "reads-early": (lambda d: (d.unit, Broken(early_us=d.size), None), 3.5, 6.5),
}


def broken_unit(name: str, seed: int, unit: ForeignUnit) -> Change:
    """The unit with a fault drawn by seed: its constants, what is broken beside them, its cables if they moved."""
    rule, low, high = FAULTS[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return rule(_Draw(rng, unit, float(rng.uniform(low, high))))
