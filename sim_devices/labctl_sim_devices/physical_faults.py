"""Thirty things that break on an optical bench, by name and seed, each where its physics is.

A fault's place (which emitter, which row) and its size are drawn by `fault_seed`; sizes are uniform in the
stated range. Ranges are [A]: mild enough that the bench still answers, large enough that a run suffers.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labctl.config_files import nearest
from labctl.devices import ConfigError
from labctl_sim_devices.broken import SOUND, AdcFault, Broken, Levels
from labctl_sim_devices.profile import OpticalProfile
from labctl_sim_devices.units import UnitTruth

FloatArray = NDArray[np.float64]
MAINS_HZ, HARMONICS = 50.0, (1.0, 0.3, 0.15)
LIGHT_PER_C = -0.003  # of emitters, where the profile's have no temperature
FLICKER_US = 2083.0  # 480 Hz, where the profile's panel has none of its own


@dataclass(frozen=True, eq=False)
class Injected:
    """A fault as drawn: name and seed, size (in the unit of the table), where it is, what it changes."""

    name: str
    seed: int
    size: float
    place: tuple[int, ...]
    unit: UnitTruth
    broken: Broken


@dataclass(frozen=True, eq=False)
class _Draw:
    """What a rule draws from: the bench as it was, and how large the fault is."""

    rng: np.random.Generator
    profile: OpticalProfile
    unit: UnitTruth
    size: float

    @property
    def n(self) -> int:
        return self.profile.n_channels

    def row(self) -> int:
        return int(self.rng.integers(self.n))

    def emitter(self, count: int = 1) -> NDArray[np.int64]:
        """Emitters of which something is seen."""
        efficiency = self.unit.input_efficiency.min(axis=0)
        live = np.flatnonzero(efficiency > 0.3 * np.median(efficiency))
        return np.asarray(self.rng.choice(live, size=count, replace=False), np.int64)

    def side(self) -> int:
        return int(self.rng.integers(2))

    def sign(self) -> float:
        return float(self.rng.choice([-1.0, 1.0]))


_Change = tuple[UnitTruth, Broken, tuple[int, ...]]


def _emission(draw: _Draw, channels: NDArray[np.int64], left: float) -> UnitTruth:
    changed = {}
    for name in ("emission_slope", "emission_quadratic", "emission_cubic"):
        values = getattr(draw.unit, name).copy()
        values[:, channels] *= left
        changed[name] = values
    return replace(draw.unit, **changed)


def _emitter_dead(draw: _Draw) -> _Change:
    which = draw.emitter()
    return _emission(draw, which, 0.0), SOUND, tuple(which)


def _emitter_dim(draw: _Draw) -> _Change:
    which = draw.emitter()
    return _emission(draw, which, 1 - draw.size), SOUND, tuple(which)


def _supply_sag(draw: _Draw) -> _Change:
    return _emission(draw, np.arange(draw.n), 1 - draw.size), SOUND, ()


def _drive_stuck(draw: _Draw) -> _Change:
    which = int(draw.emitter()[0])
    return draw.unit, Broken(stuck=(which, draw.size)), (which,)


def _swapped(n: int, a: int, b: int) -> NDArray[np.int64]:
    order = np.arange(n)
    order[[a, b]] = b, a
    return order


def _drives_swapped(draw: _Draw) -> _Change:
    a, b = (int(one) for one in draw.emitter(2))
    return draw.unit, Broken(drives=_swapped(draw.n, a, b)), (a, b)


def _image_shifted(draw: _Draw) -> _Change:
    axis = draw.side()
    by_px = draw.sign() * draw.size * draw.profile.cell_px[axis]
    shift = draw.unit.shift_px.copy()
    shift[:, axis] += by_px
    return replace(draw.unit, shift_px=shift), SOUND, (axis,)


def _image_turned(draw: _Draw) -> _Change:
    turned = draw.unit.rotation_rad + draw.sign() * 1e-3 * draw.size
    return replace(draw.unit, rotation_rad=turned), SOUND, ()


def _image_flipped(draw: _Draw) -> _Change:
    others = [one for one in ("none", "rows", "columns", "both") if one != draw.profile.panel_flip]
    return draw.unit, Broken(flip=str(draw.rng.choice(others))), ()


def _defocused(draw: _Draw) -> _Change:
    blur = np.hypot(draw.unit.point_spread_px, draw.size)
    return replace(draw.unit, point_spread_px=np.asarray(blur)), SOUND, ()


def _line(part: tuple[slice, slice], level: int) -> Callable[[Levels], Levels]:
    def frame(levels: Levels) -> Levels:
        shown = levels.copy()
        shown[part] = level
        return shown

    return frame


def _panel_row_stuck(draw: _Draw) -> _Change:
    """Lines of the panel, so that both sign paths have it."""
    row, p = draw.row(), draw.profile
    top = p.path_origin_px[0][0] + row * p.cell_px[0]
    lines = slice(top, top + p.cell_px[0])
    level = round(draw.size * (p.panel_levels - 1))
    return draw.unit, Broken(frame=_line((lines, slice(None)), level)), (row,)


def _panel_column_stuck(draw: _Draw) -> _Change:
    """Columns of the panel: of one sign path."""
    column, path, p = int(draw.emitter()[0]), draw.side(), draw.profile
    left = p.path_origin_px[path][1] + column * p.cell_px[1]
    lines = slice(left, left + p.cell_px[1])
    level = round(draw.size * (p.panel_levels - 1))
    return draw.unit, Broken(frame=_line((slice(None), lines), level)), (path, column)


def _level_table_wrong(draw: _Draw) -> _Change:
    exponent = draw.unit.response_exponent * (1 + draw.size) ** draw.sign()
    return replace(draw.unit, response_exponent=exponent), SOUND, ()


def _panel_flicker(draw: _Draw) -> _Change:
    settings = {"flicker_us": FLICKER_US, **draw.unit.settings}
    return replace(draw.unit, flicker_share=np.asarray(draw.size), settings=settings), SOUND, ()


def _panel_slow(draw: _Draw) -> _Change:
    return draw.unit, Broken(panel_tau_us=draw.profile.panel_tau_us * draw.size), ()


def _shutter_closed(draw: _Draw) -> _Change:
    n = draw.n
    return draw.unit, Broken(passed=np.zeros((2, n, n)), detector_gain=np.full((2, n), draw.size)), ()


def _dust(draw: _Draw) -> _Change:
    path, row, column = draw.side(), draw.row(), int(draw.emitter()[0])
    radius = float(draw.rng.uniform(1.5, 3.0))  # cells
    y, x = np.meshgrid(np.arange(draw.n) - row, np.arange(draw.n) - column, indexing="ij")
    passed = np.ones((2, draw.n, draw.n))
    passed[path] -= draw.size * np.exp(-(y**2 + x**2) / (2 * radius**2))
    return draw.unit, Broken(passed=passed), (path, row, column)


def _ambient_light(draw: _Draw) -> _Change:
    """More on one sign path's detectors than on the other's, and more at one end of the array."""
    tilt, share = float(draw.rng.uniform(-0.4, 0.4)), float(draw.rng.uniform(0.3, 0.7))
    place = np.linspace(-1, 1, draw.n)
    seen = draw.size * np.stack([1 + tilt * place, share * (1 + tilt * place)])
    return draw.unit, Broken(detector_units=seen[:: int(draw.sign())].copy()), ()


def _detector_dead(draw: _Draw) -> _Change:
    path, row = draw.side(), draw.row()
    gain = np.ones((2, draw.n))
    gain[path, row] = 0.0
    return draw.unit, Broken(detector_gain=gain), (path, row)


def _dark_current(draw: _Draw) -> _Change:
    path, row = draw.side(), draw.row()
    current = np.zeros((2, draw.n))
    current[path, row] = draw.size
    return draw.unit, Broken(detector_units=current), (path, row)


def _row_gain(draw: _Draw) -> _Change:
    row = draw.row()
    gain = np.ones((2, draw.n))
    gain[:, row] = (1 + draw.size) ** draw.sign()
    return draw.unit, Broken(detector_gain=gain), (row,)


def _detectors_swapped(draw: _Draw) -> _Change:
    a, b = (int(one) for one in draw.rng.choice(draw.n, size=2, replace=False))
    return draw.unit, Broken(detectors=_swapped(draw.n, a, b)), (a, b)


def _crosstalk(draw: _Draw) -> _Change:
    more = draw.unit.neighbour + draw.size
    more[:, 0, 0] = more[:, -1, 1] = 0.0  # no detector there
    return replace(draw.unit, neighbour=more), SOUND, ()


def _adc_offset(draw: _Draw) -> _Change:
    return draw.unit, Broken(adc=AdcFault(offset_units=draw.sign() * draw.size)), ()


def _adc_bit(draw: _Draw) -> _Change:
    row = draw.row()
    return draw.unit, Broken(adc=AdcFault(row=row, bit=round(draw.size), held=draw.side())), (row,)


def _loop_gain(draw: _Draw) -> _Change:
    return replace(draw.unit, loop_scale=draw.unit.loop_scale * (1 + draw.size) ** draw.sign()), SOUND, ()


def _row_slow(draw: _Draw) -> _Change:
    row, ratio = draw.row(), draw.unit.tau_ratio.copy()
    ratio[row] *= draw.size
    return replace(draw.unit, tau_ratio=ratio), SOUND, (row,)


def _mains_hum(draw: _Draw) -> _Change:
    own = np.maximum(1 + 0.2 * draw.rng.standard_normal((draw.n, 1)), 0.2)
    settings = {"mains_hz": MAINS_HZ, **draw.unit.settings}
    return replace(draw.unit, mains=own * draw.size * np.array(HARMONICS), settings=settings), SOUND, ()


def _row_noisy(draw: _Draw) -> _Change:
    row, noise = draw.row(), np.ones(draw.n)
    noise[row] = draw.size
    return draw.unit, Broken(noise=noise), (row,)


def _too_warm(draw: _Draw) -> _Change:
    per_c = draw.unit.light_per_c if draw.unit.light_per_c else np.asarray(LIGHT_PER_C)
    return replace(draw.unit, light_per_c=per_c), Broken(warmer_c=draw.size), ()


def _reads_early(draw: _Draw) -> _Change:
    return draw.unit, Broken(early_us=draw.size), ()


@dataclass(frozen=True)
class PhysicalFault:
    """One row of the table: what breaks, between which sizes, in which unit, and why these."""

    name: str
    rule: Callable[[_Draw], _Change]
    low: float
    high: float
    unit: str
    source: str


# fmt: off
PHYSICAL_FAULTS: dict[str, PhysicalFault] = {one.name: one for one in (
    PhysicalFault("emitter-dead", _emitter_dead, 1, 1, "of its light lost", "[D] dead is dead"),
    PhysicalFault("emitter-dim", _emitter_dim, 0.2, 0.6, "of its light lost", "[A] end of life is 0.3 (L70)"),
    PhysicalFault("supply-sag", _supply_sag, 0.07, 0.25, "of all light lost", "[A] a supply a tenth low"),
    PhysicalFault("drive-stuck", _drive_stuck, 0.4, 1.0, "units of drive", "[A] a DAC that holds one value"),
    PhysicalFault("drives-swapped", _drives_swapped, 1, 1, "pair", "[D] two cables of the drive"),
    PhysicalFault("image-shifted", _image_shifted, 0.25, 1.0, "cells", "[A] a mount that was touched"),
    PhysicalFault("image-turned", _image_turned, 8, 20, "mrad", "[A] half a cell at the corners and more"),
    PhysicalFault("image-flipped", _image_flipped, 1, 1, "", "[D] wrong scan direction or a mirror"),
    PhysicalFault("defocused", _defocused, 3, 7, "px of blur", "[A] relay off by a few depths of field"),
    PhysicalFault("panel-row-stuck", _panel_row_stuck, 0.25, 1, "of the top level", "[A] a line driver"),
    PhysicalFault("panel-column-stuck", _panel_column_stuck, 0.25, 1, "of the top level", "[A] its driver"),
    PhysicalFault("level-table-wrong", _level_table_wrong, 0.2, 0.5, "of the exponent", "[A] another gamma"),
    PhysicalFault("panel-flicker", _panel_flicker, 0.02, 0.08, "of all light", "[A] a broken drive scheme"),
    PhysicalFault("panel-slow", _panel_slow, 3, 6, "times as slow", "[A] a panel 20 to 30 degrees colder"),
    PhysicalFault("shutter-closed", _shutter_closed, 1e-4, 1e-3, "of the light passes", "[A] a lens cap"),
    PhysicalFault("dust", _dust, 0.4, 0.9, "of the light in it", "[A] a speck, 3 to 6 cells wide"),
    PhysicalFault("ambient-light", _ambient_light, 0.3, 1.5, "units of current", "[A] room light past a lid"),
    PhysicalFault("detector-dead", _detector_dead, 1, 1, "photodiode", "[D] a broken bond of one photodiode"),
    PhysicalFault("dark-current", _dark_current, 0.2, 1.0, "units of current", "[A] a damaged photodiode"),
    PhysicalFault("row-gain", _row_gain, 0.12, 0.3, "of the gain", "[A] a feedback resistor"),
    PhysicalFault("detectors-swapped", _detectors_swapped, 1, 1, "pair", "[D] two cables of the detectors"),
    PhysicalFault("crosstalk", _crosstalk, 0.05, 0.15, "of the neighbour", "[A] moisture, or a lost shield"),
    PhysicalFault("adc-offset", _adc_offset, 0.06, 0.2, "units", "[A] 2% to 5% of full scale: a ground loop"),
    PhysicalFault("adc-stuck-bit", _adc_bit, 6, 10, "bit", "[A] 0.03 to 0.5 units of one row"),
    PhysicalFault("loop-gain", _loop_gain, 0.1, 0.3, "of the gain", "[A] a reference voltage of the gains"),
    PhysicalFault("row-slow", _row_slow, 1.4, 2.5, "times as slow", "[A] a wrong or leaking capacitor"),
    PhysicalFault("mains-hum", _mains_hum, 0.04, 0.15, "units, peak", "[A] a broken shield: 1% to 4%"),
    PhysicalFault("row-noisy", _row_noisy, 4, 15, "times the noise", "[A] an amplifier about to fail"),
    PhysicalFault("too-warm", _too_warm, 10, 25, "degrees", "[A] a fan that stands still"),
    PhysicalFault("reads-early", _reads_early, 3.5, 6.5, "us", "[A] a trigger on the wrong edge"),
)}
# fmt: on


def inject(name: str, seed: int, profile: OpticalProfile, unit: UnitTruth) -> Injected:
    """A fault drawn by seed on a bench. ConfigError for a name that is none."""
    if name not in PHYSICAL_FAULTS:
        raise ConfigError(
            f"fault {name!r} is not known{nearest(name, PHYSICAL_FAULTS)}; allowed: "
            f"{', '.join(PHYSICAL_FAULTS)}"
        )
    fault = PHYSICAL_FAULTS[name]
    rng = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(name.encode())]))
    size = float(rng.uniform(fault.low, fault.high))
    changed, broken, place = fault.rule(_Draw(rng, profile, unit, size))
    return Injected(name, seed, size, tuple(int(one) for one in place), changed, broken)
