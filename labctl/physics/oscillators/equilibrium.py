"""Where oscillators come to rest: the state, its gradient by the implicit function, how safely it is held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from labctl.devices.errors import ProgramError
from labctl.physics.at_rest import at_rest
from labctl.physics.oscillators.analysis import contraction_rate, hessian, locking
from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.evolve import evolve
from labctl.physics.oscillators.law import Inject, OscillatorLaw, rhs

Gradient = Literal["unrolled", "implicit"]


def settle(
    edges: Edges,
    law: OscillatorLaw,
    theta: Tensor,
    *,
    duration: float,
    steps: int,
    inject: Inject | None = None,
    gradient: Gradient = "unrolled",
) -> Tensor:
    """Phases [B, n] (rad) after `duration` units of a law of one segment, from theta [B, n]; Heun's method.

    gradient "unrolled" is that of the steps taken (through the start as well); "implicit" that of the state
    of rest, H^T lam = dL/dtheta (ais.md 7.4), as if the time had sufficed: nothing is kept of the way, and
    nothing is passed on to the start. The two agree where the state has come to rest.
    """
    if law.segments != 1:
        raise ProgramError(f"settle: a law of {law.segments} segments; allowed: one")
    if gradient not in get_args(Gradient):
        raise ProgramError(f"gradient: {gradient!r}; allowed: {', '.join(get_args(Gradient))}")
    if gradient == "unrolled":
        return evolve(edges, law, theta, duration=duration, steps=steps, inject=inject)
    with torch.no_grad():
        rest = evolve(edges, law, theta, duration=duration, steps=steps, inject=inject)
        curvature = hessian(edges, law, 0, rest, inject)
    rate = rhs(edges, law, 0, rest, inject)
    return at_rest(rest, rate, curvature)


@dataclass(frozen=True, eq=False)
class Rest:
    """How far a state is from rest and how safely it is held there, [B] each.

    residual: root mean square of dtheta/dt, rad per unit time. load, distance_rad: of the locking bound (see
    `Locking`; nan where the bound does not hold). slowest: smallest eigenvalue of the symmetric part of the
    Hessian, per unit time; for symmetric couplings the slowest relaxation rate itself.
    """

    residual: Tensor
    load: Tensor
    distance_rad: Tensor
    slowest: Tensor


def rest_of(edges: Edges, law: OscillatorLaw, k: int, theta: Tensor, inject: Inject | None = None) -> Rest:
    """What segment k of a law says of the states theta [B, n]."""
    with torch.no_grad():
        held = locking(edges, law, k, theta, inject)
        return Rest(
            residual=rhs(edges, law, k, theta, inject).square().mean(1).sqrt(),
            load=held.load,
            distance_rad=held.distance_rad,
            slowest=contraction_rate(hessian(edges, law, k, theta, inject)),
        )
