"""Closed-loop errors of the rows as a record, and back."""

from __future__ import annotations

import datetime

import numpy as np
import torch

from labctl.devices import CalibrationRecord, Identity
from labctl.physics import FittedCurve
from labctl.programs import RowTrims
from labctl_calibration.closed_loop import Rows

KIND = "rows (measured)"


def rows_record(electronics: Identity, rows: Rows, *, upstream: tuple[str, ...]) -> CalibrationRecord:
    """What `measure_rows` found; units in the names."""
    curve = rows.curve
    return CalibrationRecord(
        kind=KIND,
        device_serial=electronics.serial,
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        arrays={
            "leak_scale": rows.leak_scale,
            "leak_offset": rows.leak_offset,
            "gain_scale": rows.gain_scale,
            "offset_units": rows.offset_units,
            "light_offset_units": rows.light_offset,
            "fit_residual_units": rows.residual,
            "curve_reach": curve.reach.numpy(),
            "curve_scale": curve.scale.numpy(),
            "curve_shift": curve.shift.numpy(),
            "curve_slope": curve.slope.numpy(),
            "curve_knee": curve.knee.numpy().reshape(1),
            "curve_mix": curve.mix.numpy().reshape(1),
        },
        upstream=upstream,
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
