"""How near samples are to data: energy distance and what stands beside it. All in network units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

FloatArray = NDArray[np.float64]

_CHUNK_ELEMENTS = 4_000_000  # 16 MB of float32 distances at a time


def mean_distance(x: ArrayLike, y: ArrayLike | None = None) -> float:
    """Mean Euclidean distance between samples [n, d] and [m, d].

    Without `y`: within x, over all pairs of different points (the unbiased estimate; n of 2 or more).
    Memory stays at some tens of MB; n = m = 20,000 takes seconds.
    """
    a = _points(x)
    b = a if y is None else _points(y)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"points of {a.shape[1]} and {b.shape[1]} variables have no distance")
    if y is None and len(a) < 2:
        raise ValueError("a mean distance within one sample needs 2 points or more")
    step = max(1, _CHUNK_ELEMENTS // len(b))
    total = 0.0
    for start in range(0, len(a), step):
        part = a[start : start + step]
        # Within one sample the part's distances to itself and, twice, to all points after it.
        others = b if y is not None else b[start:]
        distances = torch.cdist(part, others, compute_mode="donot_use_mm_for_euclid_dist")
        if y is not None:
            total += float(distances.sum(dtype=torch.float64))
        else:
            own = float(distances[:, : len(part)].sum(dtype=torch.float64))
            total += own + 2.0 * float(distances[:, len(part) :].sum(dtype=torch.float64))
    pairs = len(a) * len(b) if y is not None else len(a) * (len(a) - 1)
    return total / pairs


@dataclass(frozen=True)
class EnergyReference:
    """Data [m, d] with their own mean distance worked out once, for many comparisons."""

    data: FloatArray
    within: float

    @classmethod
    def of(cls, data: ArrayLike) -> EnergyReference:
        """Work out the data-data term."""
        points = np.asarray(data, dtype=np.float64)
        return cls(points, mean_distance(points))

    def distance(self, samples: ArrayLike) -> float:
        """Energy distance of `samples` [n, d] to these data."""
        return 2.0 * mean_distance(samples, self.data) - mean_distance(samples) - self.within


def energy_distance(samples: ArrayLike, data: ArrayLike) -> float:
    """E = 2 E|X - Y| - E|X - X'| - E|Y - Y'|, Euclidean (Szekely & Rizzo 2013).

    The unbiased estimate: it is zero in the mean for equal distributions, and so can be negative.
    """
    return EnergyReference.of(data).distance(samples)


def sliced_wasserstein(samples: ArrayLike, data: ArrayLike, *, projections: int = 64, seed: int = 0) -> float:
    """Root mean squared 2-Wasserstein distance over random directions, for two samples of equal size [n, d].

    Biased upwards by about the distance of two samples of the same distribution: print that floor beside it.
    """
    x, y = np.asarray(samples, dtype=np.float64), np.asarray(data, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"samples {x.shape} and data {y.shape}: equal shapes are allowed")
    rng = np.random.Generator(np.random.Philox(seed))
    directions = rng.standard_normal((x.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    gap = np.sort(x @ directions, axis=0) - np.sort(y @ directions, axis=0)
    return math.sqrt(float(np.mean(gap**2)))


def mode_shares(samples: ArrayLike, centres: ArrayLike) -> FloatArray:
    """Share of samples [n, d] nearest to each centre [k, d]: [k], summing to 1."""
    x, c = np.asarray(samples, dtype=np.float64), np.asarray(centres, dtype=np.float64)
    nearest = ((x[:, None] - c[None]) ** 2).sum(axis=-1).argmin(axis=1)
    shares: FloatArray = np.bincount(nearest, minlength=len(c)) / len(x)
    return shares


def mode_total_variation(samples: ArrayLike, centres: ArrayLike, weights: ArrayLike) -> float:
    """Half the summed |share - weight| over the modes, 0..1; `weights` [k] sum to 1."""
    gap = mode_shares(samples, centres) - np.asarray(weights, dtype=np.float64)
    return 0.5 * float(np.abs(gap).sum())


def path_error(samples: ArrayLike, reference: ArrayLike) -> float:
    """Root mean squared distance between paired samples [n, d] that began at the same noise."""
    x, y = np.asarray(samples, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"samples {x.shape} and reference {y.shape}: equal shapes are allowed")
    return math.sqrt(float(((x - y) ** 2).sum(axis=-1).mean()))


@dataclass(frozen=True)
class SeedBound:
    """A mean over seeds with its one-sided upper bound; `standard_error` is that of the mean."""

    mean: float
    bound: float
    standard_error: float
    n: int


def t_bound(values: Sequence[float], confidence: float = 0.95) -> SeedBound:
    """Mean over seeds and the one-sided upper confidence bound by Student's t (2 values or more)."""
    v = np.asarray(values, dtype=np.float64)
    if len(v) < 2:
        raise ValueError(f"a bound over seeds needs 2 values or more, got {len(v)}")
    error = float(v.std(ddof=1) / math.sqrt(len(v)))
    mean = float(v.mean())
    return SeedBound(mean, mean + float(student_t.ppf(confidence, len(v) - 1)) * error, error, len(v))


def _points(x: ArrayLike) -> torch.Tensor:
    points = np.ascontiguousarray(x, dtype=np.float32)
    if points.ndim != 2:
        raise ValueError(f"points of shape {points.shape}: [n, d] is allowed")
    return torch.from_numpy(points)
