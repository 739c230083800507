"""What today's examination says against the reference: differences with the sd that they have in health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from labctl_calibration.diagnosis.examining import GAIN
from labctl_calibration.diagnosis.light_model import LightModel
from labctl_calibration.diagnosis.likelihood import misfit
from labctl_calibration.drift.look import FloatArray

Arrays = Mapping[str, FloatArray]
# sd in health of readings that no record states one for: a day's wander of a bench and the probes' own noise
TEMPERATURE_C, DARK_UNITS, FLICKER, UNSETTLED = 2.5, 0.004, 0.003, 0.006
ADC_UNITS, BIT_UNITS, HUM_UNITS, LOG_NOISE, LOG_TAU, DELAY_US = 0.004, 0.0012, 0.006, 0.12, 0.015, 0.05
LOG_GAIN, ANSWER_UNITS = 0.03, 0.004
LIGHT_OWN, LIGHT_RMS = 0.01, 0.008  # of a slope: of its own size, and of all slopes' rms
OF_CHANGE = 0.12  # by how much a predicted change may be wrong


@dataclass(frozen=True, eq=False)
class Block:
    """Differences [m] of one sort, and their sd in health [m]; an element of infinite sd says nothing."""

    values: FloatArray
    sd: FloatArray

    @classmethod
    def of(cls, values: FloatArray, sd: FloatArray | float) -> Block:
        """Where a value is not a number, it says nothing."""
        known = np.isfinite(values)
        return cls(np.where(known, values, 0.0), np.where(known, sd, np.inf))

    @property
    def each(self) -> FloatArray:
        """Misfit [m] of no change at all."""
        return misfit(self.values, self.sd)


class Signs:
    """Blocks by name, and the light of today and of the reference.

    asked [n, n]: what the dense frame was to be; shown [n, n] what it is, in fractions. biases [P, n]: of the
    answers. Arrays are those of `Examination`.
    """

    def __init__(
        self, today: Arrays, reference: Arrays, shown: FloatArray, asked: FloatArray, biases: FloatArray
    ) -> None:
        self.today, self.reference = today, reference
        self.asked = asked
        self.slopes, self.before = today["slope_units"], reference["slope_units"]
        self.model = LightModel.of(self.before, shown)
        self.rms = float(np.sqrt(np.mean(self.before**2))) or 1e-9
        flicker = float(today["flicker"][0])
        rest = np.abs(today["rest_units"] - today["dark_units"])
        self.light_sd = np.sqrt(
            (LIGHT_RMS * self.rms) ** 2
            + (LIGHT_OWN * self.before) ** 2
            + (0.2 * flicker * rest[:, None]) ** 2
        )
        self.blocks = self._blocks(biases, flicker)

    def __len__(self) -> int:
        return len(self.slopes)

    def _change(self, name: str) -> FloatArray:
        return np.asarray(self.today[name] - self.reference[name])

    def _blocks(self, biases: FloatArray, flicker: float) -> dict[str, Block]:
        noise, hum = self.today["noise_units"], self.today["hum_units"]
        with np.errstate(divide="ignore", invalid="ignore"):
            log_noise = np.log(noise / self.reference["noise_units"])
            log_tau = np.log(self.today["tau_us"] / self.reference["tau_us"])
        found = {
            "temperature": (self._change("temperature_c"), TEMPERATURE_C),
            "dark": (self._change("dark_units"), DARK_UNITS),
            "flicker": (self._change("flicker"), FLICKER),
            "unsettled": (self._change("unsettled"), np.hypot(UNSETTLED, 0.3 * flicker)),
            "adc": (self._change("adc_units"), ADC_UNITS + 0.1 * hum + noise),
            "bit": (self._change("bit_units"), BIT_UNITS + 0.5 * noise + 0.05 * hum),
            "hum": (self._change("hum_units"), HUM_UNITS + 0.5 * noise),
            "noise": (log_noise, LOG_NOISE),
            "tau": (log_tau, LOG_TAU + noise),
            "delay": (self._change("delay_us"), DELAY_US),
            "gain": self._gain(biases),
        }
        return {name: Block.of(values, sd) for name, (values, sd) in found.items()}

    def _gain(self, biases: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log ratio of each row's gain in the closed loop to what it was, the day's light apart; its sd."""
        fits = []
        for arrays in (self.today, self.reference):
            answers = arrays["answer_units"]
            added = answers / arrays["line_slope"] - biases
            light = GAIN * np.tanh(answers) @ arrays["slope_units"].T
            power = np.maximum((light**2).sum(axis=0), 1e-12)
            gain = (added * light).sum(axis=0) / power
            fits.append((gain, ANSWER_UNITS / np.sqrt(power)))
        (now, sd), (before, sd_before) = fits
        good = (now > 0.05) & (before > 0.05)
        ratio = np.where(good, now / np.where(good, before, 1.0), 1.0)
        relative = np.hypot(sd / np.maximum(now, 0.05), sd_before / np.maximum(before, 0.05))
        known = good & (relative < 0.5)
        return np.log(ratio), np.where(known, np.hypot(LOG_GAIN, relative), np.inf)

    @cached_property
    def healthy(self) -> dict[str, FloatArray]:
        """Misfit of every element of every block, of no change."""
        return {name: block.each for name, block in self.blocks.items()}

    @cached_property
    def total(self) -> float:
        """Misfit of all blocks but the light, of no change."""
        return float(sum(each.sum() for each in self.healthy.values()))
