"""The picture a NeXus viewer opens at: how many points fall into each bin of the first one or two axes."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def fill_density(entry: h5py.Group) -> None:
    """Bin the samples, and the data beside them, over one common range; does nothing for pictures."""
    groups = [entry[name] for name in ("samples", "data") if name in entry and "x" in entry[name]]
    clouds = [np.asarray(group["x"][...]) for group in groups]
    for group, points in zip(groups, clouds, strict=True):
        if "density" not in group:
            continue
        edges = common_edges(clouds, group["density"].shape[0])
        finite = points[np.isfinite(points).all(axis=1)]
        group["density"][...] = np.histogramdd(finite[:, : len(edges)], bins=list(edges))[0].T
        for axis, edge in enumerate(edges, 1):
            group[f"x{axis}"][...] = (edge[1:] + edge[:-1]) / 2


def common_edges(clouds: Sequence[FloatArray], bins: int) -> tuple[FloatArray, ...]:
    """Bin edges of the first one or two axes, the same span on both, around all but the outermost points."""
    points = np.concatenate([cloud[np.isfinite(cloud).all(axis=1)] for cloud in clouds])[:, :2]
    if not points.size:
        points = np.array([[-3.0], [3.0]]).repeat(min(2, clouds[0].shape[1]), axis=1)
    low, high = np.percentile(points, [0.2, 99.8], axis=0)
    half = max(float((high - low).max()) * 0.55, 1e-9)
    return tuple(np.linspace(middle - half, middle + half, bins + 1) for middle in (low + high) / 2)
