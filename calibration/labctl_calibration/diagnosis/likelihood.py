"""How well a prediction fits readings: squares near by, logarithms far out: no element decides alone."""

from __future__ import annotations

import numpy as np

from labctl_calibration.drift.look import FloatArray

CORE = 5.0  # sd up to which a miss counts by its square
ASIDE = 1.0  # misfit of an element that is left out: a usual one's
MOST_BEYOND = 100.0


def misfit(left: FloatArray, sd: FloatArray | float) -> FloatArray:
    """-2 log likelihood of each element, up to a constant, of what is left of it and its sd."""
    away = np.abs(left / sd)
    far = np.maximum(away, CORE)
    return np.asarray(np.where(away <= CORE, away**2, CORE**2 * (1 + 2 * np.log(far / CORE))))


def beyond(size: float, low: float, high: float) -> float:
    """-2 log of how plausible a size is: 0 within what such a fault does, growing outside (an eighth of the
    nearer end is one sd), to `MOST_BEYOND`.
    """
    end = low if size < low else high
    away = max(low - size, size - high, 0.0)
    return min((away / max(0.125 * abs(end), 0.02 * abs(high - low), 1e-9)) ** 2, MOST_BEYOND)


def of_places(count: int) -> float:
    """-2 log of a place's share where it may be any of so many."""
    return 2 * float(np.log(max(count, 1)))
