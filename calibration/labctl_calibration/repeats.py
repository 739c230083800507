"""The standard error of a mean of few repeats, so that twice of it still means 95%."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

FloatArray = NDArray[np.float64]
TWO_SIDED = 1.96  # standard deviations of a normal that hold 95%


def standard_error(values: FloatArray) -> FloatArray:
    """Of the mean over the first axis [N, ...] of independent repeats: their scatter by Student's t.

    Scaled so that +-1.96 of it holds 95%, as whoever reads a record takes it, also where N is small.
    """
    count = len(values)
    return np.asarray(widened(count - 1) * np.asarray(values).std(axis=0, ddof=1) / np.sqrt(count))


def widened(spare: int) -> float:
    """Factor on a standard error that was estimated with so many degrees of freedom."""
    return float(t.ppf(0.975, spare)) / TWO_SIDED
