"""How much of what a machine does its fitted twin predicts: shares of variance, noise subtracted.

Every held-out probe is run twice, at different times, so that the noise of the two is independent and its
products vanish in the mean: signal and misfit are products of the two runs, not squares of one. Slow noise
that both runs share is not subtracted and counts against the twin. Where noise moves the mean of what a
machine does, the twin's prediction is its own mean under noise, drawn twice as well: a finite number of draws
then neither helps nor hurts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
GATE = 0.99  # of the variance of live channels
SETTLE_WITHIN = 0.10  # of the measured settle time
PARTS = 16  # of the probes, one left out at a time


@dataclass(frozen=True, eq=False)
class Agreement:
    """share: of all channels' variance that is predicted, with standard error sd; channels [n]: of each
    one's; noise: variance of a probe's own, mean over channels.
    """

    share: float
    sd: float
    channels: FloatArray
    noise: float


def agreement(
    first: FloatArray, second: FloatArray, predicted: FloatArray, again: FloatArray | None = None
) -> Agreement:
    """Of two runs [P, n] of the same probes and what was predicted [P, n]; `again`: by other draws.

    share = 1 - sum (first - p)(second - p) / sum (first - <first>)(second - <second>), over probes and
    channels; with p and p' of other draws, the mean of (first - p)(second - p') and (first - p')(second - p).
    The error is the jackknife's (Efron 1982), `PARTS` parts of the probes left out one at a time.
    """
    other = predicted if again is None else again
    misfit = ((first - predicted) * (second - other) + (first - other) * (second - predicted)) / 2

    def shares(keep: NDArray[np.int64]) -> tuple[float, FloatArray]:
        one, other = (run[keep] - run[keep].mean(axis=0) for run in (first, second))
        signal, missed = (one * other).sum(axis=0), misfit[keep].sum(axis=0)
        return float(1 - missed.sum() / signal.sum()), 1 - missed / signal

    every = np.arange(len(first))
    share, channels = shares(every)
    left_out = np.array([shares(every[every % PARTS != part])[0] for part in range(PARTS)])
    sd = float(np.sqrt((PARTS - 1) * left_out.var()))
    return Agreement(share, sd, channels, float(((first - second) ** 2).mean() / 2))
