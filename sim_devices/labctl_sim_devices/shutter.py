"""Light gathered while a shutter is open: what of a moving loop ends up in a camera's frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Triggers:
    """A queue of trigger pulses [B] and what names their random draws (conventions, section 6).

    time_us is the bench's clock at each pulse. `source`, sample [B] and step label the draws.
    """

    time_us: FloatArray
    source: str
    sample: NDArray[np.int64]
    step: int


class Shutter(Protocol):
    """What a bench's trigger line and output plane see of a camera."""

    def open_us(self, triggers: Triggers) -> tuple[FloatArray, FloatArray]:
        """When each exposure begins and ends after its trigger [B]: delays and jitter are the camera's."""
        ...

    def expose(self, triggers: Triggers, emitted_us: FloatArray) -> None:
        """Emitted light times time [B, f] (units of phi = 1, us) that fell into the exposures.

        f as the bench's `light_of` has it.
        """
        ...


class Gathered:
    """Integral of light over the exposures of a batch, the light linear between the integrator's nodes.

    begin, end [B] are in the integrator's own time, us.
    """

    def __init__(self, begin_us: FloatArray, end_us: FloatArray, features: int) -> None:
        self._begin, self._end = begin_us, end_us
        self._first, self._last = float(begin_us.min()), float(end_us.max())
        self.light_us: FloatArray = np.zeros((len(begin_us), features))

    def add(self, before_us: float, at_us: float, after_us: float, light: NDArray[np.floating]) -> None:
        """One node: light [B, n] at `at_us`, with its neighbours in time (itself where there is none)."""
        if after_us <= self._first or before_us >= self._last:
            return
        share = _hat(self._end, before_us, at_us, after_us) - _hat(self._begin, before_us, at_us, after_us)
        self.light_us += share[:, None] * light

    def rest(self, from_us: float, light: float | FloatArray) -> None:
        """From here on the emitters give `light`: one for all, or [f]."""
        self.light_us += light * np.maximum(self._end - np.maximum(self._begin, from_us), 0.0)[:, None]


def _hat(x: FloatArray, before: float, at: float, after: float) -> FloatArray:
    """Integral up to x of the function that is 1 at `at` and falls linearly to 0 at its neighbours."""
    total = np.zeros_like(x)
    if at > before:
        total += (np.clip(x, before, at) - before) ** 2 / (2 * (at - before))
    if after > at:
        past = np.clip(x, at, after) - at
        total += past - past**2 / (2 * (after - at))
    return total
