"""Flat fields of a camera's spots: every emitter alike through one open sign path, at three levels.

Whoever drives the emitters knows how much light that is: as photocurrent, or as steps of their current.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Camera, ConfigError, DeviceFault, Frames
from labctl.engines.spots import spots_of

FloatArray = NDArray[np.float64]
FLAT_FRAMES = 256  # of each level of each path
SEARCH_FRAMES = 8
FILLED = 0.8  # of the counts above black: how bright the brightest pixel gets where the exposure is chosen
FULL = 0.9  # of the counts above black: more is refused
TRIAL_LEVEL = 0.02  # of full emitter codes, to learn how bright a flat field is
WORST_CENTRE_PX = 1.5  # farther off than this, a spot is not where the layout has it
LEAST = 0.01  # of the counts above black: less light in a pixel is a bench in the dark
DIM = 0.5  # of the median spot: less is a spot that is not there


@dataclass(frozen=True, eq=False)
class Shot:
    """Averages over frames of one pattern, and the brightest count above black in any of them.

    sums [2, n]: counts of the spots, sd [2, n] of one frame. light_units [n]: what the driver of the
    emitters knows of the light, positive minus negative path, units of a full-scale weight at phi = 1.
    image [2, pitch, n, pitch].
    """

    sums: FloatArray
    light_units: FloatArray
    sd: FloatArray
    peak: int
    image: FloatArray

    @classmethod
    def of(cls, frames: Frames, pitch: int, light_units: FloatArray) -> Shot:
        """The frames of one pattern, spots in squares of `pitch` pixels."""
        sums = spots_of(frames, pitch).sums
        return cls(
            sums=sums.mean(axis=0),
            light_units=light_units,
            sd=sums.std(axis=0, ddof=1),
            peak=int(frames.counts.max()) - frames.black_level_codes,
            image=frames.counts.mean(axis=0).reshape(2, pitch, -1, pitch),
        )


Film = Callable[[NDArray[np.int64], int], Shot]  # emitter codes [n] and a number of frames


@dataclass(frozen=True, eq=False)
class FlatField:
    """Of the spots of one path: gain_counts a unit of light, dark_counts, gain_error (relative) [n];
    centre_px [n, 2] (row, column) from each square's middle; other_share: light that the other path's spots
    have got of it.
    """

    gain_counts: FloatArray
    dark_counts: FloatArray
    gain_error: FloatArray
    centre_px: FloatArray
    other_share: float


def flat_field(film: Film, camera: Camera, path: int, *, n: int, top: int, operation: str) -> FlatField:
    """Measure the spots of the path that is open. `top` is the largest emitter code.

    Raises DeviceFault for spots that are missing or not where the layout says.
    """
    trial = round(TRIAL_LEVEL * top)
    room = camera.spec.max_code - camera.settings.black_level_codes
    peak = film(np.full(n, trial), SEARCH_FRAMES).peak
    level = min(top, int(trial * FILLED * room / max(peak, 1)))
    shots = [film(np.full(n, code), FLAT_FRAMES) for code in (0, level // 2, level)]
    dark = shots[0].sums[path]
    sign = 1 if path == 0 else -1
    light = np.stack([sign * (shot.light_units - shots[0].light_units) for shot in shots[1:]])
    rise = np.stack([shot.sums[path] - dark for shot in shots[1:]])
    gain = (rise * light).sum(axis=0) / (light**2).sum(axis=0)
    weak = np.flatnonzero(~(gain > DIM * np.median(gain)))
    if len(weak):
        raise DeviceFault(
            f"no spot of output {weak[0]} on path {path}: {gain[weak[0]]:.4g} counts a unit of light, the "
            f"median has {np.median(gain):.4g}; allowed: {100 * DIM:.0f}% of that or more",
            device=camera.name, operation=operation,
        )  # fmt: skip
    variance = sum((shot.sd[path] * part) ** 2 for shot, part in zip(shots[1:], light, strict=True))
    error = np.sqrt(variance / FLAT_FRAMES) / (light**2).sum(axis=0) / gain
    other = (shots[2].sums[1 - path] - shots[0].sums[1 - path]).sum() / rise[1].sum()
    centres = _centres(shots[2].image - shots[0].image, camera, path, operation)
    return FlatField(gain, dark, np.asarray(error), centres, float(other))


def _centres(image: FloatArray, camera: Camera, path: int, operation: str) -> FloatArray:
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
            device=camera.name, operation=operation,
        )  # fmt: skip
    return centre


def require_light(camera: Camera, counts: float, operation: str) -> None:
    """DeviceFault where every emitter together brings the brightest pixel too few counts of light."""
    least = LEAST * (camera.spec.max_code - camera.settings.black_level_codes)
    if counts < least:
        raise DeviceFault(
            f"all dark: with every emitter on, {camera.settings.exposure_us:.4g} us bring the brightest "
            f"pixel {counts:.1f} counts of light; allowed: {least:.0f} or more; is the lens cap on, is the "
            "panel blank?",
            device=camera.name, operation=operation,
        )  # fmt: skip


def require_unsaturated(camera: Camera, peak: int, shortest_us: float) -> None:
    """ConfigError where `peak` (counts above black) at the shortest exposure leaves no room."""
    room = camera.spec.max_code - camera.settings.black_level_codes
    if peak > FILLED * room:
        raise ConfigError(
            f"{camera.name}: saturated: at the shortest exposure, {shortest_us:g} us, the brightest "
            f"pixel reaches {100 * peak / room:.0f}% of its range; "
            f"allowed: {100 * FILLED:.0f}%; dim the spots"
        )


def require_bearable(camera: Camera, asked_us: float, most_us: float) -> None:
    """ConfigError for an exposure longer than the one at which the brightest frame is as full as allowed."""
    if asked_us > most_us:
        raise ConfigError(
            f"{camera.name}: saturated: exposure_us is {asked_us:g}, and the brightest spot fills "
            f"{100 * FULL:.0f}% of a pixel's range in {most_us:.4g} us; "
            f"allowed: {camera.spec.exposure_range_us[0]:g} to {most_us:.4g} us, or 0 for the longest"
        )
