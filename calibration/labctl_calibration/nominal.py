"""Records from the data sheet, for a bench that nobody has measured yet (or an ideal one)."""

from __future__ import annotations

import numpy as np

from labctl.devices import CalibrationRecord, CameraSpec, ModulatorSpec, ProgramError, Wiring

GRATING_PERIOD_PX = 4  # of a phase panel's gratings: where the iris is
SPOT_PITCH_PX = 12  # of the relay optics: one square of pixels for each spot


def nominal_panel_record(
    spec: ModulatorSpec, n_channels: int, serial: str, wiring: Wiring | None = None
) -> CalibrationRecord:
    """Panel response and registration as designed: a parallel-aligned panel at 45 degrees, T = sin^2; mirrors
    that are on or off; or phases, 2 pi over all levels.

    The retardance runs linearly to half a wave over the levels; the panel's halves carry the sign paths,
    each an n x n grid of the largest whole cells, centred in height. wiring: where channels stand on it.
    """
    height, width = spec.shape_px
    cell = (height // n_channels, (width // 2) // n_channels)
    top = (height - n_channels * cell[0]) // 2
    left = (width // 2 - n_channels * cell[1]) // 2
    share = np.arange(spec.n_levels) / (spec.n_levels - 1)
    response = {"panel_transmittance": np.sin(0.5 * np.pi * share) ** 2}
    if spec.kind == "lcos-phase":
        response = {
            "panel_phase_rad": 2 * np.pi * np.arange(spec.n_levels) / spec.n_levels,
            "grating_period_px": np.array([GRATING_PERIOD_PX], dtype=np.float64),
        }
    return CalibrationRecord(
        kind="panel (nominal)",
        device_serial=serial,
        taken_at="data sheet",
        arrays={
            **response,
            "path_origin_px": np.array([[top, left], [top, left + width // 2]], dtype=np.float64),
            "cell_px": np.array(cell, dtype=np.float64),
            **({} if wiring is None else wiring.arrays()),
        },
    )


def nominal_spot_record(spec: CameraSpec, n_channels: int, serial: str) -> CalibrationRecord:
    """Where the spots fall by design: two rows of n squares (positive, negative paths), centred.

    Raises ProgramError where they do not fit the sensor.
    """
    height, width = spec.shape_px
    if n_channels * SPOT_PITCH_PX > width or height < 2 * SPOT_PITCH_PX:
        raise ProgramError(
            f"two rows of {n_channels} spots of {SPOT_PITCH_PX} pixels exceed a sensor of {width} x {height}"
        )
    top, left = (height - 2 * SPOT_PITCH_PX) // 2, (width - n_channels * SPOT_PITCH_PX) // 2
    return CalibrationRecord(
        kind="spots (nominal)",
        device_serial=serial,
        taken_at="data sheet",
        arrays={
            "spot_origin_px": np.array([top, left], dtype=np.float64),
            "spot_pitch_px": np.array([SPOT_PITCH_PX], dtype=np.float64),
            "spot_count": np.array([n_channels], dtype=np.float64),
        },
    )
