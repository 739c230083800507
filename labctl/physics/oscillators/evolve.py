"""Phases through the segments of a law: fixed steps, noise added once a step, differentiable throughout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices.errors import ProgramError
from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.law import Inject, OscillatorLaw, drift
from labctl.physics.oscillators.schemes import SCHEMES, Method
from labctl.physics.philox import Stream

Backend = Literal["auto", "compiled", "torch"]


@dataclass(frozen=True, eq=False)
class PhaseNoise:
    """Wiener noise of every phase: variance 2 D t after t units without any force.

    diffusion: D, rad^2 per unit time. Drawn once a step for sample_id [B] and added at its end, so it is
    exact for free phases and of weak order 1 otherwise. first_step: the counter of the first step, so that a
    run in two parts draws what one run would.
    """

    diffusion: float
    stream: Stream
    sample_id: NDArray[np.int64]
    first_step: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.diffusion) and self.diffusion >= 0):
            raise ProgramError(
                f"phase noise: diffusion is {self.diffusion}; allowed: 0 or more, rad^2 per unit time"
            )

    def sd(self, step: float) -> float:
        """Standard deviation (rad) of what a step of this length (units) adds."""
        return math.sqrt(2 * self.diffusion * step)

    def draw(self, step_number: int, theta: Tensor) -> Tensor:
        """Standard normals like theta [B, n] for one step."""
        return self.stream.normal(
            self.sample_id, theta.shape[1], step=self.first_step + step_number, dtype=theta.dtype
        ).to(theta.device)


def evolve(
    edges: Edges,
    law: OscillatorLaw,
    theta: Tensor,
    *,
    duration: float | Sequence[float],
    steps: int,
    method: Method = "heun",
    noise: PhaseNoise | None = None,
    inject: Inject | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Phases [B, n] (rad) after all segments of the law, from theta [B, n]; unwrapped.

    duration: of each segment, or of every one (units of 1/K_unit). steps: of each segment. inject: further
    (a, b) [B, n] of each sample. Differentiable in the law's tables, theta and inject; the gradient is that
    of the discrete steps themselves.
    """
    durations = _durations(duration, law.segments)
    _check(edges, law, theta, steps, method, noise, inject)
    return _evolve_torch(edges, law, theta, durations, steps, method, noise, inject)


def _evolve_torch(
    edges: Edges,
    law: OscillatorLaw,
    theta: Tensor,
    durations: Sequence[float],
    steps: int,
    method: Method,
    noise: PhaseNoise | None,
    inject: Inject | None,
) -> Tensor:
    for k, span in enumerate(durations):
        rate, h = drift(edges, law, k, inject), span / steps
        for m in range(steps):
            theta = _step(rate, theta, h, method)
            if noise is not None and noise.diffusion > 0:
                theta = theta + noise.sd(h) * noise.draw(k * steps + m, theta)
    return theta


def _step(rate: Callable[[Tensor], Tensor], theta: Tensor, h: float, method: Method) -> Tensor:
    at, share = SCHEMES[method]
    slope = rate(theta)
    change = share[0] * slope
    for a, b in zip(at[1:], share[1:], strict=True):
        slope = rate(theta + (h * a) * slope)
        change = change + b * slope
    return theta + h * change


def _durations(duration: float | Sequence[float], segments: int) -> tuple[float, ...]:
    durations = (float(duration),) * segments if isinstance(duration, int | float) else tuple(duration)
    if len(durations) != segments:
        raise ProgramError(
            f"duration: {len(durations)} values; allowed: one, or one for each of {segments} segments"
        )
    for span in durations:
        if not (math.isfinite(span) and span > 0):
            raise ProgramError(f"duration: {span}; allowed: above 0, in units of 1/K_unit")
    return durations


def _check(
    edges: Edges,
    law: OscillatorLaw,
    theta: Tensor,
    steps: int,
    method: str,
    noise: PhaseNoise | None,
    inject: Inject | None,
) -> None:
    law.check(edges)
    if theta.ndim != 2 or theta.shape[1] != edges.n:
        raise ProgramError(f"theta: shape {tuple(theta.shape)}; allowed: [B, {edges.n}]")
    if steps < 1:
        raise ProgramError(f"steps: {steps}; allowed: 1 or more a segment")
    if method not in SCHEMES:
        raise ProgramError(f"method: {method!r}; allowed: {', '.join(SCHEMES)}")
    if noise is not None and len(noise.sample_id) != len(theta):
        raise ProgramError(
            f"phase noise: {len(noise.sample_id)} sample ids; allowed: {len(theta)}, one for each sample"
        )
    for name, extra in zip("ab", inject or (), strict=False):
        if extra.shape != theta.shape:
            raise ProgramError(
                f"inject: {name} has shape {tuple(extra.shape)}; allowed: {tuple(theta.shape)}"
            )
