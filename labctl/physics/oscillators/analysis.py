"""What the law says without running it: energy, Jacobian, margins, bounds, locked phases, covariances.

All of one segment and of each sample of a batch. inject is that of `rhs`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from labctl.devices.errors import ProgramError
from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.law import Inject, OscillatorLaw


def _anchors(law: OscillatorLaw, k: int, inject: Inject | None) -> tuple[Tensor, Tensor]:
    a, b = law.in_phase[k], law.quadrature[k]
    return (a, b) if inject is None else (a + inject[0], b + inject[1])


def _differences(edges: Edges, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(theta_j - theta_i [B, E], targets i, sources j)."""
    target = torch.from_numpy(edges.target).to(theta.device, torch.int64)
    source = torch.from_numpy(edges.source).to(theta.device, torch.int64)
    return theta[:, source] - theta[:, target], target, source


def symmetric(edges: Edges, coupling: Tensor) -> bool:
    """Whether K_ij = K_ji, for coupling [E]; an edge without its opposite must be 0."""
    opposite = torch.from_numpy(edges.reverse).to(coupling.device)
    other = torch.where(opposite >= 0, coupling[opposite.clamp_min(0)], torch.zeros_like(coupling))
    return bool((coupling == other).all())


def energy(edges: Edges, law: OscillatorLaw, k: int, theta: Tensor, inject: Inject | None = None) -> Tensor:
    """E [B] with dtheta/dt = -grad E; symmetric couplings only.

    E = -1/2 sum_ij K_ij cos(theta_j - theta_i) - sum_i (a sin theta_i + b cos theta_i + l/2 cos 2 theta_i
    + w theta_i), units of K_unit.
    """
    if not symmetric(edges, law.coupling[k]):
        raise ProgramError(
            f"law: the couplings of segment {k} are directed; allowed: K_ij = K_ji for an energy"
        )
    apart, _, _ = _differences(edges, theta)
    a, b = _anchors(law, k, inject)
    own = a * theta.sin() + b * theta.cos() + law.second[k] / 2 * (2 * theta).cos() + law.detuning[k] * theta
    return -(law.coupling[k] * apart.cos()).sum(1) / 2 - own.sum(1)


def hessian(edges: Edges, law: OscillatorLaw, k: int, theta: Tensor, inject: Inject | None = None) -> Tensor:
    """H [B, n, n] = minus the Jacobian of rhs at theta [B, n]; symmetric where the couplings are."""
    apart, target, source = _differences(edges, theta)
    pull = law.coupling[k] * apart.cos()
    a, b = _anchors(law, k, inject)
    own = a * theta.sin() + b * theta.cos() + 2 * law.second[k] * (2 * theta).cos()
    diagonal = own.index_add(1, target, pull)
    out = torch.diag_embed(diagonal)
    out[:, target, source] = -pull
    return out


def contraction_rate(hessians: Tensor) -> Tensor:
    """[B]: smallest eigenvalue of the symmetric part of H [B, n, n], per unit time.

    Above 0 nearby states approach each other at least so fast; for symmetric couplings it is the slowest
    relaxation rate itself.
    """
    values: Tensor = torch.linalg.eigvalsh((hessians + hessians.transpose(1, 2)) / 2)
    return values[:, 0]


def gershgorin_margin(hessians: Tensor) -> Tensor:
    """[B]: a lower bound of `contraction_rate` by Gershgorin's circles; for large n, and certain.

    min_i [H_ii - sum_j |H_ij + H_ji| / 2]: for symmetric couplings the bound of ais.md 7.3, at theta itself.
    """
    even = (hessians + hessians.transpose(1, 2)) / 2
    diagonal = even.diagonal(dim1=1, dim2=2)
    return (diagonal + diagonal.abs() - even.abs().sum(2)).amin(1)


@dataclass(frozen=True, eq=False)
class Locking:
    """How safely anchors hold their oscillators, [B] each.

    load: largest share of an anchor's strength that the other forces can use up; an equilibrium within
    asin(load) of every anchor exists where it is at most 1. gamma_rad: that angle, nan beyond. offset_rad:
    the largest angle between an oscillator and its anchor.
    """

    load: Tensor
    gamma_rad: Tensor
    offset_rad: Tensor

    @property
    def distance_rad(self) -> Tensor:
        """How far the state is inside the bound, rad; nan where there is none."""
        return self.gamma_rad - self.offset_rad


def locking(edges: Edges, law: OscillatorLaw, k: int, theta: Tensor, inject: Inject | None = None) -> Locking:
    """The locking bound of ais.md 7.3 and where theta [B, n] stands; holds for directed couplings too.

    An anchor of strength kappa at phase phi is a = kappa sin phi, b = kappa cos phi. The box
    |theta_i - phi_i| <= gamma is invariant where |w_i| + |l_i| + sum_j |K_ij| <= kappa_i sin gamma for all i.
    The second harmonic is counted as a force of its full size.
    """
    a, b = _anchors(law, k, inject)
    strength, phase = torch.hypot(a, b), torch.atan2(a, b)
    target = torch.from_numpy(edges.target).to(theta.device, torch.int64)
    pull = (law.detuning[k].abs() + law.second[k].abs()).index_add(0, target, law.coupling[k].abs())
    load = torch.where(pull > 0, pull / strength, torch.zeros_like(strength)).expand_as(theta).amax(1)
    offset = torch.remainder(theta - phase + math.pi, 2 * math.pi) - math.pi
    gamma = torch.where(load <= 1, torch.asin(load.clamp_max(1)), torch.full_like(load, math.nan))
    return Locking(load, gamma, offset.abs().amax(1))


def locked_phase(detuning: Tensor, strength: Tensor) -> Tensor:
    """The stable phase difference (rad) of d phi/dt = detuning - strength sin phi; nan where it cannot lock.

    Two oscillators: phi = theta_1 - theta_2, detuning w_1 - w_2, strength K_12 + K_21. An oscillator on its
    anchor: strength kappa (Adler 1946). Locks for |detuning| <= strength.
    """
    ratio = detuning / strength
    locks = (strength > 0) & (ratio.abs() <= 1)
    return torch.where(locks, torch.asin(ratio.clamp(-1, 1)), torch.full_like(ratio, math.nan))


def beat_rate(detuning: Tensor, strength: Tensor) -> Tensor:
    """Mean rate (rad per unit time) at which that phase slips: 0 where it locks."""
    return torch.sign(detuning) * torch.sqrt((detuning**2 - strength**2).clamp_min(0))


def stationary_covariance(hessians: Tensor, diffusion: float) -> Tensor:
    """Covariance [B, n, n] (rad^2) of small fluctuations about an equilibrium: D H^-1, H symmetric."""
    inverse: Tensor = torch.linalg.inv(hessians)
    return diffusion * inverse
