"""What a bring-up measured of the panel's half of a bench, as one immutable record."""

from __future__ import annotations

import datetime

import numpy as np

from labctl.devices import CalibrationRecord, Identity
from labctl_calibration.darks import Darks
from labctl_calibration.emitters import Emitters
from labctl_calibration.levels import Levels
from labctl_calibration.linearity import Linearity
from labctl_calibration.registration import Registration

KIND = "panel (measured)"


def measured_panel_record(
    modulator: Identity,
    darks: Darks,
    linearity: Linearity,
    emitters: Emitters,
    registration: Registration,
    levels: Levels,
) -> CalibrationRecord:
    """Everything by name, as `encode_frame` reads it; sign paths in order (positive first).

    Swapped and mirrored planes are already in the paths' maps. `channel_order` [n] ranks the input channels,
    best first; `dead_channels` says 1 where one gives no light.
    """
    paths = registration.paths
    n = paths[0].cells.n
    dead = np.zeros(n)
    dead[emitters.dead] = 1.0
    return CalibrationRecord(
        kind=KIND,
        device_serial=modulator.serial,
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        arrays={
            "cell_px": np.array(paths[0].cells.pitch_px),
            "path_middle_px": np.stack([path.cells.middle_px for path in paths]),
            "path_affine": np.stack([path.cells.affine for path in paths]),
            "path_distortion_px": np.array([path.cells.distortion_px for path in paths]),
            "path_residual_px": np.array([path.residual_px for path in paths]),
            "point_spread_px": np.array([path.blur_px for path in paths]),
            "neighbour_share": np.stack([path.neighbour for path in paths]),
            "level_knots": levels.knots.astype(np.float64),
            "level_shape": levels.shape,
            "span_units": levels.span_units,
            "span_error_units": levels.span_error,
            "zero_units": levels.zero_units,
            "full_scale_units": np.array([levels.full_scale_units]),
            "dark_units": darks.level_units,
            "window_noise_units": darks.noise_units,
            "compression_per_unit": linearity.compression,
            "emitter_slope_units": emitters.slope_units,
            "emitter_quadratic": emitters.quadratic,
            "emitter_cubic": emitters.cubic,
            "channel_order": emitters.order.astype(np.float64),
            "dead_channels": dead,
        },
        settings={"temperature_c": registration.temperature_c, "swapped_planes": registration.swapped},
    )
