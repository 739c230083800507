"""Spots of a bench without loop electronics: emitters give known steps of light, the camera counts them.

The unit of light is one full-scale weight at phi = 1: an emitter's step of one unit through an open cell.
Removed from every frame afterwards: what is there with all emitters off (`spot_dark_counts`: black level,
dark current, stray light), and what the pedestal gives on the program's own frame (`zero_units`).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard

from labctl.devices import (
    CalibrationRecord,
    Camera,
    DeviceFault,
    Frames,
    InputDrive,
)
from labctl.engines.emitter_scale import EmitterScale
from labctl.engines.spots import frame_features, spots_of
from labctl.engines.weight_panel import WeightPanel
from labctl_calibration.flat_fields import (
    FILLED,
    FLAT_FRAMES,
    FULL,
    SEARCH_FRAMES,
    FlatField,
    Shot,
    flat_field,
    require_bearable,
    require_light,
    require_unsaturated,
)
from labctl_calibration.lamps import Lamps
from labctl_calibration.spots import find_spots

FloatArray = NDArray[np.float64]
ZERO_FRAMES = 512
PATTERN_FRAMES = 8  # of each probing pattern
OFF_FRAMES = 64
ENOUGH = 0.25  # of the range: a peak from which the exposure can be scaled to `FILLED`
MOST_RAISE = 32.0  # of the exposure from one trial to the next
DIMMED = 0.7  # of the emitters' light from one trial to the next
LEAST_CODES = 256  # a unit of phi, of the emitters' codes: with less, their rounding is all one sees
PATTERN_CODES = 16  # of patterns that are +-1 everywhere: their codes are exact
OPERATION = "calibrate_light"
STUCK = 0.5  # of a flat field on the path that is closed: more, and the panel does not switch


@dataclass(frozen=True, eq=False)
class _Film:
    """Frames of emitters that carry given codes; pitch: of the spots, px."""

    lamps: Lamps
    camera: Camera
    pitch: int

    @classmethod
    def posed(cls, drive: InputDrive, camera: Camera, spots: CalibrationRecord) -> _Film:
        """With the camera set to the spots' part of the sensor, and triggered."""
        camera.configure({**frame_features(spots), "TriggerMode": "On", "Gain": 0.0})
        return cls(Lamps(drive), camera, int(spots.array("spot_pitch_px")[0]))

    def take(self, codes: NDArray[np.int64], frames: int) -> Frames:
        """Some frames, in one go."""
        return self.lamps.film(self.camera, np.repeat(codes[None], frames, axis=0))

    def sums(self, codes: NDArray[np.int64], frames: int) -> FloatArray:
        """Counts of every spot [frames, 2, n], in as many goes as the camera needs."""
        most = self.camera.spec.max_frames
        parts = [min(most, frames - first) for first in range(0, frames, most)]
        return np.concatenate([spots_of(self.take(codes, part), self.pitch).sums for part in parts])


