"""Spots of a bench without loop electronics: emitters give known steps of light, the camera counts them.

The unit of light is one full-scale weight at phi = 1: an emitter's step of one unit through an open cell.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, Camera, ConfigError, DeviceFault, InputDrive, WeightModulator
from labctl.engines.spots import frame_features, spots_of
from labctl.programs import encode_frame

FloatArray = NDArray[np.float64]
FRAMES = 64  # of each pattern
ZERO_FRAMES = 256
SEARCH_FRAMES = 4
TRIAL = 0.02  # of the brightest codes, to learn how bright an open panel is
FILLED = 0.8  # of the counts above black, for the brightest pixel
LEAST_COUNTS = 4  # above black at the longest exposure: less is a bench in the dark
DIM = 0.5  # of the median spot: less is a spot that is not there


def calibrate_light(
    modulator: WeightModulator,
    drive: InputDrive,
    camera: Camera,
    codes_of: Callable[[FloatArray], NDArray[np.int64]],
    *,
    panel_record: CalibrationRecord,
    spots: CalibrationRecord,
    exposure_us: float,
) -> CalibrationRecord:
    """Gain and dark of the 2n spots, what the pedestal alone gives, and the effective weights of the frame on
    display; 0 us chooses the exposure. `codes_of` turns phi [B, n] into emitter codes, pedestal added.

    Arrays: `spot_gain_counts`, `spot_dark_counts` [2, n], `zero_units`, `noise_units` (of one
    frame) [n], `effective_fractions` [n, n].
    Raises DeviceFault in the dark or where spots are missing, ConfigError for an exposure that saturates.
    """
    n, pitch = drive.spec.n_channels, int(spots.array("spot_pitch_px")[0])
    program = modulator.shown()
    camera.configure({**frame_features(spots), "TriggerMode": "Off", "Gain": 0.0})

    def film(codes: NDArray[np.int64], frames: int) -> tuple[FloatArray, int]:
        drive.drive(codes[None])
        taken = camera.acquire(frames)
        return spots_of(taken, pitch).sums.mean(axis=0), int(taken.counts.max()) - taken.black_level_codes

    bright = codes_of(np.ones((1, n)))[0]
    exposure_us = _exposed(camera, lambda: film(bright, SEARCH_FRAMES)[1], exposure_us)
    gains, dark = np.empty((2, n)), np.empty((2, n))
    room = camera.spec.max_code - camera.settings.black_level_codes
    codes_a_unit = float((bright - codes_of(-np.ones((1, n)))[0]).mean() / 2)
    for path, fraction in ((0, 1.0), (1, -1.0)):
        modulator.show(encode_frame(np.full((n, n), fraction), modulator.spec, panel_record).levels)
        dark[path] = film(np.zeros(n, np.int64), FRAMES)[0][path]
        trial, peak = np.rint(TRIAL * bright).astype(np.int64), 1
        peak = max(1, film(trial, SEARCH_FRAMES)[1])
        level = np.minimum(bright, np.rint(trial * FILLED * room / peak)).astype(np.int64)
        gains[path] = (film(level, FRAMES)[0][path] - dark[path]) / (level.sum() / codes_a_unit)
        weak = np.flatnonzero(~(gains[path] > DIM * np.median(gains[path])))
        if len(weak) or np.median(gains[path]) <= 0:
            raise DeviceFault(
                f"no spot of output {int(weak[0]) if len(weak) else 0} on path {path}: it hardly answers to "
                f"light; allowed: {100 * DIM:.0f}% of the median spot or more",
                device=camera.name, operation="calibrate_light",
            )  # fmt: skip
    modulator.show(program)

    def seen(codes: NDArray[np.int64], frames: int) -> FloatArray:
        light = (film(codes, frames)[0] - dark) / gains
        return np.asarray(light[0] - light[1])

    zero = seen(codes_of(np.zeros((1, n)))[0], ZERO_FRAMES)
    light = spots_of(camera.acquire(ZERO_FRAMES), pitch).sums / gains
    noise = (light[:, 0] - light[:, 1]).std(axis=0, ddof=1)
    eye = np.eye(n)
    columns = [
        (seen(codes_of(row[None])[0], FRAMES) - seen(codes_of(-row[None])[0], FRAMES)) / 2 for row in eye
    ]
    return CalibrationRecord(
        kind="camera light",
        device_serial=camera.open().serial,
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        arrays={
            "spot_gain_counts": gains,
            "spot_dark_counts": dark,
            "zero_units": zero,
            "noise_units": noise,
            "effective_fractions": np.stack(columns, axis=1),
        },
        settings={"exposure_us": exposure_us, "frames": FRAMES, "zero_frames": ZERO_FRAMES},
    )


def _exposed(camera: Camera, peak: Callable[[], int], asked_us: float) -> float:
    """Set the exposure that the brightest frame bears, or check the one asked for."""
    shortest_us, longest_us = camera.spec.exposure_range_us
    room = camera.spec.max_code - camera.settings.black_level_codes
    camera.configure({"ExposureTime": shortest_us})
    brightest = peak()
    if brightest >= room:
        raise ConfigError(
            f"{camera.name}: saturated at the shortest exposure, {shortest_us:g} us; allowed: less light"
        )
    most_us = shortest_us * FILLED * room / max(brightest, 1)
    camera.configure({"ExposureTime": float(asked_us or min(most_us, longest_us))})
    found = peak()
    if found < LEAST_COUNTS * 10:
        raise DeviceFault(
            f"all dark: with every emitter on the brightest pixel is {found} counts above "
            f"black; allowed: {LEAST_COUNTS * 10} or more; is the lens cap on?",
            device=camera.name, operation="calibrate_light",
        )  # fmt: skip
    if found >= room:
        raise ConfigError(
            f"{camera.name}: saturated: exposure_us is {asked_us:g}; allowed: {most_us:.4g} us or less, or 0"
        )
    return float(camera.settings.exposure_us)
