"""Spots of a camera, measured through interfaces alone: what one unit of light gives, dark, and the pedestal.

Each sign path is opened in turn and lit at three levels of all emitters; the electronics read the same light
as photocurrent, so a spot's gain is counts for a unit of photocurrent. Then, with the program's own frame on
display, phi = 0 gives what the pedestal contributes, and phi = 1 on every input the brightest frame there is.
"""

from __future__ import annotations

import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, Camera, Hold, LoopElectronics, ProbeReadout, WeightModulator
from labctl.engines.spots import film, frame_features
from labctl.programs import by_cell, encode_frame
from labctl_calibration.flat_fields import (
    FILLED,
    FLAT_FRAMES,
    FULL,
    SEARCH_FRAMES,
    Shot,
    flat_field,
    require_bearable,
    require_unsaturated,
)

ZERO_FRAMES = 512


def calibrate_camera(
    modulator: WeightModulator,
    electronics: LoopElectronics,
    camera: Camera,
    *,
    panel_record: CalibrationRecord,
    spots: CalibrationRecord,
    exposure_us: float,
) -> CalibrationRecord:
    """Gains, dark and pedestal of the 2n spots for the frame on display; 0 us chooses the exposure.

    Flat fields are shown on the way; the frame is on display again at the end. `panel_record` is the panel's
    response and registration, `spots` the layout (`nominal_spot_record`). The record holds
    `spot_gain_counts`, `spot_dark_counts`, `gain_error` (relative) [2, n], `zero_units`, `zero_error_units`
    [n] and `spot_centre_px` [2, n, 2]. Raises ConfigError for an exposure that saturates, DeviceFault for
    spots that are not where the layout says.
    """
    n = electronics.spec.n_channels
    program = modulator.shown()
    camera.configure({**frame_features(spots), "TriggerMode": "On", "Gain": 0.0})
    exposure_us = _exposed(electronics, camera, spots, exposure_us)
    top = electronics.spec.probe_dac.max_code

    def shot(codes: NDArray[np.int64], frames: int) -> Shot:
        return _film(electronics, camera, spots, codes, "emitter", frames)

    flats = []
    for path in (0, 1):
        every_cell = np.full((n, n), 1.0 if path == 0 else -1.0)
        modulator.show(encode_frame(every_cell, modulator.spec, by_cell(panel_record)).levels)
        flats.append(flat_field(shot, camera, path, n=n, top=top, operation="calibrate_camera"))
    gains, dark = np.stack([f.gain_counts for f in flats]), np.stack([f.dark_counts for f in flats])
    modulator.show(program)
    zero = _film(electronics, camera, spots, np.zeros(n, np.int64), "phi", ZERO_FRAMES)
    light = (zero.sums - dark) / gains
    light_sd = zero.sd / gains
    return CalibrationRecord(
        kind="camera spots",
        device_serial=camera.open().serial,
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        arrays={
            "spot_gain_counts": gains,
            "spot_dark_counts": dark,
            "gain_error": np.stack([f.gain_error for f in flats]),
            "spot_centre_px": np.stack([f.centre_px for f in flats]),
            # what the loop's own trim leaves acts on the state, so it belongs to y
            "zero_units": light[0] - light[1] - zero.light_units,
            "zero_error_units": np.sqrt((light_sd**2).sum(axis=0) / ZERO_FRAMES),
        },
        settings={"exposure_us": exposure_us, "flat_frames": FLAT_FRAMES, "zero_frames": ZERO_FRAMES},
    )


def _exposed(
    electronics: LoopElectronics, camera: Camera, spots: CalibrationRecord, asked_us: float
) -> float:
    """Set the exposure: as asked if the brightest frame bears it, or as long as that allows."""
    spec, n = camera.spec, electronics.spec.n_channels
    shortest_us, longest_us = spec.exposure_range_us
    camera.configure({"ExposureTime": shortest_us})
    brightest = np.full(n, electronics.spec.probe_dac.max_code)
    peak = _film(electronics, camera, spots, brightest, "phi", SEARCH_FRAMES).peak
    room = spec.max_code - camera.settings.black_level_codes
    require_unsaturated(camera, peak, shortest_us)
    most_us = FILLED * room / max(peak, 1) * shortest_us
    chosen_us = asked_us or min(most_us, longest_us)
    require_bearable(camera, chosen_us, most_us * FULL / FILLED)
    return float(camera.configure({"ExposureTime": float(chosen_us)}).exposure_us)


def _film(
    electronics: LoopElectronics,
    camera: Camera,
    spots: CalibrationRecord,
    pattern: NDArray[np.int64],
    at: Literal["phi", "emitter"],
    frames: int,
) -> Shot:
    """Drive one pattern `frames` times; camera and electronics see the same light."""
    pitch = int(spots.array("spot_pitch_px")[0])
    codes = np.repeat(pattern[None], frames, axis=0)

    def probe(hold: Hold) -> ProbeReadout:
        return electronics.probe(codes, at=at, hold=hold)

    taken, probed = film(camera, frames, probe)
    light = probed.counts.mean(axis=0) * electronics.spec.offset_dac.units_per_code
    return Shot.of(taken, pitch, light)
