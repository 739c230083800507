"""What a run that makes pictures says of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from labctl.devices import Scalar
from labctl.models.metrics import path_error
from labctl.models.reference import converged_samples

if TYPE_CHECKING:
    from labctl.models.picture_sets import PictureSet
    from labctl.procedures.plan import Chain

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was found of a chain's pictures: metrics, and the class that the judge sees in each, int [B]."""

    metrics: dict[str, Scalar]
    judged: NDArray[np.int64]


def judge_pictures(chain: Chain, pictures: PictureSet, samples: FloatArray, decoded: ArrayLike) -> Judgement:
    """Class agreement, FD*, density, coverage and path error of a chain's `samples` [B, d], as decoded.

    FD* is left out where there are too few pictures for it, all three where the set has no reference. The
    path error is that to the network's own converged ODE from the same noise, so not for stochastic chains.
    """
    judged = pictures.classify(decoded)
    out: dict[str, Scalar] = {}
    if chain.labels is not None:
        out["class_agreement"] = float((judged == chain.labels).mean())
    scores = pictures.scores(decoded)
    if scores is not None:
        if math.isfinite(scores.frechet_star):
            out["frechet_star"] = scores.frechet_star
        out["density"], out["coverage"] = scores.density, scores.coverage
    if chain.recipe.eta == 0:
        out["path_error"] = path_error(samples, _converged(chain))
    return Judgement(out, judged)


def _converged(chain: Chain) -> FloatArray:
    """Where the network's own ODE, followed closely, ends from this chain's noise: [B, d]."""
    labels = None if chain.labels is None else torch.as_tensor(chain.labels)
    start = torch.as_tensor(chain.x_start, dtype=torch.float32)
    ends = converged_samples(
        chain.subject.network,
        start,
        labels,
        sigma_max=chain.recipe.sigma_max,
        sigma_min=chain.recipe.sigma_min,
    )
    return np.asarray(ends.double().numpy())
