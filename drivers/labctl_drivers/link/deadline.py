"""Finite time-outs: a moment by which something must be over, handed down through every call."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Self

from labctl.devices import ConfigError


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock, and how long after its beginning it lies."""

    at_s: float
    total_s: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """So long from now. ConfigError unless the time is finite and above 0."""
        if not (math.isfinite(seconds) and seconds > 0):
            raise ConfigError(f"a time-out of {seconds:g} s; allowed: finite and above 0")
        return cls(time.monotonic() + seconds, seconds)

    @property
    def left_s(self) -> float:
        """Seconds left; 0 once it is over."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return time.monotonic() >= self.at_s
