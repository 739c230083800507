"""Parameter files of the published machines (48 and 16 channels) as a bench of ours.

The files hold volts and row-vector order; a unit here is `volts_per_unit` at the state, and light is in
units of what the positive path's emitters give for one unit of drive at the working point. Which key feeds
which parameter, and what the published twin adds that no file holds (the 16-channel machine's output
correction and the norms of its splitter's leakage): adm.md 2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import DataError
from labctl.physics import BenchLaw, ElectronicsCurve, LightPath, LoopErrors
from labctl_sim_devices.number_file import read_numbers

FloatArray = NDArray[np.float64]
VOLTS_PER_UNIT = 0.34
ROW = "row12"  # the row of the array that the files' per-row tables were taken on
OUTPUT_CORRECTION_16 = (0.65, 1.0)
CROSSING_NORM_16 = (0.04, 0.06)
SIGNS = ("positive", "negative")


@dataclass(frozen=True, eq=False)
class PublishedMachine:
    """One file's parameters in network units, [out, in] order; sign paths positive, negative.

    light_volts: one unit of light, in the file's volts. curve [n, 6]; emission [2, 4] cubic of the drive
    around the working point, highest power first; the rest as `LightPath` and `LoopErrors` have it.
    """

    n_channels: int
    light_volts: float
    curve: FloatArray
    emission: FloatArray
    input_efficiency: FloatArray
    weight_response: FloatArray
    output_correction: FloatArray
    splitter: FloatArray
    crossing: FloatArray | None
    neighbour: FloatArray
    darkness: FloatArray
    loop_offset: FloatArray
    loop_offset_per_gain: FloatArray
    loop_scale: FloatArray
    bias_limit_units: float

    def law(self, transmittance: FloatArray, *, splitter: bool = False) -> BenchLaw:
        """The published forward map for transmittances [2, n, n]; its splitter leakage is off by default."""
        n = self.n_channels

        def t(values: FloatArray) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64)

        path = LightPath(
            emission=t(self.emission)[:, None].expand(2, n, 4),
            droop=torch.full((2, n), torch.inf, dtype=torch.float64),
            input_efficiency=t(self.input_efficiency),
            weight_response=t(self.weight_response),
            output_correction=t(self.output_correction),
            splitter=t(self.splitter if splitter else np.zeros((2, n))),
            neighbour=t(self.neighbour),
            darkness=t(self.darkness),
            compression=torch.zeros(2, n, dtype=torch.float64),
            crossing=t(self.crossing) if splitter and self.crossing is not None else None,
            order="splitter first" if self.crossing is None else "crosstalk first",
        )
        errors = LoopErrors(
            offset=t(self.loop_offset),
            offset_per_gain=t(self.loop_offset_per_gain),
            scale=t(self.loop_scale),
            bias_limit=torch.full((n,), self.bias_limit_units, dtype=torch.float64),
            leak_scale=torch.ones(n, dtype=torch.float64),
            leak_offset=torch.zeros(n, dtype=torch.float64),
        )
        curve = ElectronicsCurve(*(t(column) for column in self.curve.T))
        return BenchLaw(path, errors, t(transmittance), 0.0, curve)

    def gain(self, beta: float) -> float:
        """The gain that the machine's beta is (light is divided by the number of channels there)."""
        return beta * self.light_volts / self.n_channels / VOLTS_PER_UNIT

    def truth(self, full_scale_units: float) -> dict[str, Any]:
        """As fields of `UnitTruth`, lists of numbers."""
        n = self.n_channels
        cubic, quadratic, slope = (np.repeat(self.emission[:, k, None], n, axis=1) for k in range(3))
        arrays: dict[str, Any] = {
            "emission_slope": slope,
            "emission_quadratic": quadratic,
            "emission_cubic": cubic,
            "input_efficiency": self.input_efficiency,
            "weight_quadratic": self.weight_response[..., 0],
            "weight_linear": self.weight_response[..., 1],
            "weight_constant": self.weight_response[..., 2],
            "output_correction": self.output_correction,
            "splitter": self.splitter,
            "neighbour": self.neighbour,
            "darkness": self.darkness,
            "curve": self.curve,
            "curve_share": np.asarray(1.0),
            "clip_lost": np.full(n, 1 - self.bias_limit_units / full_scale_units),
            "loop_offset": self.loop_offset,
            "loop_offset_per_gain": self.loop_offset_per_gain,
            "loop_scale": self.loop_scale,
        }
        if self.crossing is not None:
            arrays["crossing"] = self.crossing
        return {name: np.asarray(values).tolist() for name, values in arrays.items()}


