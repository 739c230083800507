"""The bench that panel and electronics share: one unit, one clock, one light path, one cable."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from foreign_bench.ageing import Ageing
from foreign_bench.broken import Broken
from foreign_bench.cables import Cables
from foreign_bench.draws import Draws
from foreign_bench.field import Image, PanelField
from foreign_bench.light import Light, output_matrices
from foreign_bench.unit import PANEL_PX, ForeignUnit, N, fingerprint
from labctl.devices import DeviceUnavailable

FloatArray = NDArray[np.floating]
PANEL_SETTLE_US = 20_000.0
WARM_UP_US = 60e6
AGED_EVERY_US = 1e6  # nothing that ages does so within a second
STILL_PX = 2e-3  # what an image may have moved before it is looked at again
ROOM_C, WARMER_C = 25.0, 5.0
MAINS_HZ = 50.0


class ForeignBench:
    """One bench; `seed` is the day's noise. Time is counted, not waited for. `cables`: None where each channel
    has its own place; `broken`: what is, beside the unit's constants; `ageing`: what hours do to these.
    """

    def __init__(
        self,
        unit: ForeignUnit,
        *,
        seed: int = 0,
        noise_scale: float = 1.0,
        cables: Cables | None = None,
        broken: Broken | None = None,
        ageing: Ageing | None = None,
    ) -> None:
        self._built, self._ageing, self._aged_us = unit, ageing, 0.0
        self.unit = unit if ageing is None else ageing.aged(unit, 0.0)
        self.seed, self.noise_scale, self.cables = seed, noise_scale, cables
        self.broken = Broken() if broken is None else broken
        self.now_us = 0.0
        self.emitted_units: FloatArray = np.zeros((1, N))
        self._field: PanelField | None = None
        self._image: tuple[Image, Image] | None = None  # of a panel at rest: the light, and its ripple
        self._levels = np.zeros(PANEL_PX, np.uint16)
        self._before: Image | None = None
        self._shown_us = -math.inf
        self._still: tuple[FloatArray, FloatArray] | None = None
        self._plugged = True
        self._probes = 0

    @property
    def serial(self) -> str:
        """Of the unit and the day."""
        return f"{self._built.serial}-{fingerprint(self._built)}-{self.seed}"

    def unplug(self) -> None:
        """Pull the cable."""
        self._plugged = False

    def require_plugged(self, device: str, operation: str) -> None:
        """DeviceUnavailable without the cable."""
        if not self._plugged:
            raise DeviceUnavailable("the bench does not answer", device=device, operation=operation)

    def advance(self, us: float) -> None:
        """Let time go by."""
        self.now_us += us
        if self._ageing is None or self.now_us - self._aged_us < AGED_EVERY_US:
            return
        self._aged_us = self.now_us
        self.unit = self._ageing.aged(self._built, self.now_us / 3.6e9)
        if self._field is not None and self._field.seen_by(self.unit, STILL_PX):
            self._still = None

    @property
    def temperature_c(self) -> float:
        """Of everything."""
        room_c = 0.0 if self._ageing is None else self._ageing.room_c(self.now_us / 3.6e9)
        return ROOM_C + room_c + self.broken.warmer_c - WARMER_C * math.expm1(-self.now_us / WARM_UP_US)

    def frame_changed(self, levels: NDArray[np.uint16]) -> None:
        """The panel gets another frame now; its directors begin to turn from where they are."""
        self._before = self._retardances()
        levels = levels if self.broken.frame is None else self.broken.frame(levels)
        levels = levels if self.cables is None else self.cables.frame(levels)
        self._levels, self._shown_us = levels.copy(), self.now_us
        self._still = self._image = None

    def collected(self) -> tuple[FloatArray, FloatArray]:
        """What the optics collect now [2, out, in], and its change per relative change of the retardance.

        A frame that was given its settling time stands as it will in the end.
        """
        if self._still is not None:
            return self._still
        field, image = self._optics(), self._image
        if image is None:
            retarded = self._retardances()
            image = field.intensity(retarded), field.ripple(retarded)
        found = field.matrices(image[0]), field.matrices(image[1])
        if self.now_us - self._shown_us >= self._settled_us:
            self._still, self._image, self._before = found, image, None
        return found

    def light(self, dtype: torch.dtype) -> Light:
        """The light path now; emitters lose light as they warm up."""
        warm = 1 + self.unit.warm_up * math.expm1(-self.now_us / WARM_UP_US)
        passed = 1.0 if self.broken.passed is None else self.broken.passed
        still, ripple = (warm * output_matrices(part * passed, self.unit) for part in self.collected())
        return Light(self.unit, still, ripple, dtype, self.cables, self.broken)

    def flicker(self, time_us: FloatArray, window_us: float = 0.0) -> FloatArray:
        """Mean relative change of every retardance from times on, over a window."""
        phase = 2e-6 * math.pi * self.unit.flicker_hz * (time_us + window_us / 2) + self.seed
        left = np.sinc(1e-6 * self.unit.flicker_hz * window_us)
        return np.asarray(self.unit.flicker * left * np.sin(phase))

    def hum(self, time_us: FloatArray) -> FloatArray:
        """What the mains add to every row's bias at times, units."""
        phase = 2e-6 * math.pi * MAINS_HZ * time_us + self.seed
        return np.asarray(self.unit.hum_units * np.sin(phase))

    def probe_draws(self, patterns: int) -> Draws:
        """Noise of the next queue of probes: never the same twice."""
        self._probes += 1
        return Draws.of(self.seed, 2, self._probes, np.arange(patterns))

    @property
    def _settled_us(self) -> float:
        """After the settling time of the data sheet a panel as built stands still; a slow one later."""
        return max(PANEL_SETTLE_US, 9 * max(self.unit.rise_us, self.unit.fall_us))

    def _optics(self) -> PanelField:
        if self._field is None:
            self._field = PanelField(self.unit)
        return self._field

    def _retardances(self) -> Image:
        target = self._optics().retardances(self._levels)
        passed_us = self.now_us - self._shown_us
        if self._before is None or passed_us >= self._settled_us:
            return target
        # a rising voltage pulls the directors up, and the retardance down; they fall back by themselves
        towards_us = np.where(target < self._before, self.unit.rise_us, self.unit.fall_us)
        left = np.exp(-passed_us / towards_us)
        return np.asarray(target + (self._before - target) * left, np.float32)