def calibrate_light(
    panel: WeightPanel,
    fractions: FloatArray,
    drive: InputDrive,
    camera: Camera,
    scale: EmitterScale,
    *,
    spots: CalibrationRecord,
    exposure_us: float = 0.0,
) -> CalibrationRecord:
    """Choose or check the exposure (0 us chooses) and dim the emitters if need be, then measure gain and dark
    of the 2n spots, what the pedestal gives and the effective weights of `fractions` [n, n], which are on
    display, and again in the end. `scale` is the brightest that the emitters may be; the settings say how
    bright they are (`unit_codes`, `pedestal_codes`).

    Arrays: `spot_gain_counts`, `spot_dark_counts`, `gain_error` (relative), `pedestal_units`,
    `panel_off_units` (the pedestal's light past a dark panel) [2, n], their difference `zero_units` and its
    `zero_error_units` [n], `path_fractions` [2, n, n] and their difference `effective_fractions` [n, n],
    `spot_pitch_px` [1].
    Raises DeviceFault in the dark, for a panel that does not switch and for spots that are missing or not in
    their place, ConfigError for an exposure that saturates.
    """
    n = drive.spec.n_channels
    film = _Film.posed(drive, camera, spots)
    scale, filled = _exposed(
        panel, camera, lambda codes: film.take(codes, SEARCH_FRAMES), scale, n, exposure_us
    )
    flats = [_flat(film, panel, scale, path, n) for path in (0, 1)]
    gains, dark = np.stack([f.gain_counts for f in flats]), np.stack([f.dark_counts for f in flats])
    panel.show(np.zeros((n, n)))
    off = Shot.of(film.take(scale.codes(np.zeros(n)), OFF_FRAMES), film.pitch, np.zeros(n))
    panel.show(fractions)

    def seen(phi: FloatArray, frames: int) -> tuple[FloatArray, FloatArray]:
        """Light of the spots [2, n] in units, and its variance in one frame."""
        sums = film.sums(scale.codes(phi), frames)
        return (sums.mean(axis=0) - dark) / gains, sums.var(axis=0, ddof=1) / gains**2

    rest, variance = seen(np.zeros(n), ZERO_FRAMES)
    paths = _probed(lambda phi: seen(phi, PATTERN_FRAMES)[0], n)
    return CalibrationRecord(
        kind="camera light",
        device_serial=camera.open().serial,
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        arrays={
            "spot_gain_counts": gains,
            "spot_dark_counts": dark,
            "gain_error": np.stack([f.gain_error for f in flats]),
            "panel_off_units": (off.sums - dark) / gains,
            "pedestal_units": rest,
            "zero_units": rest[0] - rest[1],
            "zero_error_units": np.sqrt(variance.sum(axis=0) / ZERO_FRAMES),
            "path_fractions": paths,
            "effective_fractions": paths[0] - paths[1],
            "spot_pitch_px": spots.array("spot_pitch_px"),
        },
        settings={
            "exposure_us": float(camera.settings.exposure_us),
            "unit_codes": scale.unit_codes,
            "pedestal_codes": scale.pedestal_codes,
            "brightest_pixel_share": filled,
            "flat_frames": FLAT_FRAMES,
            "zero_frames": ZERO_FRAMES,
            "pattern_frames": PATTERN_FRAMES,
        },
    )


def _flat(film: _Film, panel: WeightPanel, scale: EmitterScale, path: int, n: int) -> FlatField:
    """Gain and dark of one path's spots, all its cells open. DeviceFault for a panel that does not switch."""
    sign = 1.0 if path == 0 else -1.0
    panel.show(np.full((n, n), sign))

    def shot(codes: NDArray[np.int64], frames: int) -> Shot:
        light = np.full(n, sign * codes.sum() / scale.unit_codes)
        return Shot.of(film.take(codes, frames), film.pitch, light)

    flat = flat_field(shot, film.camera, path, n=n, top=film.lamps.top, operation=OPERATION)
    if flat.other_share > STUCK:
        raise DeviceFault(
            f"with path {path} alone open the other path's spots get "
            f"{100 * flat.other_share:.0f}% of its light; allowed: below {100 * STUCK:.0f}%; does "
            "the panel switch?",
            device=panel.modulator.name, operation=OPERATION,
        )  # fmt: skip
    return flat


def measure_cells(
    panel: WeightPanel,
    drive: InputDrive,
    camera: Camera,
    scale: EmitterScale,
    spots: CalibrationRecord,
) -> FloatArray:
    """What every cell at full scale gives its spot [2, n, n], relative to the mean of its row: where light is
    coherent, its speckle. Flat fields are shown; one is on display in the end.
    """
    n = drive.spec.n_channels
    film = _Film.posed(drive, camera, spots)
    out = np.empty((2, n, n))
    for path, sign in ((0, 1.0), (1, -1.0)):
        panel.show(np.full((n, n), sign))
        dim, _ = _exposed(
            panel, camera, lambda codes: film.take(codes, SEARCH_FRAMES), scale, n, 0.0, PATTERN_CODES
        )

        def counts(phi: FloatArray, dim: EmitterScale = dim) -> FloatArray:
            return np.asarray(film.sums(dim.codes(phi), PATTERN_FRAMES).mean(axis=0))

        given = _probed(counts, n)[path]
        out[path] = given / given.mean(axis=1, keepdims=True)
    return out


