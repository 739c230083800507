"""What the panel's procedures found, to arrays of a record and back, bit for bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord
from labctl.programs import CellMap
from labctl_calibration.darks import Darks
from labctl_calibration.emitters import Emitters
from labctl_calibration.levels import Levels
from labctl_calibration.light_check import Light
from labctl_calibration.linearity import Linearity
from labctl_calibration.registration import PathRegistration, Registration

FloatArray = NDArray[np.float64]
Arrays = dict[str, FloatArray]


def of_darks(found: Darks, windows: int) -> Arrays:
    """`windows`: how many were averaged."""
    return {
        "dark_units": found.level_units,
        "dark_units_sd": found.error_units,
        "window_noise_units": found.noise_units,
        "window_noise_units_sd": found.noise_units / np.sqrt(2 * (windows - 1)),
    }


def darks_of(record: CalibrationRecord) -> Darks:
    """Back."""
    names = ("dark_units", "dark_units_sd", "window_noise_units")
    return Darks(*(record.array(name) for name in names))


def of_light(found: Light) -> Arrays:
    """Only the sides are what others rest on, and those are certain; light itself flickers."""
    sides = np.array(found.sides, np.float64)
    return {
        "sides": sides,
        "sides_sd": np.zeros(2),
        "rise_units": found.rise_units,
        "per_cell_units": np.array([found.per_cell_units]),
    }


def sides_of(record: CalibrationRecord) -> tuple[int, int]:
    """Which half of the panel feeds the positive and which the negative path."""
    positive, negative = record.array("sides")
    return int(positive), int(negative)


def of_linearity(found: Linearity) -> Arrays:
    """As named."""
    return {
        "compression_per_unit": found.compression,
        "compression_per_unit_sd": found.error,
        "largest_units": found.largest_units,
    }


def linearity_of(record: CalibrationRecord) -> Linearity:
    """Back."""
    names = ("compression_per_unit", "compression_per_unit_sd", "largest_units")
    return Linearity(*(record.array(name) for name in names))


def of_emitters(found: Emitters) -> Arrays:
    """dead_channels, weak_channels: 1 where so."""
    n = len(found.order)
    arrays = {
        "emitter_slope_units": found.slope_units,
        "emitter_slope_units_sd": found.slope_error_units,
        "emitter_quadratic": found.quadratic,
        "emitter_quadratic_sd": found.quadratic_error,
        "emitter_cubic": found.cubic,
        "emitter_cubic_sd": found.cubic_error,
        "emitter_swing": found.swing,
        "channel_order": found.order.astype(np.float64),
    }
    for name, channels in (("dead_channels", found.dead), ("weak_channels", found.weak)):
        arrays[name] = np.isin(np.arange(n), channels).astype(np.float64)
    arrays["dead_channels_sd"] = np.zeros(n)
    return arrays


def emitters_of(record: CalibrationRecord) -> Emitters:
    """Back."""
    return Emitters(
        slope_units=record.array("emitter_slope_units"),
        slope_error_units=record.array("emitter_slope_units_sd"),
        quadratic=record.array("emitter_quadratic"),
        cubic=record.array("emitter_cubic"),
        quadratic_error=record.array("emitter_quadratic_sd"),
        cubic_error=record.array("emitter_cubic_sd"),
        swing=record.array("emitter_swing"),
        dead=np.flatnonzero(record.array("dead_channels")),
        weak=np.flatnonzero(record.array("weak_channels")),
        order=record.array("channel_order").astype(np.int64),
    )


def of_registration(found: Registration) -> Arrays:
    """Both paths one below the other; standard uncertainties by the centroids' scatter."""
    paths = found.paths
    n = paths[0].cells.n
    error = np.array([path.residual_px / np.sqrt(max(2 * path.used, 1)) for path in paths])
    reach = np.array(paths[0].cells.pitch_px) * n / np.sqrt(12)  # rms distance from the middle
    return {
        "cell_px": np.array(paths[0].cells.pitch_px),
        "path_middle_px": np.stack([path.cells.middle_px for path in paths]),
        "path_middle_px_sd": np.repeat(error[:, None], 2, axis=1),
        "path_affine": np.stack([path.cells.affine for path in paths]),
        "path_affine_sd": np.broadcast_to(error[:, None, None] / reach, (2, 2, 2)).copy(),
        "path_distortion_px": np.array([path.cells.distortion_px for path in paths]),
        "path_residual_px": np.array([path.residual_px for path in paths]),
        "path_used": np.array([float(path.used) for path in paths]),
        "path_side": np.array([float(path.side) for path in paths]),
        "path_shift_px": np.stack([path.shift_px for path in paths]),
        "path_turn_mrad": np.array([path.turn_mrad for path in paths]),
        "path_mirrored": np.array([path.mirrored for path in paths], np.float64),
        "point_spread_px": np.array([path.blur_px for path in paths]),
        "neighbour_share": np.stack([path.neighbour for path in paths]),
        "temperature_c": np.array([found.temperature_c]),
    }


def registration_of(record: CalibrationRecord) -> Registration:
    """Back."""

    def path(k: int) -> PathRegistration:
        height, width = (float(v) for v in record.array("cell_px"))
        down, across = record.array("path_mirrored")[k]
        return PathRegistration(
            cells=CellMap(
                n=record.array("neighbour_share").shape[1],
                pitch_px=(height, width),
                middle_px=record.array("path_middle_px")[k],
                affine=record.array("path_affine")[k],
                distortion_px=float(record.array("path_distortion_px")[k]),
            ),
            residual_px=float(record.array("path_residual_px")[k]),
            used=int(record.array("path_used")[k]),
            neighbour=record.array("neighbour_share")[k],
            side=int(record.array("path_side")[k]),
            shift_px=record.array("path_shift_px")[k],
            turn_mrad=float(record.array("path_turn_mrad")[k]),
            mirrored=(bool(down), bool(across)),
            blur_px=float(record.array("point_spread_px")[k]),
        )

    return Registration((path(0), path(1)), float(record.array("temperature_c")[0]))


def levels_of(record: CalibrationRecord) -> Levels:
    """Of a panel's record: full scale is what nearly every cell reaches, not what programs take."""
    return Levels(
        knots=record.array("level_knots").astype(np.int64),
        shape=record.array("level_shape"),
        span_units=record.array("span_units"),
        span_error=record.array("span_units_sd"),
        zero_units=record.array("zero_units"),
        full_scale_units=float(record.array("reached_full_scale_units")[0]),
        reach=float(record.array("reach_share")[0]),
    )
