"""How near generated pictures are to real ones, by the features of a classifier trained here.

Frechet distances in these features are no FID: that word belongs to one network (see `inception`). Figures
compare only in the features of the same net, so everything here goes with that net's hash.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from labctl.devices.errors import DataError

FloatArray = NDArray[np.float64]
NEIGHBOURS = 5  # of a real picture, for density and coverage
_CHUNK = 2000


@dataclass(frozen=True, eq=False)
class FeatureMoments:
    """Mean [F] and covariance [F, F] of the features of a set of pictures."""

    mean: FloatArray
    covariance: FloatArray

    @classmethod
    def of(cls, features: ArrayLike) -> FeatureMoments:
        """From features [N, F] (N of 2 or more, finite); else DataError."""
        points = _points(features, "features")
        if len(points) < 2:
            raise DataError(f"features: {len(points)} pictures; allowed: 2 or more")
        centred = points - points.mean(axis=0)
        return cls(points.mean(axis=0), centred.T @ centred / (len(points) - 1))


def frechet_distance(a: FeatureMoments, b: FeatureMoments) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), squared feature units, 0 or more.

    The root's trace is taken as that of (R C_b R)^(1/2) with R = C_a^(1/2), which is symmetric, so that sets
    of fewer pictures than features (Dowson & Landau 1982; Heusel et al. 2017) need no special care.
    """
    if a.mean.shape != b.mean.shape:
        raise DataError(f"moments of {len(a.mean)} and {len(b.mean)} features have no distance")
    root = _root(a.covariance)
    overlap = np.linalg.eigvalsh(root @ b.covariance @ root)
    trace = np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * np.sqrt(np.maximum(overlap, 0.0)).sum()
    return max(0.0, float(((a.mean - b.mean) ** 2).sum() + trace))


def frechet_star(distance: float, floor: float, gaussian: float) -> float:
    """FD* = (FD - floor) / (FD_Gaussian - floor): 0 for fresh real pictures, 1 for a Gaussian's."""
    if not gaussian > floor:
        raise DataError(f"the Gaussian's distance {gaussian:g} is not above the floor {floor:g}")
    return (distance - floor) / (gaussian - floor)


@dataclass(frozen=True)
class DensityCoverage:
    """Naeem et al. 2020. Density 1 and coverage near 1 for samples like the real ones."""

    density: float
    coverage: float


def density_coverage(real: ArrayLike, samples: ArrayLike, *, neighbours: int = NEIGHBOURS) -> DensityCoverage:
    """Density and coverage of features `samples` [M, F] about features `real` [N, F].

    The ball of a real point reaches to its `neighbours`-th neighbour among the others. Density: the mean
    number of balls a sample lies in, over `neighbours`. Coverage: the share of balls that hold a sample.
    """
    x, y = _points(real, "real features"), _points(samples, "features")
    if x.shape[1] != y.shape[1]:
        raise DataError(f"features: {y.shape[1]} a picture; allowed: {x.shape[1]}, as the real ones have")
    if not len(y) or len(x) <= neighbours:
        raise DataError(
            f"{len(x)} real pictures and {len(y)} samples; allowed: more than {neighbours} and 1 or more"
        )
    radius = np.partition(_distances(x, x), neighbours, axis=1)[:, neighbours]  # the 0-th is the point itself
    inside = _distances(x, y) <= radius[:, None]
    return DensityCoverage(float(inside.sum()) / (neighbours * len(y)), float(inside.any(axis=1).mean()))


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each picture, the nearest of another set: its row, and the root mean square pixel difference."""

    row: NDArray[np.int64]
    distance: FloatArray


def nearest_pictures(pictures: ArrayLike, others: ArrayLike) -> Nearest:
    """The nearest of `others` [N, H, W] for each of `pictures` [M, H, W], both 0..1.

    A generator that copies its training set has distances to it far below those of fresh real pictures.
    """
    x, y = (np.asarray(p, dtype=np.float32) for p in (pictures, others))
    if x.ndim != 3 or y.ndim != 3 or x.shape[1:] != y.shape[1:] or not len(y):
        raise DataError(f"pictures {x.shape} and others {y.shape}; allowed: [M, H, W] and [N, H, W] alike")
    flat = y.reshape(len(y), -1)
    rows, distances = [np.empty(0, np.int64)], [np.empty(0)]
    for start in range(0, len(x), _CHUNK):
        part = _distances(x[start : start + _CHUNK].reshape(-1, flat.shape[1]), flat)
        rows.append(part.argmin(axis=1))
        distances.append(part.min(axis=1) / np.sqrt(flat.shape[1]))
    return Nearest(np.concatenate(rows), np.concatenate(distances))


def _distances(x: NDArray[np.floating], y: NDArray[np.floating]) -> FloatArray:
    return np.asarray(torch.cdist(torch.as_tensor(x), torch.as_tensor(y)).numpy(), dtype=np.float64)


def _root(covariance: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def _points(features: ArrayLike, name: str) -> FloatArray:
    points = np.asarray(features, dtype=np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise DataError(f"{name}: shape {points.shape}; allowed: [N, F], finite")
    return points