def read_published(path: Path) -> PublishedMachine:
    """Read a parameter file of either published machine.

    Raises DataError naming the file and the key for another machine's file, a missing key, a truncated file
    or a list of the wrong length.
    """
    file = _File(path, read_numbers(path))
    large = not file.has("pbs_crosstalk", f"poly_coeffs_positive_{ROW}")
    n = len(file.numbers("row_profiles", f"positive_{ROW}"))
    if n not in (16, 48) or large != (n == 48):
        machine = "48-channel" if large else "16-channel"
        raise DataError(
            f"{path}: row_profiles.positive_{ROW} has {n} numbers in a file with the {machine} machine's "
            "splitter; allowed: 48 or 16, each with its own"
        )
    a, b, c, d, f0, *rest = file.numbers("tanh_sigmoid_coeffs", sizes=(5, 6))
    g = rest[0] if rest else 0.0
    drive_volts = (a * d + g) * VOLTS_PER_UNIT  # what phi = 1 is, by the slope at the working point
    curve = [a * VOLTS_PER_UNIT, b, c, d / drive_volts, f0 / drive_volts, g * VOLTS_PER_UNIT / drive_volts]
    led = np.array([file.numbers(f"led_poly_coeffs_{sign[:3]}", sizes=(4,)) for sign in SIGNS])
    light_volts = float(led[0, 2]) * drive_volts
    response = np.array(
        [file.table("column_wise_weights_distortion", f"{sign}_{ROW}", rows=n) for sign in SIGNS]
    )
    low, high = file.numbers("deq_input_min_max", sizes=(2,))
    if low != -high or high <= 0:
        raise DataError(f"{path}: deq_input_min_max is [{low}, {high}]; allowed: -x, x")
    ratios = [
        [file.numbers("pd_crosstalk", f"ratio_to_{where}_{sign}_{ROW}", sizes=(n,)) for sign in SIGNS]
        for where in ("earlier", "later")
    ]
    loop = _loop(file, n, light_volts) if large else (np.zeros(n), np.zeros(n), np.ones(n))
    return PublishedMachine(
        n_channels=n,
        light_volts=light_volts,
        curve=np.tile(curve, (n, 1)),
        emission=led * drive_volts ** np.arange(3, -1, -1) / light_volts,
        input_efficiency=np.array(
            [file.numbers("row_profiles", f"{sign}_{ROW}", sizes=(n,)) for sign in SIGNS]
        ),
        weight_response=response,
        output_correction=_output_correction(file, n, large),
        splitter=_splitter(file, n) if large else np.zeros((2, n)),
        crossing=None if large else _crossing(file, n),
        neighbour=np.moveaxis(np.array(ratios), 0, -1),
        darkness=response[..., 2] / light_volts,
        loop_offset=loop[0],
        loop_offset_per_gain=loop[1],
        loop_scale=loop[2],
        bias_limit_units=high / VOLTS_PER_UNIT,
    )


def _loop(file: _File, n: int, light_volts: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    name = "close_loop_offset_and_scale"
    ratio = file.number(name, "solution_to_adc_ratio")
    dc, linear, scale = (
        np.array(file.numbers(name, key, sizes=(n,))) for key in ("dc_offset", "linear_offset", "scaling")
    )
    return ratio * dc / VOLTS_PER_UNIT, ratio * linear * n / light_volts, scale


def _output_correction(file: _File, n: int, large: bool) -> FloatArray:
    if not large:
        return np.repeat(np.array(OUTPUT_CORRECTION_16)[:, None], n, axis=1)
    return np.array([file.numbers("output_correction", sign, sizes=(n,)) for sign in SIGNS])


def _splitter(file: _File, n: int) -> FloatArray:
    keys = ("negative_to_positive", "positive_to_negative")
    return np.array([file.numbers("pbs_crosstalk", key, sizes=(n,)) for key in keys])


def _crossing(file: _File, n: int) -> FloatArray:
    """Output k of a path receives a quadratic of the other's row n - k; coefficients in that row's order."""
    out = np.zeros((2, n, 3))
    for path, (sign, norm) in enumerate(zip(SIGNS, CROSSING_NORM_16, strict=True)):
        table = file.table("pbs_crosstalk", f"poly_coeffs_{sign}_{ROW}", rows=n - 1)
        direction = -1.0 if path == 0 else 1.0
        out[path, 1:] = direction * math.sqrt(2) / norm * table[::-1]
    return out


class _File:
    """A parameter file's tables, with errors that name file and key."""

    def __init__(self, path: Path, tables: dict[str, Any]) -> None:
        self._path, self._tables = path, tables

    def has(self, *keys: str) -> bool:
        """Whether there is such a key."""
        found: Any = self._tables
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                return False
            found = found[key]
        return True

    def number(self, *keys: str) -> float:
        """One number."""
        found = self._get(keys)
        if not _is_number(found):
            raise DataError(f"{self._path}: {'.'.join(keys)} is no number")
        return float(found)

    def numbers(self, *keys: str, sizes: tuple[int, ...] = ()) -> list[float]:
        """A list of numbers; of one of these sizes, where any are given."""
        found = self._get(keys)
        if not isinstance(found, list) or not all(_is_number(v) for v in found):
            raise DataError(f"{self._path}: {'.'.join(keys)} is no list of numbers")
        if sizes and len(found) not in sizes:
            allowed = " or ".join(str(size) for size in sizes)
            raise DataError(f"{self._path}: {'.'.join(keys)} has {len(found)} numbers; allowed: {allowed}")
        return [float(v) for v in found]

    def table(self, *keys: str, rows: int) -> FloatArray:
        """Rows of three numbers [rows, 3]."""
        found = self._get(keys)
        name = ".".join(keys)
        if not isinstance(found, list) or len(found) != rows:
            held = len(found) if isinstance(found, list) else "no"
            raise DataError(f"{self._path}: {name} has {held} rows; allowed: {rows}")
        for row in found:
            if not isinstance(row, list) or len(row) != 3 or not all(_is_number(v) for v in row):
                raise DataError(f"{self._path}: {name} has a row {row}; allowed: three numbers")
        return np.array(found, np.float64)

    def _get(self, keys: tuple[str, ...]) -> Any:
        if not self.has(*keys):
            raise DataError(
                f"{self._path}: key {'.'.join(keys)} is missing; expected a parameter file of the published "
                "48- or 16-channel machine"
            )
        found: Any = self._tables
        for key in keys:
            found = found[key]
        return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
