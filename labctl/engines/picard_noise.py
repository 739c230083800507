"""Noise of what the host sees, through its own loop: how much of it is left in the state that it returns.

The host iterates z <- z + delta (F(z) - z) with y = W phi(z) measured anew each time, off by an independent
error of variance v, and returns the mean of K iterates. Around the root, with A = leak - gain W phi'(z),

    e <- M e + delta gain eta,    M = 1 - delta A,

so the iterates' covariance solves S = M S M^T + Q, Q = delta^2 gain^2 v, and iterates l apart have covariance
M^l S. What is the same in every frame (errors of the calibration) moves the root by A^-1 gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
CHUNK = 256  # samples worked on together
DOUBLINGS = 10  # the sum over the past in S reaches back 2^10 iterates
LEAST_LEAK = 1e-9  # added to A, so that a row that nothing holds has a huge error, not an undefined one


@dataclass(frozen=True, eq=False)
class StateNoise:
    """Predicted standard deviations of returned states [B, n], network units.

    random: new in every solve. common: of the calibration, the same in every solve of a program.
    single: of one iterate by itself.
    """

    random: FloatArray
    common: FloatArray
    single: FloatArray


@dataclass(frozen=True, eq=False)
class RelaxedLoop:
    """The host's loop around states: weights [n, n] (network units), gain [B or 1, n], leak [n], delta."""

    weights: FloatArray
    gain: FloatArray
    leak: FloatArray
    delta: float

    def noise(self, z: FloatArray, seen_var: FloatArray, common_var: FloatArray, averaged: int) -> StateNoise:
        """At states z [B, n], for variances [B, n] of y in one frame, and of what all frames share."""
        parts = [slice(i, i + CHUNK) for i in range(0, len(z), CHUNK)]
        done = [self._noise(z[p], seen_var[p], common_var[p], averaged, p) for p in parts]
        return StateNoise(*(np.sqrt(np.concatenate([d[i] for d in done])) for i in range(3)))

    def _noise(
        self, z: FloatArray, seen_var: FloatArray, common_var: FloatArray, averaged: int, part: slice
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Variances [b, n]: of the mean, of what is common, of one iterate."""
        n = z.shape[1]
        gain = np.broadcast_to(self.gain if len(self.gain) == 1 else self.gain[part], z.shape)
        slope = 1 - np.tanh(z) ** 2
        held = (self.leak + LEAST_LEAK) * np.eye(n) - gain[:, :, None] * self.weights * slope[:, None, :]
        moved = np.linalg.solve(held, gain[:, :, None] * np.eye(n))
        common = np.einsum("bij,bj->bi", moved**2, common_var)
        step = np.eye(n) - self.delta * held
        spread = (self.delta * gain) ** 2 * seen_var
        covariance = spread[:, :, None] * np.eye(n)
        power = step
        # a loop that runs away has no stationary covariance: then this is what 2^DOUBLINGS iterates leave,
        # or infinity
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(DOUBLINGS):
                covariance = covariance + power @ covariance @ power.transpose(0, 2, 1)
                power = power @ power
            lagged, summed = covariance, averaged * covariance
            for lag in range(1, averaged):
                lagged = step @ lagged
                summed = summed + (averaged - lag) * (lagged + lagged.transpose(0, 2, 1))
            mean = np.einsum("bii->bi", summed) / averaged**2
            single = np.einsum("bii->bi", covariance)
        return _whole(mean), common, _whole(single)


def _whole(variance: FloatArray) -> FloatArray:
    return np.where(np.isfinite(variance), np.maximum(variance, 0.0), np.inf)
