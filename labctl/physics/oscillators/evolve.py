"""Phases through the segments of a law: fixed steps, noise added once a step, differentiable throughout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from labctl.devices.errors import ProgramError
from labctl.physics.oscillators.adjoint import Plan, evolve_compiled
from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.law import Inject, OscillatorLaw, drift
from labctl.physics.oscillators.noise import PhaseNoise
from labctl.physics.oscillators.schemes import SCHEMES, Method

Backend = Literal["auto", "compiled", "torch"]


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

    backend: "compiled" takes float32 on the CPU; "torch" takes any; "auto" compiles where it can. Both draw
    the same noise and agree within rounding (1e-5 rad where the steps contract).
    """
    durations = _durations(duration, law.segments)
    _check(edges, law, theta, steps, method, noise, inject)
    tensors = (theta, *vars(law).values(), *(inject or ()))
    fits = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    if backend == "compiled" and not fits:
        raise ProgramError("backend: 'compiled' with other tensors; allowed: float32 on the CPU")
    if backend == "torch" or not fits:
        return _evolve_torch(edges, law, theta, durations, steps, method, noise, inject)
    return evolve_compiled(Plan(edges, durations, steps, method, noise), law, theta, inject)


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
