"""Where a camera has the 2n spots, from flat fields of the whole sensor: centres to sub-pixel, and a grid.

Each sign path is opened in turn with every emitter on; what is brighter than with the emitters off, in
patches as large as a spot, are the spots of that path. Their centres of light are fitted by a grid: a place
for channel 0 of either path and a step from channel to channel. A frame in which only the first half of the
outputs is lit says in which direction they are counted.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labctl.devices import (
    CalibrationRecord,
    Camera,
    ConfigError,
    DeviceFault,
    InputDrive,
    LoopElectronics,
    WeightModulator,
)
from labctl.programs import by_cell, encode_frame
from labctl_calibration.flat_fields import require_light
from labctl_calibration.lamps import Lamps
from labctl_calibration.nominal import nominal_spot_record

FloatArray = NDArray[np.float64]
KIND = "spots (measured)"
FRAMES = 4
TRIAL_LEVEL = 0.02  # of full emitter codes, to learn how bright a flat field is
FILLED = 0.7  # of the counts above black, the brightest pixel
# of a bright pixel, where a spot begins: low for units with outputs of a quarter of the light, higher where
# the image is so soft that spots touch
THRESHOLDS = (0.15, 0.3)
SMALLEST = 0.25  # of the median spot's area: less is a hot pixel
BRIGHT = 0.5  # of a spot's light in the flat field


@dataclass(frozen=True, eq=False)
class SpotRegistration:
    """centre_px [2, n, 2] (y, x; pixel edges) of both paths' spots; origin_px [2, 2] and step_px [2, 2] of
    the grid through them (channel 0, and per channel), residual_px rms around it. Taken at exposure_us with
    every emitter at emitter_code.
    """

    centre_px: FloatArray
    origin_px: FloatArray
    step_px: FloatArray
    residual_px: float
    exposure_us: float
    emitter_code: int

    @property
    def grid_px(self) -> FloatArray:
        """Places on the fitted grid [2, n, 2]."""
        along = np.arange(self.centre_px.shape[1])[None, :, None]
        return np.asarray(self.origin_px[:, None] + along * self.step_px[:, None])

    @property
    def pitch_px(self) -> float:
        """From channel to channel."""
        return float(np.hypot(*self.step_px.mean(axis=0)))

    @property
    def error_px(self) -> float:
        """Standard error of a spot's place on the grid."""
        return float(self.residual_px * np.sqrt(4 / self.centre_px[..., 0].size))

    @property
    def found(self) -> str:
        """In words."""
        turn = 1e3 * np.arctan2(self.step_px[:, 0], self.step_px[:, 1]).mean()
        return (
            f"{self.centre_px[..., 0].size} spots every {self.pitch_px:.3f} px, turned by {turn:+.2f} mrad, "
            f"each within {self.residual_px:.3f} px rms of its place; the paths are "
            f"{(self.origin_px[1] - self.origin_px[0])[0]:.2f} px apart"
        )

    def shift_px(self, design: CalibrationRecord) -> tuple[float, float]:
        """How far down and right the spots lie from where `nominal_spot_record` has them (median)."""
        pitch = float(design.array("spot_pitch_px")[0])
        path, channel = np.mgrid[:2, : self.centre_px.shape[1]]
        places = np.stack([path, channel], axis=2) + 0.5
        off = np.median(self.centre_px - design.array("spot_origin_px") - pitch * places, axis=(0, 1))
        return float(off[0]), float(off[1])

    def record(self, camera_serial: str) -> CalibrationRecord:
        """As `nominal_spot_record`, squares where the spots are; `spot_centre_px` has the centres."""
        n, pitch = self.centre_px.shape[1], round(self.pitch_px)
        # squares are whole pixels, alike on both paths: the corner that leaves the least over all spots
        corner = np.stack(
            [
                self.centre_px[..., 0] - pitch * (np.arange(2)[:, None] + 0.5),
                self.centre_px[..., 1] - pitch * (np.arange(n) + 0.5),
            ],
            axis=2,
        )
        return CalibrationRecord(
            kind=KIND,
            device_serial=camera_serial,
            taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            arrays={
                "spot_origin_px": np.rint(np.median(corner, axis=(0, 1))),
                "spot_pitch_px": np.array([float(pitch)]),
                "spot_count": np.array([float(n)]),
                "spot_centre_px": self.centre_px,
                "spot_step_px": self.step_px,
                "spot_residual_px": np.array([self.residual_px]),
            },
            settings={"exposure_us": self.exposure_us, "frames": FRAMES},
        )


