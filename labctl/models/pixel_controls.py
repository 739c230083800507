"""What a generator of pictures must beat: a Gaussian of all pixels, and the centres of k-means.

Neither knows anything of a machine. The Gaussian also gives FD* its 1 (see `picture_reference`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from labctl.devices.errors import DataError
from labctl.models.pictures import Pictures

FloatArray = NDArray[np.float64]
KMEANS_CENTRES = 100
_KMEANS_ROUNDS = 30


@dataclass(frozen=True, eq=False)
class PixelGaussian:
    """Mean [P] and a root [P, P] of the full covariance of pictures of `side` pixels a side."""

    side: int
    mean: FloatArray
    root: FloatArray

    @classmethod
    def of(cls, pictures: Pictures) -> PixelGaussian:
        """From pictures [N, side, side], N of 2 or more."""
        if len(pictures) < 2:
            raise DataError(f"pictures: {len(pictures)}; allowed: 2 or more")
        flat = pictures.reshape(len(pictures), -1).astype(np.float64)
        values, vectors = np.linalg.eigh(np.cov(flat, rowvar=False))
        return cls(pictures.shape[1], flat.mean(axis=0), vectors * np.sqrt(np.maximum(values, 0.0)))

    def draw(self, count: int, rng: np.random.Generator) -> Pictures:
        """`count` pictures [count, side, side]. Pixels outside 0..1 are set to the nearer end.

        That makes it the stronger control: dark backgrounds come out dark.
        """
        flat = self.mean + rng.standard_normal((count, len(self.mean))) @ self.root.T
        return np.clip(flat, 0.0, 1.0).astype(np.float32).reshape(count, self.side, self.side)


@dataclass(frozen=True, eq=False)
class PixelCentres:
    """Centres [k, side, side] of k-means and the share of the training pictures nearest to each [k]."""

    centres: Pictures
    shares: FloatArray

    @classmethod
    def of(cls, pictures: Pictures, *, centres: int = KMEANS_CENTRES, seed: int = 0) -> PixelCentres:
        """Lloyd's algorithm from k-means++ starts on pictures [N, side, side], N of `centres` or more."""
        if len(pictures) < centres:
            raise DataError(f"pictures: {len(pictures)}; allowed: {centres} or more, one for each centre")
        flat = pictures.reshape(len(pictures), -1).astype(np.float64)
        rng = np.random.Generator(np.random.Philox(seed))
        found, label = kmeans2(flat, centres, iter=_KMEANS_ROUNDS, minit="++", seed=rng)
        shares = np.bincount(label, minlength=centres) / len(flat)
        kept = np.clip(found, 0.0, 1.0).astype(np.float32)  # means of 0..1, but for rounding
        return cls(kept.reshape(centres, *pictures.shape[1:]), shares)

    def draw(self, count: int, rng: np.random.Generator) -> Pictures:
        """`count` centres [count, side, side], each as often as pictures are near it."""
        return self.centres[rng.choice(len(self.centres), size=count, p=self.shares)]
