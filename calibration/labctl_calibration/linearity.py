"""Linearity of the detectors by superposition: two groups of emitters alone, and together.

With y = i / (1 + k i) of a current i, y(A) + y(B) - y(A + B) = 2 k i_A i_B to first order; k is what makes
y / (1 - k y) add up. Nothing of the emitters enters: each gives the same light alone and in company. One path
is open at a time; what the dark one leaks is subtracted unseen, so that where it leaks 5% of the light, k
reads some 10% too high (and straightens what is seen all the better).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl_calibration.probing import Probing

FloatArray = NDArray[np.float64]
ROUNDS = 48  # of four patterns: A, both, B, neither
DIVISIONS = 4  # different pairs of groups
PASSES = 4  # each leaves some percent of what the one before left


@dataclass(frozen=True, eq=False)
class Linearity:
    """compression k [2, n] (1 / unit of photocurrent) and its standard error, of both paths' detectors;
    largest_units [2]: the largest current that went into the fit.
    """

    compression: FloatArray
    error: FloatArray
    largest_units: FloatArray

    @property
    def found(self) -> str:
        """In words."""
        lost = 100 * np.median(self.compression, axis=1) * self.largest_units
        return (
            f"detectors compress by {lost[0]:.2g}% (positive) and {lost[1]:.2g}% (negative) at "
            f"{self.largest_units.max():.3g} units"
        )

    def straightened(self, current_units: FloatArray, path: int) -> FloatArray:
        """Currents [..., n] of one path as detectors without compression would give them."""
        k = self.compression[path]
        return np.asarray(current_units / (1 - k * current_units))


def measure_linearity(probing: Probing, sides: tuple[int, int] = (0, 1)) -> Linearity:
    """Two frames (one path on each), `ROUNDS` rounds of `DIVISIONS` pairs of groups on each.

    `sides` says which half of the panel (0 = left) feeds the positive and which the negative path.
    """
    n, top = probing.spec.n_channels, probing.panel.n_levels - 1
    k, error, largest = np.zeros((2, n)), np.zeros((2, n)), np.zeros(2)
    groups = np.stack([(np.arange(n) >> bit) & 1 for bit in range(DIVISIONS)]).astype(np.float64)
    # both between A and B: what flicker changes meanwhile drops out
    patterns = np.stack([[group, np.ones(n), 1 - group, np.zeros(n)] for group in groups])
    for path, sign in ((0, 1), (1, -1)):
        probing.show_half(sides[path], top)
        drive = np.tile(patterns.reshape(-1, n), (ROUNDS, 1))
        seen = sign * probing.probe(drive).reshape(ROUNDS, DIVISIONS, 4, n)
        a, both, b, dark = seen.transpose(2, 0, 1, 3)
        missing = a + b - both - dark
        mean_a, mean_b, mean_both = (part.mean(axis=0) - dark.mean(axis=0) for part in (a, b, both))
        product = 2 * mean_a * mean_b
        weight = product / np.maximum((product**2).sum(axis=0), 1e-12)
        for _ in range(PASSES):  # until straightened currents add up
            straight = [part / (1 - k[path] * part) for part in (mean_a, mean_b, mean_both)]
            k[path] += (weight * (straight[0] + straight[1] - straight[2])).sum(axis=0)
        found = (weight * missing).sum(axis=1)
        # by successive differences: what flickers more slowly than rounds averages out of their mean as well
        error[path] = np.sqrt((np.diff(found, axis=0) ** 2).mean(axis=0) / (2 * ROUNDS))
        largest[path] = float(np.abs(mean_both).max())
    return Linearity(k, error, largest)