def find_spots(
    modulator: WeightModulator,
    emitters: LoopElectronics | InputDrive,
    camera: Camera,
    panel_record: CalibrationRecord,
) -> SpotRegistration:
    """Three frames; `emitters` lights the panel, `panel_record` is the panel's, measured or by design. The
    panel is dark in the end.

    Raises DeviceFault where not every output has its spot on both paths or where they are counted from the
    other end, ConfigError where the shortest exposure saturates.
    """
    lamps = Lamps(emitters)
    n, top = lamps.n_channels, lamps.top
    height, width = camera.spec.shape_px
    cells = by_cell(panel_record)  # the camera sees the panel's rows, wherever their cables go
    camera.configure(
        {
            "OffsetX": 0, "OffsetY": 0, "Width": width, "Height": height, "TriggerMode": "On", "Gain": 0.0,
            "ExposureTime": camera.spec.exposure_range_us[0],
        }
    )  # fmt: skip

    def image(code: int) -> FloatArray:
        codes = np.full((FRAMES, n), code, np.int64)
        return np.asarray(lamps.film(camera, codes).counts.mean(axis=0))

    def show(fractions: FloatArray) -> None:
        modulator.show(encode_frame(fractions, modulator.spec, cells).levels)

    show(np.ones((n, n)))
    code, exposure_us = _bright(camera, image, top)
    dark = image(0)
    flat = image(code) - dark
    require_light(camera, float(np.quantile(flat, 1 - 8 * n / flat.size)), "find_spots")
    centres = [_centres(flat, n, camera, 0)]
    half = np.zeros((n, n))
    half[: n // 2] = 1.0
    show(half)
    part = image(code) - dark
    show(-np.ones((n, n)))
    centres.append(_centres(image(code) - dark, n, camera, 1))
    show(np.zeros((n, n)))
    lit = _light(part, centres[0]) > BRIGHT * _light(flat, centres[0])
    _require_in_order(lit, centres, camera)
    return _gridded(np.stack(centres), exposure_us, code)


def spots_words(camera: Camera, found: SpotRegistration, n_channels: int) -> str:
    """What was found, and how far from its design the image lies."""
    down, right = found.shift_px(nominal_spot_record(camera.spec, n_channels, "design"))
    words = (
        f"{camera.name}: {found.found}; places are good to {found.error_px:.3f} px; the image lies "
        f"{down:+.2f} px down and {right:+.2f} px right of its design"
    )
    cells = round(down / found.pitch_px), round(right / found.pitch_px)
    if any(cells):
        words += (
            f": {cells[0]:+d} and {cells[1]:+d} spots, so that by the design outputs would be taken for "
            "others"
        )
    return words


def _require_in_order(lit: NDArray[np.bool_], centres: list[FloatArray], camera: Camera) -> None:
    """DeviceFault where the image is mirrored or outputs are counted from another one. `lit` [n]: spots of
    the positive path that the first half of the outputs lights, from left to right.
    """
    n = len(lit)
    wrong = ""
    if lit[n // 2 :].mean() > lit[: n // 2].mean():
        wrong = (
            "the camera counts the outputs from the other end: its image is mirrored left to right; allowed: "
            "output 0 on the left (SFNC ReverseX, or the relay, turns it)"
        )
    elif centres[1][:, 0].mean() < centres[0][:, 0].mean():
        wrong = (
            "the negative path's spots lie above the positive path's: the image is mirrored top to bottom, "
            "or the sign planes are swapped; allowed: the positive path above (SFNC ReverseY turns the image)"
        )
    elif (lit != (np.arange(n) < n // 2)).any():
        found = ", ".join(map(str, np.flatnonzero(lit != (np.arange(n) < n // 2))[:4]))
        wrong = (
            f"outputs 0 to {n // 2 - 1} light {int(lit.sum())} spots from the left, wrong are {found}: the "
            f"panel's cells are shifted against the spots; allowed: the first {n // 2}"
        )
    if wrong:
        raise DeviceFault(wrong, device=camera.name, operation="find_spots")


def _bright(camera: Camera, image: Callable[[int], FloatArray], top: int) -> tuple[int, float]:
    """Emitter code and exposure for which the brightest pixel fills `FILLED` of its range."""
    black = camera.settings.black_level_codes
    shortest_us, longest_us = camera.spec.exposure_range_us
    room = camera.spec.max_code - black
    trial = round(TRIAL_LEVEL * top)
    peak = float(image(trial).max()) - black
    if peak >= room * FILLED:
        raise ConfigError(
            f"{camera.name}: saturated: at the shortest exposure, {shortest_us:g} us, and "
            f"{100 * TRIAL_LEVEL:g}% of the emitters' current the brightest pixel is at "
            f"{100 * peak / room:.0f}% of its range; allowed: {100 * FILLED:.0f}%; dim the spots"
        )
    code = trial * FILLED * room / max(peak, 1.0)
    wanted_us = min(shortest_us * max(code / top, 1.0), longest_us)
    return min(int(code), top), float(camera.configure({"ExposureTime": wanted_us}).exposure_us)


def _centres(image: FloatArray, n: int, camera: Camera, path: int) -> FloatArray:
    """Centres of light [n, 2] of the patches in an image, from left to right."""
    level = float(np.quantile(image, 1 - 8 * n / image.size))  # among the 8 n brightest pixels: in the spots
    for threshold in THRESHOLDS:
        labels, count = ndimage.label(image > threshold * level)
        areas = np.bincount(labels.reshape(-1))[1:]
        least = SMALLEST * np.median(areas[areas > 4]) if (areas > 4).any() else np.inf
        big = 1 + np.flatnonzero(areas > least)
        if len(big) == n:
            break
    if level <= 0 or len(big) != n:
        raise DeviceFault(
            f"{len(big)} spots on path {path}, among {count} bright patches; allowed: {n}",
            device=camera.name, operation="find_spots",
        )  # fmt: skip
    # a spot's foot lies below the threshold: weigh a margin of two pixels around the patch as well
    centres, patches = [], ndimage.find_objects(labels)
    for k in big - 1:
        rows, columns = (slice(max(s.start - 2, 0), s.stop + 2) for s in patches[k])
        weight = image[rows, columns]
        y, x = np.mgrid[rows, columns][:, : weight.shape[0], : weight.shape[1]] + 0.5
        centres.append([(weight * y).sum() / weight.sum(), (weight * x).sum() / weight.sum()])
    found = np.asarray(centres)
    return np.asarray(found[np.argsort(found[:, 1])])


def _light(image: FloatArray, centres: FloatArray) -> FloatArray:
    """Light [n] in 5 x 5 pixels around each centre."""
    return np.array([image[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].sum() for y, x in centres])


def _gridded(centres: FloatArray, exposure_us: float, emitter_code: int) -> SpotRegistration:
    n = centres.shape[1]
    design = np.column_stack([np.ones(n), np.arange(n)])
    fitted = [np.linalg.lstsq(design, path, rcond=None)[0] for path in centres]
    left = np.stack([path - design @ found for path, found in zip(centres, fitted, strict=True)])
    return SpotRegistration(
        centre_px=centres,
        origin_px=np.stack([found[0] for found in fitted]),
        step_px=np.stack([found[1] for found in fitted]),
        residual_px=float(np.sqrt((left**2).mean())),
        exposure_us=exposure_us,
        emitter_code=emitter_code,
    )
