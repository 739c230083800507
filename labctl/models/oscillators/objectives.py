"""Distances between a batch of generated pixels and a batch of real ones, differentiable in the former.

All take x [B, P] and y [M, P]. MMD and energy distance are the unbiased estimates (Gretton et al. 2012;
Szekely & Rizzo 2013): zero in the mean for equal distributions, and so can be negative. As figures, from
arrays, `labctl.models.metrics` has the energy and sliced distances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Objective = Callable[[Tensor, Tensor], Tensor]
_MEDIAN_OF = 1000  # pictures whose distances the median is taken of


def median_distance(y: Tensor) -> float:
    """The median Euclidean distance between different rows of y [M, P] (the first thousand of them)."""
    some = y[:_MEDIAN_OF]
    return float(torch.pdist(some).median())


def mmd(x: Tensor, y: Tensor, scales: Sequence[float], within: Tensor | None = None) -> Tensor:
    """Squared maximum mean discrepancy with the sum of kernels exp(-d^2 / (2 s^2)), s in `scales`.

    `within`: the term of y alone, where it is known (`mmd_within`).
    """
    theirs = mmd_within(y, scales) if within is None else within
    own, across = _kernels(_squares(x, x), scales), _kernels(_squares(x, y), scales)
    return _off_diagonal(own) + theirs - 2.0 * across.mean()


def mmd_within(y: Tensor, scales: Sequence[float]) -> Tensor:
    """The mean kernel between different rows of y."""
    return _off_diagonal(_kernels(_squares(y, y), scales))


def energy(x: Tensor, y: Tensor, within: Tensor | None = None) -> Tensor:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, Euclidean; `within`: the last term, where it is known."""
    theirs = energy_within(y) if within is None else within
    return 2.0 * torch.cdist(x, y).mean() - _off_diagonal(torch.cdist(x, x)) - theirs


def energy_within(y: Tensor) -> Tensor:
    """The mean distance between different rows of y."""
    return _off_diagonal(torch.cdist(y, y))


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor, *, order: int = 2) -> Tensor:
    """Mean over unit directions [P, D] of the 1-D distance |gap|^order of sorted projections, B = M.

    For order 1 that is the 1-Wasserstein distance, for order 2 the square of the 2-Wasserstein distance.
    """
    if x.shape != y.shape:
        raise ValueError(f"x {tuple(x.shape)} and y {tuple(y.shape)}: equal shapes are allowed")
    gap: Tensor = (x @ directions).sort(dim=0).values - (y @ directions).sort(dim=0).values
    return gap.abs().pow(order).mean()


def unit_directions(dim: int, count: int, draw: torch.Generator) -> Tensor:
    """`count` random directions [dim, count], uniform over the sphere."""
    directions = torch.randn(dim, count, generator=draw)
    return nn.functional.normalize(directions, dim=0)


def _kernels(squares: Tensor, scales: Sequence[float]) -> Tensor:
    total = torch.zeros_like(squares)
    for scale in scales:
        total = total + torch.exp(squares * (-0.5 / scale**2))
    return total


def _squares(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances [B, M]; by one product, which the kernels' widths forgive."""
    products = x @ y.T
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2.0 * products).clamp_min(0.0)


def _off_diagonal(pairs: Tensor) -> Tensor:
    n = len(pairs)
    return (pairs.sum() - pairs.diagonal().sum()) / (n * (n - 1))
