"""The fitted loop at rest: found, differentiated, moved by disturbances; and lagging oscillators likewise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from labctl.devices.topology import grid
from labctl.models.oscillators.board_law import edges_of
from labctl.physics import FittedCurve, FittedLoop, FittedMap, carried
from labctl.physics.oscillators import LaggedLaw, OscillatorLaw, evolve, settle_lagged

N = 5


@pytest.fixture
def loop():
    rng = np.random.default_rng(1)

    def around(middle, size):
        return torch.from_numpy(middle + size * rng.standard_normal(N))

    size = np.array([1, 0.05, 0.02])[:, None, None]
    light = FittedMap(
        torch.from_numpy(rng.normal(0, 0.3, (3, N, N)) * size),
        replace(FittedCurve.nominal(N), shift=around(0, 0.1), mix=torch.tensor(0.4).double()),
        around(0, 0.1),
    )
    return FittedLoop(light, around(1, 0.05), around(0, 0.02), around(1, 0.1), around(0, 0.1))


def knobs(batch=4, seed=2):
    rng = np.random.default_rng(seed)
    return (
        torch.from_numpy(rng.normal(0, 1, (batch, N))),
        torch.from_numpy(rng.uniform(0.3, 0.9, (1, N))),
        torch.from_numpy(rng.uniform(0.6, 1.0, (1, N))),
    )


def test_a_rest_obeys_its_equation(loop):
    law = loop.law(*knobs())
    z = law.rest()
    assert float(law.rate(z).abs().max()) < 1e-12
    left = law.leak * z - law.gain * law.light(z) - law.bias
    assert float(left.abs().max()) < 1e-12


def test_its_gradient_is_that_of_the_state(loop):
    def rest(bias, gain, leak):
        return loop.law(bias, gain, leak).rest()

    assert torch.autograd.gradcheck(rest, [one.requires_grad_() for one in knobs()], atol=1e-7)


def test_the_slope_of_a_map_is_its_derivative(loop):
    z = knobs()[0]
    exact = torch.stack([torch.autograd.functional.jacobian(loop.light, one) for one in z])
    torch.testing.assert_close(loop.light.slope(z), exact)


def test_small_disturbances_move_it_as_told(loop):
    bias, gain, leak = knobs()
    law = loop.law(bias, gain, leak)
    z, push = law.rest(), 1e-5 * torch.randn(4, N, generator=torch.Generator().manual_seed(0)).double()
    behind = loop.law(bias + push, gain, leak).rest()
    torch.testing.assert_close(law.moved(z, push, 0 * push), behind, atol=1e-9, rtol=0)
    before = replace(law, light=replace(law.light, offset=law.light.offset + push)).rest()
    torch.testing.assert_close(law.moved(z, 0 * push, push), before, atol=1e-9, rtol=0)


def test_the_way_ends_at_rest(loop):
    law = loop.law(*knobs())
    torch.testing.assert_close(law.way(dt=0.1, steps=400)[-1], law.rest().detach(), atol=1e-8, rtol=0)


def test_channels_shown_nothing_carry_what_others_do():
    fractions = torch.eye(4).double()
    fractions[3, 3] = 0
    powers = torch.stack([2 * fractions, 0.1 * fractions])
    torch.testing.assert_close(carried(powers, fractions), torch.tensor([[2.0] * 4, [0.1] * 4]).double())


def test_lagging_oscillators_at_rest():
    """Without a lag they are the plain law; with one the gradient is the state's."""
    edges = edges_of(grid(2, 2, 1.0))
    draw = torch.Generator().manual_seed(3)
    e = len(edges)
    zeros = torch.zeros(1, 4).double()
    coupling, late = 0.3 * torch.randn(2, 1, e, generator=draw).double()
    start = torch.randn(3, 4, generator=draw).double()
    anchors = (torch.full((3, 4), 0.4).double(), torch.full((3, 4), 1.5).double())
    plain = OscillatorLaw(coupling, zeros, zeros, zeros, zeros + 0.2)

    def at(law):
        return evolve(edges, law, start, duration=2.0, steps=40, inject=anchors)

    torch.testing.assert_close(at(LaggedLaw(plain, 0 * late)), at(plain))

    def rest(coupling, late, detuning):
        law = LaggedLaw(OscillatorLaw(coupling, zeros, zeros, zeros, detuning), late)
        return settle_lagged(edges, law, start, duration=24.0, steps=120, inject=anchors)

    given = [one.requires_grad_() for one in (coupling, late, zeros + 0.2)]
    assert torch.autograd.gradcheck(rest, given, atol=1e-6)
