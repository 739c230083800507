"""A modulator as the host loop uses it: shows signed fractions, as a frame or as a sequence of planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, Coercion, ConfigError, ShowReceipt, WeightModulator
from labctl.programs import encode_frame, encode_planes

FloatArray = NDArray[np.float64]
Weights = Literal["frame", "pulse-width"]


@dataclass(frozen=True)
class WeightPanel:
    """`record` is the panel's response and registration. weights "frame" shows levels, or area patterns of
    mirrors; "pulse-width" planes of `bits` magnitude bits, which need exposures of whole sequences.
    """

    modulator: WeightModulator
    record: CalibrationRecord
    weights: Weights = "frame"
    bits: int = 3

    def __post_init__(self) -> None:
        if self.weights == "pulse-width" and self.modulator.spec.max_planes == 0:
            raise ConfigError(
                f'{self.modulator.name}: weights is "pulse-width", but the device shows no sequences of '
                'planes; allowed: "frame"'
            )

    def show(self, fractions: FloatArray) -> tuple[ShowReceipt, tuple[Coercion, ...]]:
        """Display fractions [n, n] in -1 .. 1; what was not shown as asked."""
        spec = self.modulator.spec
        if self.weights == "pulse-width":
            encoded = encode_planes(fractions, spec, self.record, self.bits)
            return self.modulator.show_sequence(encoded.planes, encoded.durations_us), encoded.coercions
        frame = encode_frame(fractions, spec, self.record)
        return self.modulator.show(frame.levels), frame.coercions

    def exposure_us(self, wanted_us: float) -> float:
        """The longest exposure up to `wanted_us` that sees the mean of what is on display: a whole number of
        its repetitions, at least one.
        """
        repeat_us = self.modulator.repeat_us
        return max(1, int(wanted_us / repeat_us * (1 + 1e-9))) * repeat_us if repeat_us else wanted_us

    def require_whole(self, asked_us: float, most_us: float) -> None:
        """ConfigError for an exposure that would see parts of a sequence or of a period of mirror resets."""
        repeat_us = self.modulator.repeat_us
        if not repeat_us:
            return
        times = asked_us / repeat_us
        if times < 0.5 or abs(times - round(times)) * repeat_us > WHOLE_US:
            raise ConfigError(
                f"{self.modulator.name}: exposure_us is {asked_us:g}, and what it shows repeats every "
                f"{repeat_us:g} us; allowed: whole multiples of that, 1 to "
                f"{max(1, int(most_us / repeat_us))}, or 0 for the longest"
            )


WHOLE_US = 0.01  # how far from whole an exposure may be: cameras set it in steps
