"""States of rest: two gradients against differences and each other, and how safely such states are held."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from labctl.devices import ProgramError, grid
from labctl.physics.oscillators import (
    Edges,
    OscillatorLaw,
    contraction_rate,
    hessian,
    rest_of,
    rhs,
    settle,
)

LONG, FINE = 25.0, 250  # units and steps: at rest to 1e-12 or so


@pytest.fixture(params=["directed", "symmetric"])
def held(request):
    """Five anchored oscillators, one of them hidden: edges, law, start and anchors of three samples."""
    wiring = grid(2, 2, 2.0, 1.0)
    edges = Edges(wiring.n, wiring.target.copy(), wiring.source.copy())
    draw = torch.Generator().manual_seed(5)

    def normal(*size: int, sd: float) -> torch.Tensor:
        return sd * torch.randn(size, generator=draw, dtype=torch.float64)

    coupling = normal(1, len(edges), sd=0.3)
    if request.param == "symmetric":
        coupling = (coupling + coupling[:, torch.as_tensor(edges.reverse)]) / 2
    zero = torch.zeros(1, edges.n, dtype=torch.float64)
    law = OscillatorLaw(coupling, normal(1, edges.n, sd=0.2), normal(1, edges.n, sd=0.2) + 1.0, zero, zero)
    phase = normal(3, edges.n, sd=0.7)
    return edges, law, phase, (1.5 * torch.sin(phase), 1.5 * torch.cos(phase))


def loss_of(edges, law, phase, inject, gradient="unrolled"):
    rest = settle(edges, law, phase, duration=LONG, steps=FINE, inject=inject, gradient=gradient)
    return (rest.sin() * torch.arange(1.0, edges.n + 1)).sum()


@pytest.mark.parametrize("gradient", ["unrolled", "implicit"])
@pytest.mark.parametrize("table", ["coupling", "in_phase", "quadrature", "detuning", "inject"])
def test_gradients_are_those_of_finite_differences(held, gradient, table):
    edges, law, phase, inject = held
    free = (inject[0] if table == "inject" else getattr(law, table)).clone().requires_grad_()

    def loss(values, how):
        if table == "inject":
            return loss_of(edges, law, phase, (values, inject[1]), how)
        return loss_of(edges, replace(law, **{table: values}), phase, inject, how)

    (found,) = torch.autograd.grad(loss(free, gradient), free)
    step, where = 1e-5, (0, 1)
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            moved = free.detach().clone()
            moved[where] += sign * step
            ends.append(loss(moved, "unrolled"))
    assert float(found[where]) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-8)


def test_the_implicit_gradient_is_that_of_the_formulas(held):
    """ais.md 7.4: H lam = dL/dtheta; dL/dK_ij = lam_i sin(theta_j - theta_i), dL/dw_i = lam_i."""
    edges, law, phase, inject = held
    coupling, detuning = law.coupling.clone().requires_grad_(), law.detuning.clone().requires_grad_()
    free = replace(law, coupling=coupling, detuning=detuning)
    of_coupling, of_detuning = torch.autograd.grad(
        loss_of(edges, free, phase, inject, "implicit"), (coupling, detuning)
    )
    rest = settle(edges, law, phase, duration=LONG, steps=FINE, inject=inject)
    slope = rest.cos() * torch.arange(1.0, edges.n + 1)
    lam = torch.linalg.solve(hessian(edges, law, 0, rest, inject).transpose(1, 2), slope)
    target, source = torch.as_tensor(edges.target).long(), torch.as_tensor(edges.source).long()
    pulled = lam[:, target] * torch.sin(rest[:, source] - rest[:, target])
    torch.testing.assert_close(of_coupling[0], pulled.sum(0))
    torch.testing.assert_close(of_detuning[0], lam.sum(0))


def test_the_two_gradients_draw_together_as_the_state_comes_to_rest(held):
    edges, law, phase, inject = held
    angles = []
    for duration in (0.5, 2.0, 8.0):
        found = []
        for gradient in ("unrolled", "implicit"):
            free = law.coupling.clone().requires_grad_()
            rest = settle(
                edges, replace(law, coupling=free), phase, duration=duration, steps=int(20 * duration),
                inject=inject, gradient=gradient,
            )  # fmt: skip
            found.append(torch.autograd.grad(rest.square().sum(), free)[0].flatten())
        cosine = torch.dot(*found) / (found[0].norm() * found[1].norm())
        angles.append(math.acos(min(float(cosine), 1.0)))
    assert angles[0] > angles[1] > angles[2]
    assert angles[2] < 1e-3


def test_what_is_said_of_a_state_at_rest(held):
    edges, law, phase, inject = held
    rest = settle(edges, law, phase, duration=LONG, steps=FINE, inject=inject)
    said = rest_of(edges, law, 0, rest, inject)
    assert float(said.residual.max()) < 1e-9
    torch.testing.assert_close(
        rest_of(edges, law, 0, phase, inject).residual,
        rhs(edges, law, 0, phase, inject).square().mean(1).sqrt(),
    )
    torch.testing.assert_close(said.slowest, contraction_rate(hessian(edges, law, 0, rest, inject)))
    certain = said.load <= 1
    assert bool((said.distance_rad[certain] >= 0).all())
    assert bool(said.distance_rad[~certain].isnan().all())


def test_without_couplings_an_anchor_alone_is_where_a_phase_comes_to_rest(held):
    edges, _, phase, inject = held
    alone = OscillatorLaw.zeros(edges, dtype=torch.float64)
    rest = settle(edges, alone, phase + 0.4, duration=LONG, steps=FINE, inject=inject)
    torch.testing.assert_close(rest, phase)


def test_what_makes_no_sense_is_refused(held):
    edges, law, phase, inject = held
    with pytest.raises(ProgramError, match="a law of 2 segments; allowed: one"):
        settle(edges, OscillatorLaw.zeros(edges, 2), phase, duration=1.0, steps=4)
    with pytest.raises(ProgramError, match="gradient: 'adjoint'; allowed: unrolled, implicit"):
        settle(edges, law, phase, duration=1.0, steps=4, inject=inject, gradient="adjoint")
