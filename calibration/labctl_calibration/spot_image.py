"""What one frame says of the spots in it: where they are, how wide, how sharp, how bright."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.float64]
FOOT = 0.1  # of a spot's peak: what is darker has no part in its centre and width
LIT = 0.02  # of the counts above black: a spot is lit where its peak is higher
NOISES = 8.0  # and so many times the scatter of the dark around the spots


@dataclass(frozen=True, eq=False)
class SpotImage:
    """centre_px [2, n, 2] of the lit spots (y, x; pixel edges; NaN where dark), peak_counts [2, n] above
    dark, lit [2, n]. dark_counts: mean of the pixels outside all squares, black level included.

    width_px: mean D4-sigma width of the lit spots over both axes (ISO 11146-1: 4 standard deviations of the
    light). sharpness: variance of the Laplacian over the squares of lit spots, divided by their mean light
    squared, so that exposure does not enter (Pech-Pacheco et al. 2000). NaN where nothing is lit.
    """

    centre_px: FloatArray
    peak_counts: FloatArray
    lit: NDArray[np.bool_]
    dark_counts: float
    width_px: float
    sharpness: float


def measure_spots(image: FloatArray, grid_px: FloatArray, pitch_px: float, max_code: int) -> SpotImage:
    """Measure squares of the pitch around grid places [2, n, 2] in an image of counts [h, w].

    A square that leaves the image counts as dark.
    """
    height, width = image.shape
    side = round(pitch_px)
    corner = np.rint(grid_px - side / 2).astype(np.int64)
    inside = np.asarray(((corner >= 0) & (corner + side <= [height, width])).all(axis=2))
    safe = np.where(inside[..., None], corner, 0)
    rows, columns = (safe[..., k, None] + np.arange(side) for k in (0, 1))
    at = rows[..., :, None], columns[..., None, :]
    outside = np.ones(image.shape, np.bool_)
    outside[at] = False
    rest = image[outside] if outside.any() else image.reshape(-1)
    dark = float(rest.mean())
    # hot pixels must not raise what counts as scatter
    scatter = 1.5 * float(np.median(np.abs(rest - np.median(rest)))) + 0.5
    light = image[at] - dark  # [2, n, side, side]
    peak = light.max(axis=(2, 3))
    lit = inside & (peak > max(LIT * (max_code - dark), NOISES * scatter))
    weight = np.where(light > FOOT * peak[..., None, None], light, 0.0)
    total = np.where(lit, weight.sum(axis=(2, 3)), 1.0)
    place = np.arange(side) + 0.5
    along = weight.sum(axis=3), weight.sum(axis=2)
    middle = np.stack([(part * place).sum(axis=2) / total for part in along], axis=2)
    square = np.stack([(part * place**2).sum(axis=2) / total for part in along], axis=2)
    centre = np.where(lit[..., None], safe + middle, np.nan)
    if not lit.any():
        return SpotImage(centre, peak, lit, dark, np.nan, np.nan)
    sigma = np.sqrt(np.maximum(square - middle**2, 0.0)[lit])
    edges = ndimage.laplace(image)[at][lit]
    return SpotImage(
        centre_px=centre,
        peak_counts=peak,
        lit=lit,
        dark_counts=dark,
        width_px=4 * float(sigma.mean()),
        sharpness=float(edges.var() / light[lit].mean() ** 2),
    )
