"""One step of each scheme, in the papers' symbols: x at sigma goes to x' at sigma' < sigma.

D(x; sigma) is the denoiser; the probability-flow ODE is dx/dsigma = (x - D(x; sigma)) / sigma. A machine
offers two things: `settle(c, g, sigma, start)` solves z = c + g D(z; sigma), and `denoise(x, sigma)`
evaluates D. rho = sigma' / sigma throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError

FloatArray = NDArray[np.float64]


class Machine(Protocol):
    """What a scheme may ask for; x, c and the answers are [B, d]."""

    def settle(self, c: FloatArray, g: float, sigma: float, start: FloatArray) -> FloatArray:
        """The root z of z = c + g D(z; sigma) that the flow from `start` reaches."""
        ...

    def denoise(self, x: FloatArray, sigma: float) -> FloatArray:
        """D(x; sigma)."""
        ...


@dataclass
class Memory:
    """What a multistep scheme carries from step to step: D, ln(sigma / sigma'), x, D1 and r_1 of the last."""

    denoised: FloatArray | None = None
    log_step: float = 0.0
    x: FloatArray | None = None
    slope: FloatArray | None = None
    ratio: float = 0.0


Step = Callable[[Machine, FloatArray, float, float, Memory], FloatArray]


def implicit_euler(m: Machine, x: FloatArray, sigma: float, sigma_next: float, memory: Memory) -> FloatArray:
    """x' = rho x + (1 - rho) D(x'; sigma'): first order, one settle. DDIM with D at the unknown new point."""
    rho = sigma_next / sigma
    return m.settle(rho * x, 1 - rho, sigma_next, x)


def implicit_midpoint(
    m: Machine, x: FloatArray, sigma: float, sigma_next: float, memory: Memory
) -> FloatArray:
    """Settle z = r x + (1 - r) D(z; sigma_m), then x' = (1 + r) z - r x; r = sqrt(rho).

    sigma_m = sqrt(sigma sigma'). Second order, one settle; the extrapolation is element-wise and outside
    the loop, and amplifies read noise up to twice. Ours, not the ADM paper's.
    """
    r = math.sqrt(sigma_next / sigma)
    z = m.settle(r * x, 1 - r, math.sqrt(sigma * sigma_next), x)
    return (1 + r) * z - r * x


def implicit_trapezoid(
    m: Machine, x: FloatArray, sigma: float, sigma_next: float, memory: Memory
) -> FloatArray:
    """x' = rho x + rho g D(x; sigma) + g D(x'; sigma'), g = (1 - rho) / (1 + rho): second order.

    One settle, and one evaluation before the first step; later D(x; sigma) = (x' - c) / g is known.
    """
    rho = sigma_next / sigma
    g = (1 - rho) / (1 + rho)
    d = m.denoise(x, sigma) if memory.denoised is None else memory.denoised
    c = rho * x + rho * g * d
    new = m.settle(c, g, sigma_next, x)
    memory.denoised = (new - c) / g
    return new


def ddim(m: Machine, x: FloatArray, sigma: float, sigma_next: float, memory: Memory) -> FloatArray:
    """x' = rho x + (1 - rho) D(x; sigma) (Song et al. 2020): explicit Euler, one evaluation."""
    rho = sigma_next / sigma
    return rho * x + (1 - rho) * m.denoise(x, sigma)


def heun(m: Machine, x: FloatArray, sigma: float, sigma_next: float, memory: Memory) -> FloatArray:
    """EDM's second-order step (Karras et al. 2022, algorithm 1): two evaluations."""
    slope = (x - m.denoise(x, sigma)) / sigma
    euler = x + (sigma_next - sigma) * slope
    slope_next = (euler - m.denoise(euler, sigma_next)) / sigma_next
    return x + (sigma_next - sigma) * 0.5 * (slope + slope_next)


def explicit_midpoint(
    m: Machine, x: FloatArray, sigma: float, sigma_next: float, memory: Memory
) -> FloatArray:
    """DPM-Solver-2S at the geometric middle (Lu et al. 2022): two evaluations."""
    rho, r = sigma_next / sigma, math.sqrt(sigma_next / sigma)
    middle = r * x + (1 - r) * m.denoise(x, sigma)
    return rho * x + (1 - rho) * m.denoise(middle, math.sqrt(sigma * sigma_next))


def dpm_solver_2m(m: Machine, x: FloatArray, sigma: float, sigma_next: float, memory: Memory) -> FloatArray:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2): one evaluation, the last one reused."""
    rho, h = sigma_next / sigma, math.log(sigma / sigma_next)
    d = m.denoise(x, sigma)
    if memory.denoised is None:
        mixed = d
    else:
        r = memory.log_step / h
        mixed = (1 + 1 / (2 * r)) * d - 1 / (2 * r) * memory.denoised
    memory.denoised, memory.log_step = d, h
    return rho * x + (1 - rho) * mixed


def unipc(m: Machine, x: FloatArray, sigma: float, sigma_next: float, memory: Memory) -> FloatArray:
    """UniPC with a predictor of order 2 (Zhao et al. 2023, algorithms 5 and 6; data prediction, their B_2).

    One evaluation D(x~; sigma) at the predicted x~ corrects x~ first (UniC) and predicts from there (UniP).
    D1 = (D_{i-2} - D_{i-1}) / r is kept as the slope of the step before; order 1 where there is none.
    """
    h = math.log(sigma / sigma_next)
    d = m.denoise(x, sigma)
    slope, ratio = None, 0.0
    if memory.denoised is not None and memory.x is not None:
        x = _corrected(memory, d)
        ratio = -memory.log_step / h
        slope = (memory.denoised - d) / ratio
    memory.x, memory.denoised, memory.log_step, memory.slope, memory.ratio = x, d, h, slope, ratio
    rho = sigma_next / sigma
    predicted = rho * x + (1 - rho) * d
    return predicted if slope is None else predicted + (1 - rho) * 0.5 * slope


def _corrected(memory: Memory, d: FloatArray) -> FloatArray:
    """UniC: the step before once more, now with D at its end: a fit through every D known around it."""
    if memory.x is None or memory.denoised is None:
        raise ValueError("there is no step before")
    h, base = memory.log_step, memory.denoised
    b_h = math.expm1(-h)
    plain = math.exp(-h) * memory.x - b_h * base
    if memory.slope is None or memory.ratio == 0.0:
        return plain - b_h * 0.5 * (d - base)
    phi_2 = b_h / -h - 1
    phi_3 = phi_2 / -h - 0.5
    # rows of the paper's R with r = (r_1, 1), right-hand side k! phi_{k+1} / B(h)
    weights = np.linalg.solve([[1.0, 1.0], [memory.ratio, 1.0]], [phi_2 / b_h, 2 * phi_3 / b_h])
    return np.asarray(plain - b_h * (weights[0] * memory.slope + weights[1] * (d - base)))


@dataclass(frozen=True)
class Scheme:
    """A step with what one must know about it. `nfe` counts network evaluations a step outside settles."""

    name: str
    step: Step
    order: int
    settles: int
    nfe: int
    one_step: bool


SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        Scheme("implicit-midpoint", implicit_midpoint, 2, 1, 0, True),
        Scheme("implicit-euler", implicit_euler, 1, 1, 0, True),
        Scheme("implicit-trapezoid", implicit_trapezoid, 2, 1, 0, False),
        Scheme("ddim", ddim, 1, 0, 1, True),
        Scheme("heun", heun, 2, 0, 2, True),
        Scheme("explicit-midpoint", explicit_midpoint, 2, 0, 2, True),
        Scheme("dpm-solver++2m", dpm_solver_2m, 2, 0, 1, False),
        Scheme("unipc", unipc, 3, 0, 1, False),
    )
}


def scheme(name: str) -> Scheme:
    """The scheme of that name; ConfigError lists what there is."""
    if name not in SCHEMES:
        raise ConfigError(f"scheme is {name!r}; allowed: {', '.join(SCHEMES)}")
    return SCHEMES[name]
