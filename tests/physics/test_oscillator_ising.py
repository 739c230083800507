"""Ising machines on the oscillators' interface, against tight solvers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from labctl.devices.errors import ProgramError
from labctl.physics.oscillators import PolynomialLaw, SaturatingLaw, evolve


def laws(oscillators):
    edges, law, theta, inject = oscillators()
    dense = [np.zeros((edges.n, edges.n)) for _ in range(2)]
    for k in range(2):
        dense[k][edges.target, edges.source] = law.coupling[k].numpy()
    bias, p, q = law.in_phase, law.second, 0.5 + law.detuning.abs()
    saturating = SaturatingLaw(law.coupling, bias)
    polynomial = PolynomialLaw(law.coupling, bias, p, q)
    rates = {
        "saturating": lambda k, s, b: np.tanh(dense[k] @ s + bias[k].numpy() + b) - s,
        "polynomial": lambda k, s, b: (
            p[k].numpy() * s - q[k].numpy() * s**3 + dense[k] @ s + bias[k].numpy() + b
        ),
    }
    return edges, {"saturating": saturating, "polynomial": polynomial}, rates, theta / 3, inject


@pytest.mark.parametrize("kind", ["saturating", "polynomial"])
def test_states_are_those_of_a_tight_solver(oscillators, kind):
    edges, both, rates, start, inject = laws(oscillators)
    found = evolve(edges, both[kind], start, duration=(0.7, 0.4), steps=100, method="rk4", inject=inject[:1])
    for row in range(len(start)):
        s = start[row].numpy()
        for k, span in enumerate((0.7, 0.4)):
            s = solve_ivp(
                lambda _, y, k=k, row=row: rates[kind](k, y, inject[0][row].numpy()), (0, span), s,
                method="DOP853", rtol=1e-11, atol=1e-12,
            ).y[:, -1]  # fmt: skip
        assert np.abs(found[row].numpy() - s).max() < 1e-6


@pytest.mark.parametrize("kind", ["saturating", "polynomial"])
def test_gradients_pass_a_check_by_finite_differences(oscillators, kind):
    edges, both, _, start, inject = laws(oscillators)
    law = both[kind]
    leaves = [t.clone().requires_grad_() for t in (*vars(law).values(), start, inject[0])]

    def run(*t):
        return evolve(edges, type(law)(*t[:-2]), t[-2], duration=0.5, steps=2, inject=t[-1:])

    assert torch.autograd.gradcheck(run, leaves, atol=1e-6)


def test_bad_tables_are_refused(oscillators):
    edges, both, _, start, _ = laws(oscillators)
    law = both["polynomial"]
    short = PolynomialLaw(law.coupling, law.bias, law.linear[:, 1:], law.cubic)
    with pytest.raises(ProgramError, match="law: linear"):
        evolve(edges, short, start, duration=1.0, steps=2)
