"""The linear (Wiener) denoiser of a Gaussian: what a chain must beat that knows a mean and a covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WienerMachine:
    """D(x; sigma) = mean + C (C + sigma^2)^-1 (x - mean) of data of mean [d] and covariance C, exactly.

    values [d] and vectors [d, d]: eigenvalues of C and their columns. A machine for `Sampler.run`.
    """

    mean: FloatArray
    values: FloatArray
    vectors: FloatArray

    @classmethod
    def of(cls, data: FloatArray) -> WienerMachine:
        """Of the mean and covariance of data [N, d], N of 2 or more."""
        values, vectors = np.linalg.eigh(np.cov(data, rowvar=False))
        return cls(data.mean(axis=0), np.maximum(values, 0.0), vectors)

    def denoise(self, x: FloatArray, sigma: float) -> FloatArray:
        """D(x; sigma)."""
        return self._filtered(x, self._share(sigma))

    def settle(self, c: FloatArray, g: float, sigma: float, start: FloatArray) -> FloatArray:
        """The root of z = c + g D(z; sigma), in closed form."""
        share = self._share(sigma)
        constant = c + g * self.mean - g * self._filtered(self.mean[None], share, about_zero=True)
        return (constant @ self.vectors / (1 - g * share)) @ self.vectors.T

    def _share(self, sigma: float) -> FloatArray:
        return np.asarray(self.values / (self.values + sigma**2))

    def _filtered(self, x: FloatArray, share: FloatArray, *, about_zero: bool = False) -> FloatArray:
        mean = 0.0 if about_zero else self.mean
        return np.asarray(mean + ((x - mean) @ self.vectors * share) @ self.vectors.T)
