"""What a run that makes pictures says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from labctl.devices import ConfigError, Scalar
from labctl.models.fetch import load
from labctl.models.inception import load_inception
from labctl.models.metrics import path_error
from labctl.models.reference import converged_samples

if TYPE_CHECKING:
    from labctl.models.picture_sets import PictureSet
    from labctl.procedures.plan import Chain
    from labctl.procedures.recipe import SampleRecipe

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
    FID is there where the recipe names an Inception file, against the set's test pictures.
    """
    judged = pictures.classify(decoded)
    out: dict[str, Scalar] = {}
    if chain.labels is not None:
        out["class_agreement"] = float((judged == chain.labels).mean())
    scores = pictures.scores(decoded)
    if scores is not None:
        out |= scores.metrics()
    if chain.recipe.inception:
        out["FID"] = load_inception(chain.recipe.inception).fid(decoded, load(pictures.name, "test")[0])
    if chain.recipe.eta == 0:
        out["path_error"] = path_error(samples, _converged(chain))
    return Judgement(out, judged)


def check_inception(recipe: SampleRecipe, pictures: PictureSet | None) -> None:
    """Refuse, before anything long is begun, a true FID that could not be told at its end.

    ConfigError for a recipe without pictures; DataError where the file is absent or another thing, or the
    test pictures are not here.
    """
    if not recipe.inception:
        return
    if pictures is None:
        raise ConfigError(
            f"inception is {recipe.inception!r}, but {recipe.model or recipe.data} makes no pictures; "
            'allowed: inception ""'
        )
    _, labels = load(pictures.name, "test")
    if min(recipe.samples, len(labels)) < 2:
        raise ConfigError(f"inception: samples is {recipe.samples}; allowed for a FID: 2 or more")
    load_inception(recipe.inception).features(np.zeros((1, 28, 28)))


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
