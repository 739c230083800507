"""The converged sampler of a network: what any other sampler of the same network is compared with.

Heun's method on the probability-flow ODE, in flow-matching time with many steps, for all replicas at once.
Samplers proper (few steps, implicit, on the machine) are in `labctl.sampling`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labctl.models.network import RowTableNetwork
from labctl.sampling.parametrisation import sigma_of_time, time_of_sigma

SIGMA_MAX = 10.0
SIGMA_MIN = 0.02
STEPS = 128


def start_noise(n: int, dim: int, *, seed: int, sigma_max: float = SIGMA_MAX) -> Tensor:
    """n start points [n, d], float32, x ~ N(0, sigma_max^2 + 1): what data of unit variance become."""
    rng = torch.Generator().manual_seed(int(seed))
    return torch.randn(n, dim, generator=rng) * math.hypot(sigma_max, 1.0)


def converged_samples(
    network: RowTableNetwork,
    x: Tensor,
    labels: Tensor | None = None,
    *,
    sigma_max: float = SIGMA_MAX,
    sigma_min: float = SIGMA_MIN,
    steps: int = STEPS,
    final_denoise: bool = True,
) -> Tensor:
    """Carry start points from sigma_max to sigma_min and, unless told otherwise, denoise them once more.

    x is [n, d] (the same start for every replica) or [R, n, d], at sigma_max; labels [n] with classes.
    Returns the same shape, [R, n, d] for several replicas. 2 * steps evaluations, one more for the denoise.
    """
    times = torch.linspace(time_of_sigma(sigma_max), time_of_sigma(sigma_min), steps + 1, dtype=torch.float64)
    with torch.no_grad():
        if x.dim() == 2 and network.n_replicas > 1:
            x = x.expand(network.n_replicas, *x.shape)
        # y = (1 - t) x obeys dy/dt = (x - D) / sigma - D, whose solution is nearly straight at both ends.
        y = x * (1.0 - float(times[0]))
        slope = _velocity(network, y, float(times[0]), labels)
        for t, t_next in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            guess = y + (t_next - t) * slope
            slope_next = _velocity(network, guess, t_next, labels)
            y = y + 0.5 * (t_next - t) * (slope + slope_next)
            slope = _velocity(network, y, t_next, labels)
        x = y / (1.0 - float(times[-1]))
        return network.denoise(x, sigma_min, labels) if final_denoise else x


def _velocity(network: RowTableNetwork, y: Tensor, t: float, labels: Tensor | None) -> Tensor:
    x, sigma = y / (1.0 - t), sigma_of_time(t)
    denoised = network.denoise(x, sigma, labels)
    return (x - denoised) / sigma - denoised
