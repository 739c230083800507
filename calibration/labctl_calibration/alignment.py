"""Aligning a bench by eye: a pattern on the panel, all emitters on, and what the camera makes of it.

One owner looks, jogs and registers, through the interfaces alone. What is wrong (no light, a saturated
camera, spots that no grid fits) is said and looked at, not raised: it is what a person is here to mend.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
from labctl_calibration.lamps import Lamps
from labctl_calibration.nominal import nominal_spot_record
from labctl_calibration.spot_image import SpotImage, measure_spots
from labctl_calibration.spots import find_spots

FloatArray = NDArray[np.float64]
Pattern = Literal["all", "cells"]
MARGIN_PX = 24  # around the grid, in what is measured
FIRST_LEVEL = 0.02  # of full emitter codes, until a registration has found the right one
OFF_PX = 0.5  # rms of the centres around the grid: more means that another registration is due


@dataclass(frozen=True, eq=False)
class Look:
    """One frame: counts [h, w] of the whole sensor, and what was measured in it.

    top, left, counts_near [h', w']: the part around the grid. grid_px and spots.centre_px are of the whole
    sensor. residual_px: rms distance of centres to the grid; off_px (y, x): their mean. contrast: of lit and
    dark spots under the pattern "cells" (1: the panel's cells lie where the light is), NaN under "all".
    """

    counts: NDArray[np.uint16]
    top: int
    left: int
    counts_near: NDArray[np.uint16]
    grid_px: FloatArray
    pitch_px: float
    spots: SpotImage
    residual_px: float
    off_px: tuple[float, float]
    contrast: float
    saturated_px: int
    peak_share: float
    exposure_us: float
    temperature_c: float
    panel_shift_px: tuple[int, int]
    grid_shift_px: tuple[float, float]
    pattern: Pattern
    registered: bool
    said: str


@dataclass
class Alignment:
    """The bench while a person aligns it; `light` first, `dark` in the end.

    `panel_record` makes the pattern: the panel as designed, so that jogs say how far it is off.
    """

    modulator: WeightModulator
    emitters: LoopElectronics | InputDrive
    camera: Camera
    panel_record: CalibrationRecord
    pattern: Pattern = "all"
    panel_shift_px: tuple[int, int] = (0, 0)
    grid_shift_px: tuple[float, float] = (0.0, 0.0)
    registered: bool = False
    said: str = ""
    _grid_px: FloatArray = field(default_factory=lambda: np.zeros((2, 0, 2)))
    _pitch_px: float = 1.0
    _code: int = 0

    def light(self) -> None:
        """Camera to its shortest exposure on the whole sensor, pattern on; register if that can be."""
        spec, lamps = self.camera.spec, Lamps(self.emitters)
        n = lamps.n_channels
        height, width = spec.shape_px
        self.camera.configure(
            {
                "OffsetX": 0, "OffsetY": 0, "Width": width, "Height": height, "TriggerMode": "On",
                "Gain": 0.0, "ExposureTime": spec.exposure_range_us[0],
            }
        )  # fmt: skip
        design = nominal_spot_record(spec, n, "design")
        pitch = float(design.array("spot_pitch_px")[0])
        top, left = design.array("spot_origin_px")
        path, channel = np.mgrid[:2, :n]
        self._grid_px = np.stack([top + (path + 0.5) * pitch, left + (channel + 0.5) * pitch], axis=2)
        self._pitch_px = pitch
        self._code = round(FIRST_LEVEL * lamps.top)
        self.register()

    def dark(self) -> None:
        """Emitters off, panel dark: how the bench is left."""
        Lamps(self.emitters).off()
        self.modulator.show(np.zeros(self.modulator.spec.shape_px, np.uint16))

    def register(self) -> None:
        """Find the spots; the grid is where they are from then on. A refusal is said, and the grid stays."""
        try:
            found = find_spots(self.modulator, self.emitters, self.camera, self.panel_record)
        except (DeviceFault, ConfigError) as error:
            self.registered, self.said = False, f"not registered: {error}"
        else:
            self._grid_px, self._pitch_px, self._code = found.grid_px, found.pitch_px, found.emitter_code
            self.grid_shift_px = (0.0, 0.0)
            count, within = found.centre_px[..., 0].size, found.residual_px
            self.registered = True
            self.said = f"registered: {count} spots, each within {within:.3f} px rms of its place on a grid"
        self.show(self.pattern)

    def show(self, pattern: Pattern) -> None:
        """Every cell and emitter on ("all"), or every second cell and emitter, as on a chessboard ("cells").

        Under "cells" every second spot is dark where the panel lies right, and lights up as it is shifted.
        """
        n = Lamps(self.emitters).n_channels
        fractions = np.ones((n, n))
        if pattern == "cells":
            fractions = (np.indices((n, n)).sum(axis=0) % 2 == 0).astype(np.float64)
        spec = self.modulator.spec
        levels = np.maximum(
            encode_frame(fractions, spec, by_cell(self.panel_record)).levels,
            encode_frame(-fractions, spec, by_cell(self.panel_record)).levels,
        )
        self.modulator.show(_shifted(levels, self.panel_shift_px))
        self.pattern = pattern

    def jog_panel(self, down_px: int, right_px: int) -> None:
        """Shift the panel's frame by whole panel pixels; at most a cell's size from where it was designed."""
        limit = int(self.panel_record.array("cell_px").max())
        wanted = self.panel_shift_px[0] + down_px, self.panel_shift_px[1] + right_px
        if max(abs(v) for v in wanted) > limit:
            self.said = f"panel shift is {wanted[0]}, {wanted[1]} px; allowed: within {limit} px, one cell"
            return
        self.panel_shift_px = wanted
        self.show(self.pattern)

    def jog_grid(self, down_px: float, right_px: float) -> None:
        """Shift the grid over the image, in pixels of the camera."""
        self.grid_shift_px = self.grid_shift_px[0] + down_px, self.grid_shift_px[1] + right_px

    def expose(self, factor: float) -> None:
        """Multiply the exposure, within the camera's range; says where the range ends."""
        low, high = self.camera.spec.exposure_range_us
        wanted = self.camera.settings.exposure_us * factor
        if not low <= wanted <= high:
            self.said = f"exposure is {wanted:.4g} us; {self.camera.name} allows {low:g} to {high:g} us"
        self.camera.configure({"ExposureTime": float(min(max(wanted, low), high))})

    def look(self) -> Look:
        """Take one frame and measure it. The emitters are on for the exposure alone."""
        lamps = Lamps(self.emitters)
        codes = np.full((1, lamps.n_channels), self._code, np.int64)
        if self.pattern == "cells":
            codes[:, 1::2] = 0
        frames = lamps.film(self.camera, codes)
        counts, spec = frames.counts[0], self.camera.spec
        grid = self._grid_px + self.grid_shift_px
        (top, left), (height, width) = _part(grid, self._pitch_px, spec.shape_px)
        near = counts[top : top + height, left : left + width]
        spots = measure_spots(near.astype(np.float64), grid - [top, left], self._pitch_px, spec.max_code)
        spots.centre_px[...] += [top, left]
        off = spots.centre_px - grid
        lit, peaks = spots.lit.any(), spots.peak_counts
        away = np.nanmean(off, axis=(0, 1)) if lit else np.full(2, np.nan)
        black = frames.black_level_codes
        return Look(
            counts=counts,
            top=top,
            left=left,
            counts_near=near,
            grid_px=grid,
            pitch_px=self._pitch_px,
            spots=spots,
            residual_px=float(np.sqrt(np.nanmean(off**2))) if lit else float("nan"),
            off_px=(float(away[0]), float(away[1])),
            contrast=_contrast(peaks) if self.pattern == "cells" else float("nan"),
            saturated_px=int(frames.saturated_px[0]),
            peak_share=float((int(counts.max()) - black) / (spec.max_code - black)),
            exposure_us=frames.exposure_us,
            temperature_c=self.camera.temperature_c(),
            panel_shift_px=self.panel_shift_px,
            grid_shift_px=self.grid_shift_px,
            pattern=self.pattern,
            registered=self.registered,
            said=self.said,
        )


def advice(look: Look) -> str:
    """The one thing to see to first, in words; empty where all is well."""
    if look.saturated_px:
        return f"saturated: {look.saturated_px} pixels are at their largest count; lower the exposure"
    if not look.spots.lit.any():
        return "no light: no spot is lit where the grid is; a lens cap, a blank panel, or another exposure?"
    if not look.registered:
        return look.said
    if look.residual_px > OFF_PX:
        return f"centres lie {look.residual_px:.2f} px rms off the grid; register again"
    return ""


def _shifted(levels: NDArray[np.uint16], shift_px: tuple[int, int]) -> NDArray[np.uint16]:
    """A frame moved down and right by whole pixels; dark comes in at the edges."""
    down, right = shift_px
    height, width = levels.shape
    moved = np.zeros_like(levels)
    moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = levels[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return moved


def _part(
    grid_px: FloatArray, pitch_px: float, shape_px: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(top, left) and (height, width) of the grid with a margin, within the sensor."""
    low = np.floor(grid_px.min(axis=(0, 1)) - pitch_px / 2 - MARGIN_PX)
    high = np.ceil(grid_px.max(axis=(0, 1)) + pitch_px / 2 + MARGIN_PX)
    first = np.clip(low, 0, np.array(shape_px) - 1).astype(int)
    last = np.clip(high, first + 1, shape_px).astype(int)
    return (int(first[0]), int(first[1])), (int(last[0] - first[0]), int(last[1] - first[1]))


def _contrast(peak: FloatArray) -> float:
    """Of spots that should be lit (even outputs) and dark (odd ones)."""
    lit, dark = float(peak[:, ::2].mean()), float(np.maximum(peak[:, 1::2], 0.0).mean())
    return (lit - dark) / (lit + dark) if lit + dark > 0 else float("nan")
