"""Spots of a camera, measured through interfaces alone: what one unit of light gives, dark, and the pedestal.

Each sign path is opened in turn and lit at three levels of all emitters; the electronics read the same light
as photocurrent, so a spot's gain is counts for a unit of photocurrent. Then, with the program's own frame on
display, phi = 0 gives what the pedestal contributes, and phi = 1 on every input the brightest frame there is.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.devices import (
    CalibrationRecord,
    Camera,
    ConfigError,
    DeviceFault,
    Hold,
    LoopElectronics,
    ProbeReadout,
    WeightModulator,
)
from labctl.engines.spots import film, frame_features, spots_of
from labctl.programs import encode_frame

FloatArray = NDArray[np.float64]
FLAT_FRAMES = 256  # of each level of each path
ZERO_FRAMES = 512
SEARCH_FRAMES = 8
FILLED = 0.8  # of the counts above black: how bright the brightest pixel gets where the exposure is chosen
FULL = 0.9  # of the counts above black: more is refused
TRIAL_LEVEL = 0.02  # of full emitter codes, to learn how bright a flat field is
WORST_CENTRE_PX = 1.5  # farther off than this, a spot is not where the layout has it
DIM = 0.5  # of the median spot: less is a spot that is not there


@dataclass(frozen=True, eq=False)
class _Shot:
    """Averages over frames of one pattern, and the brightest count above black in any of them."""

    sums: FloatArray
    current_units: FloatArray
    sd: FloatArray
    peak: int
    image: FloatArray


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
    gains, dark, errors = np.empty((2, n)), np.empty((2, n)), np.empty((2, n))
    centres = np.empty((2, n, 2))
    for path in (0, 1):
        every_cell = np.full((n, n), 1.0 if path == 0 else -1.0)
        modulator.show(encode_frame(every_cell, modulator.spec, panel_record).levels)
        gains[path], dark[path], errors[path], centres[path] = _flat(electronics, camera, spots, path)
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
            "gain_error": errors,
            "spot_centre_px": centres,
            # what the loop's own trim leaves acts on the state, so it belongs to y
            "zero_units": light[0] - light[1] - zero.current_units,
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
    most_us = FILLED * room / max(peak, 1) * shortest_us
    if most_us < shortest_us:
        raise ConfigError(
            f"{camera.name}: saturated: at the shortest exposure, {shortest_us:g} us, the brightest pixel "
            f"reaches {100 * peak / room:.0f}% of its range; allowed: {100 * FILLED:.0f}%; dim the spots"
        )
    chosen_us = asked_us or min(most_us, longest_us)
    most_us *= FULL / FILLED
    if chosen_us > most_us:
        raise ConfigError(
            f"{camera.name}: saturated: exposure_us is {asked_us:g}, and the brightest spot fills "
            f"{100 * FULL:.0f}% of a pixel's range in {most_us:.4g} us; "
            f"allowed: {shortest_us:g} to {most_us:.4g} us, or 0 for the longest"
        )
    return float(camera.configure({"ExposureTime": float(chosen_us)}).exposure_us)


def _flat(
    electronics: LoopElectronics, camera: Camera, spots: CalibrationRecord, path: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Gain, dark, relative error of the gain [n] and centre [n, 2] of the spots of one path."""
    n, top = electronics.spec.n_channels, electronics.spec.probe_dac.max_code
    trial = round(TRIAL_LEVEL * top)
    room = camera.spec.max_code - camera.settings.black_level_codes
    peak = _film(electronics, camera, spots, np.full(n, trial), "emitter", SEARCH_FRAMES).peak
    level = min(top, int(trial * FILLED * room / max(peak, 1)))
    shots = [
        _film(electronics, camera, spots, np.full(n, code), "emitter", FLAT_FRAMES)
        for code in (0, level // 2, level)
    ]
    dark, sign = shots[0].sums[path], 1 if path == 0 else -1
    light = np.stack([sign * (shot.current_units - shots[0].current_units) for shot in shots[1:]])
    rise = np.stack([shot.sums[path] - dark for shot in shots[1:]])
    gain = (rise * light).sum(axis=0) / (light**2).sum(axis=0)
    weak = np.flatnonzero(~(gain > DIM * np.median(gain)))
    if len(weak):
        raise DeviceFault(
            f"no spot of output {weak[0]} on path {path}: {gain[weak[0]]:.4g} counts a unit of light, the "
            f"median has {np.median(gain):.4g}; allowed: {100 * DIM:.0f}% of that or more",
            device=camera.name, operation="calibrate_camera",
        )  # fmt: skip
    variance = sum((shot.sd[path] * part) ** 2 for shot, part in zip(shots[1:], light, strict=True))
    error = np.sqrt(variance / FLAT_FRAMES) / (light**2).sum(axis=0) / gain
    return gain, dark, np.asarray(error), _centres(shots[2].image - shots[0].image, camera, path)


def _centres(image: FloatArray, camera: Camera, path: int) -> FloatArray:
    """Centres of light [n, 2] (row, column) in the squares of one path, pixels from each square's middle."""
    squares = image[path]  # [pitch, n, pitch]
    pitch = squares.shape[0]
    from_middle = np.arange(pitch) - (pitch - 1) / 2
    total = squares.sum(axis=(0, 2))
    centre = np.stack(
        [
            (squares.sum(axis=2) * from_middle[:, None]).sum(axis=0) / total,
            (squares.sum(axis=0) * from_middle).sum(axis=1) / total,
        ],
        axis=1,
    )
    off = np.abs(centre).max(axis=1)
    if not off.max() <= WORST_CENTRE_PX:
        raise DeviceFault(
            f"the spot of output {int(np.argmax(off))} on path {path} is {off.max():.2g} pixels from its "
            f"place; allowed: {WORST_CENTRE_PX:g}",
            device=camera.name, operation="calibrate_camera",
        )  # fmt: skip
    return centre


def _film(
    electronics: LoopElectronics,
    camera: Camera,
    spots: CalibrationRecord,
    pattern: NDArray[np.int64],
    at: Literal["phi", "emitter"],
    frames: int,
) -> _Shot:
    """Drive one pattern `frames` times; camera and electronics see the same light."""
    pitch = int(spots.array("spot_pitch_px")[0])
    codes = np.repeat(pattern[None], frames, axis=0)

    def probe(hold: Hold) -> ProbeReadout:
        return electronics.probe(codes, at=at, hold=hold)

    taken, probed = film(camera, frames, probe)
    sums = spots_of(taken, pitch).sums
    image = taken.counts.mean(axis=0).reshape(2, pitch, -1, pitch)
    return _Shot(
        sums=sums.mean(axis=0),
        current_units=probed.counts.mean(axis=0) * electronics.spec.offset_dac.units_per_code,
        sd=sums.std(axis=0, ddof=1),
        peak=int(taken.counts.max()) - taken.black_level_codes,
        image=image,
    )
