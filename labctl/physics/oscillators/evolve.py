"""Phases through the segments of a law: fixed steps, noise drawn once a step, differentiable throughout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from labctl.devices.errors import ProgramError
from labctl.physics.oscillators.adjoint import Plan, evolve_compiled
from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.law import Inject, Law, OscillatorLaw
from labctl.physics.oscillators.noise import PhaseNoise
from labctl.physics.oscillators.schemes import SCHEMES, Method

Backend = Literal["auto", "compiled", "torch"]


def evolve(
    edges: Edges,
    law: Law,
    theta: Tensor,
    *,
    duration: float | Sequence[float],
    steps: int,
    method: Method = "heun",
    noise: PhaseNoise | None = None,
    inject: Inject | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Phases [B, n] (rad, unwrapped) after all segments of the law, from theta [B, n].

    The states of an Ising law likewise, by torch alone.

    duration: of each segment, or of every one (units of 1/K_unit). steps: of each segment. inject: further
    (a, b) [B, n] of each sample; (bias,) for an Ising law. Differentiable in the law's tables, theta and
    inject; the gradient is that of the discrete steps themselves.

    backend: "compiled" takes float32 on the CPU; "torch" takes any; "auto" compiles where it can. Both draw
    the same noise and agree within rounding (1e-5 rad where the steps contract).
    """
    durations = _durations(duration, law.segments)
    _check(edges, law, theta, steps, method, noise, inject)
    tensors = (theta, *(t for t in vars(law).values() if isinstance(t, Tensor)), *(inject or ()))
    fits = isinstance(law, OscillatorLaw) and all(
        t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors
    )
    if backend not in get_args(Backend):
        raise ProgramError(f"backend: {backend!r}; allowed: {', '.join(get_args(Backend))}")
    if backend == "compiled" and not fits:
        raise ProgramError(
            "backend: 'compiled' for another law or other tensors; allowed: oscillators, float32 on the CPU"
        )
    if backend == "torch" or not (fits and isinstance(law, OscillatorLaw)):
        return _evolve_torch(edges, law, theta, durations, steps, method, noise, inject)
    return evolve_compiled(Plan(edges, durations, steps, method, noise), law, theta, inject)


def _evolve_torch(
    edges: Edges,
    law: Law,
    theta: Tensor,
    durations: Sequence[float],
    steps: int,
    method: Method,
    noise: PhaseNoise | None,
    inject: Inject | None,
) -> Tensor:
    for k, span in enumerate(durations):
        rate, h = law.drift(edges, k, inject), span / steps
        for m in range(steps):
            force = None
            if noise is not None and noise.diffusion > 0:
                force = noise.force(h) * noise.draw(k * steps + m, theta)
            theta = _step(rate, theta, h, method, force)
    return theta


def _step(
    rate: Callable[[Tensor], Tensor], theta: Tensor, h: float, method: Method, force: Tensor | None
) -> Tensor:
    at, share = SCHEMES[method]

    def pushed(x: Tensor) -> Tensor:
        return rate(x) if force is None else rate(x) + force

    slope = pushed(theta)
    change = share[0] * slope
    for a, b in zip(at[1:], share[1:], strict=True):
        slope = pushed(theta + (h * a) * slope)
        change = change + b * slope
    return theta + h * change


def _durations(duration: float | Sequence[float], segments: int) -> tuple[float, ...]:
    given = np.asarray(duration, np.float64)
    durations = (float(given),) * segments if given.ndim == 0 else tuple(map(float, given))
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
    law: Law,
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
    if inject is not None and len(inject) != law.injects:
        raise ProgramError(f"inject: {len(inject)} tensors; allowed: {law.injects}")
    for name, extra in zip("ab", inject or (), strict=False):
        if extra.shape != theta.shape:
            raise ProgramError(
                f"inject: {name} has shape {tuple(extra.shape)}; allowed: {tuple(theta.shape)}"
            )
