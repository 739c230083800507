"""Closed-loop errors of the rows as a record, and back."""

from __future__ import annotations

import datetime

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, Identity
from labctl.physics import FittedCurve, FittedLoop, FittedMap
from labctl.programs import RowTrims
from labctl_calibration.closed_loop import Rows
from labctl_calibration.row_errors import Relative

KIND = "rows (measured)"
RELATIVE = {
    "relative_gain": "gain", "relative_gain_sd": "gain_error",
    "relative_slope": "slope", "relative_slope_sd": "slope_error",
}  # fmt: skip
OPEN = ("leak_scale", "leak_offset", "offset_units")  # known without the loop


def rows_record(electronics: Identity, rows: Rows, *, upstream: tuple[str, ...]) -> CalibrationRecord:
    """What `measure_rows` found; units in the names."""
    return CalibrationRecord(
        kind=KIND,
        device_serial=electronics.serial,
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        arrays=rows_arrays(rows),
        upstream=upstream,
    )


def rows_arrays(rows: Rows) -> dict[str, NDArray[np.float64]]:
    """By name, as `rows_of` reads them."""
    curve = rows.curve
    arrays = {
        "leak_scale": rows.leak_scale,
        "leak_offset": rows.leak_offset,
        "offset_units": rows.offset_units,
        "gain_scale": rows.gain_scale,
        "light_offset_units": rows.light_offset,
        "fit_residual_units": rows.residual,
        "curve_reach": curve.reach.numpy(),
        "curve_scale": curve.scale.numpy(),
        "curve_shift": curve.shift.numpy(),
        "curve_slope": curve.slope.numpy(),
        "curve_knee": curve.knee.numpy().reshape(1),
        "curve_mix": curve.mix.numpy().reshape(1),
    }
    if rows.open_error is not None:
        arrays |= {f"{name}_sd": error for name, error in zip(OPEN, rows.open_error, strict=True)}
    if rows.relative is not None:
        arrays |= {name: getattr(rows.relative, field) for name, field in RELATIVE.items()}
    return arrays


def rows_of(record: CalibrationRecord) -> Rows:
    """Back."""
    told = all(name in record.arrays for name in RELATIVE)
    known = all(f"{name}_sd" in record.arrays for name in OPEN)
    return Rows(
        leak_scale=record.array("leak_scale"),
        leak_offset=record.array("leak_offset"),
        offset_units=record.array("offset_units"),
        gain_scale=record.array("gain_scale"),
        light_offset=record.array("light_offset_units"),
        curve=curve_of(record),
        residual=record.array("fit_residual_units"),
        open_error=np.stack([record.array(f"{name}_sd") for name in OPEN]) if known else None,
        relative=Relative(**{field: record.array(name) for name, field in RELATIVE.items()})
        if told
        else None,
    )


def trims_of(record: CalibrationRecord) -> RowTrims:
    """What the engine takes out of its tables."""
    return RowTrims(
        leak_scale=record.array("leak_scale"),
        leak_offset=record.array("leak_offset"),
        gain_scale=record.array("gain_scale"),
        offset_units=record.array("offset_units"),
        light_offset_units=record.array("light_offset_units"),
    )


def trims_of_rows(rows: Rows) -> RowTrims:
    """The same, of rows just measured."""
    return RowTrims(
        leak_scale=rows.leak_scale,
        leak_offset=rows.leak_offset,
        gain_scale=rows.gain_scale,
        offset_units=rows.offset_units,
        light_offset_units=rows.light_offset,
    )


def curve_of(record: CalibrationRecord) -> FittedCurve:
    """The electronics' curve of every channel."""

    def values(name: str) -> torch.Tensor:
        return torch.from_numpy(np.array(record.array(name)))

    return FittedCurve(
        reach=values("curve_reach"),
        scale=values("curve_scale"),
        shift=values("curve_shift"),
        slope=values("curve_slope"),
        knee=values("curve_knee").reshape(()),
        mix=values("curve_mix").reshape(()),
    )


def loop_of(powers: NDArray[np.float64], rows: Rows, full_scale_units: float = 1.0) -> FittedLoop:
    """The loop by a probed map, powers [K, n, n] in units, and the rows measured with it; light is then in
    units of `full_scale_units`.
    """

    def tensor(values: NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(np.array(values, np.float64))

    light = FittedMap(
        tensor(powers / full_scale_units), rows.curve, tensor(rows.light_offset / full_scale_units)
    )
    return FittedLoop(
        light, tensor(rows.leak_scale), tensor(rows.leak_offset), tensor(rows.gain_scale * full_scale_units),
        tensor(rows.offset_units),
    )  # fmt: skip
