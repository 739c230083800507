"""A modulator as the host loop uses it: shows signed fractions, as a frame or as a sequence of planes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, Coercion, ConfigError, ShowReceipt, WeightModulator
from labctl.programs import encode_frame, encode_planes

FloatArray = NDArray[np.float64]
Weights = Literal["frame", "pulse-width"]
WHOLE_US = 0.01  # how far from whole an exposure may be: cameras set it in steps
WEAKEST = 0.5  # of the mean cell


class WeightPanel:
    """`record` is the panel's response and registration. weights "frame" shows levels, area patterns of
    mirrors or gratings; "pulse-width" planes of `bits` magnitude bits, which need exposures of whole
    sequences.
    """

    def __init__(
        self,
        modulator: WeightModulator,
        record: CalibrationRecord,
        weights: Weights = "frame",
        bits: int = 3,
    ) -> None:
        if weights == "pulse-width" and modulator.spec.max_planes == 0:
            raise ConfigError(
                f'{modulator.name}: weights is "pulse-width", but the device shows no sequences of planes; '
                'allowed: "frame"'
            )
        self.modulator, self.record = modulator, record
        self._weights, self._bits = weights, bits
        self._share: FloatArray | None = None

    @property
    def uneven(self) -> bool:
        """Whether cells differ in what they give (speckle), and that is not yet made up for."""
        return self.modulator.spec.kind == "lcos-phase" and self._share is None

    def even_out(self, cell_gain: FloatArray) -> None:
        """From now on show every cell dimmed to what the weakest gives; cell_gain [2, n, n] is what each
        gives at full scale. Cells below `WEAKEST` of the mean stay short, which `show` says.
        """
        full_scale = max(float(cell_gain.min()), WEAKEST * float(cell_gain.mean()))
        self._share = full_scale / cell_gain

    def show(self, fractions: FloatArray) -> tuple[ShowReceipt, tuple[Coercion, ...]]:
        """Display fractions [n, n] in -1 .. 1; what was not shown as asked."""
        spec, notes = self.modulator.spec, []
        if self._share is not None:
            asked = fractions * np.where(fractions >= 0, self._share[0], self._share[1])
            fractions = np.clip(asked, -1.0, 1.0)
            short = np.abs(asked - fractions)
            if short.any():
                worst = int(short.argmax())
                most, given = float(asked.flat[worst]), float(fractions.flat[worst])
                count = int(np.count_nonzero(short))
                notes.append(Coercion("weight of a weak cell", most, given, "of full scale", count))
        if self._weights == "pulse-width":
            encoded = encode_planes(fractions, spec, self.record, self._bits)
            receipt = self.modulator.show_sequence(encoded.planes, encoded.durations_us)
            return receipt, (*notes, *encoded.coercions)
        frame = encode_frame(fractions, spec, self.record)
        return self.modulator.show(frame.levels), (*notes, *frame.coercions)

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