def _probed(seen: Callable[[FloatArray], FloatArray], n: int) -> FloatArray:
    """Both paths' weights [2, n, n] by Hadamard patterns: every frame tells of every column, so that the same
    number of frames leaves n times less variance than one emitter at a time.
    """
    patterns = hadamard(1 << (n - 1).bit_length()).astype(np.float64)[:, :n]
    rises = np.stack([(seen(row) - seen(-row)) / 2 for row in patterns])
    return np.asarray(np.einsum("kpo,ki->poi", rises, patterns) / len(patterns))


def _exposed(
    panel: WeightPanel,
    camera: Camera,
    film: Callable[[NDArray[np.int64]], Frames],
    scale: EmitterScale,
    n: int,
    asked_us: float,
    least_codes: int = LEAST_CODES,
) -> tuple[EmitterScale, float]:
    """Set the exposure that the brightest frame bears, or check the one asked for; dim the emitters where the
    shortest is too long. Of a display that repeats, whole repetitions. How bright the emitters are then, and
    how full the brightest pixel is.
    """
    shortest_us, longest_us = camera.spec.exposure_range_us
    shortest_us = max(shortest_us, panel.exposure_us(shortest_us))
    room = camera.spec.max_code - camera.settings.black_level_codes

    def peak(exposure_us: float) -> int:
        camera.configure({"ExposureTime": float(exposure_us)})
        frames = film(scale.codes(np.ones(n)))
        return int(frames.counts.max()) - frames.black_level_codes

    exposure_us, found = shortest_us, peak(shortest_us)
    while found > FILLED * room and scale.dimmed(DIMMED).unit_codes >= least_codes:
        scale = scale.dimmed(DIMMED)
        found = peak(shortest_us)
    require_unsaturated(camera, found, shortest_us)
    while found < ENOUGH * room and exposure_us < longest_us:
        raised_us = exposure_us * min(MOST_RAISE, FILLED * room / max(found, 1))
        exposure_us = panel.exposure_us(min(longest_us, raised_us))
        found = peak(exposure_us)
    # hot pixels are bright in the dark as well: light is what the emitters add
    lit, dark = film(scale.codes(np.ones(n))), film(np.zeros(n, np.int64))
    require_light(camera, float((lit.counts.mean(axis=0) - dark.counts.mean(axis=0)).max()), OPERATION)
    most_us = exposure_us * FILLED * room / found
    chosen_us = asked_us or panel.exposure_us(max(shortest_us, min(most_us, longest_us)))
    panel.require_whole(chosen_us, most_us * FULL / FILLED)
    require_bearable(camera, chosen_us, most_us * FULL / FILLED)
    return scale, peak(chosen_us) / room


class LightCalibration:
    """`calibrate_light` for an engine: finds the spots once, then measures every matrix it shows.

    `spots` are where the camera has them; None: to be found before the first matrix.
    """

    def __init__(self, spots: CalibrationRecord | None = None, exposure_us: float = 0.0) -> None:
        self.spots, self.exposure_us = spots, exposure_us

    def __call__(
        self,
        panel: WeightPanel,
        fractions: FloatArray,
        drive: InputDrive,
        camera: Camera,
        scale: EmitterScale,
    ) -> CalibrationRecord:
        """The record of `fractions` [n, n], which are on display, and again in the end."""
        if self.spots is None:
            found = find_spots(panel.modulator, drive, camera, panel.record)
            self.spots = found.record(camera.open().serial)
            panel.show(fractions)
        if panel.uneven:
            panel.even_out(measure_cells(panel, drive, camera, scale, self.spots))
            panel.show(fractions)
        return calibrate_light(
            panel, fractions, drive, camera, scale, spots=self.spots, exposure_us=self.exposure_us
        )
