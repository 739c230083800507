"""The loop law against solutions found without it: by hand, by DOP853, by a delay integrator."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.optimize import root

from labctl.physics import ExponentialStep, LoopLaw, delayed_map, settle_fast, settle_times, trajectory
from labctl.physics.loop import saturate


def last(states):
    for state in states:
        z = state
    return z


def law(weights, gain, leak, bias, linear_rows=()):
    parts = [torch.as_tensor(np.atleast_2d(a), dtype=torch.float64) for a in (weights, gain, leak, bias)]
    return LoopLaw(*parts, linear_rows)


@pytest.mark.parametrize("method", ["euler", "ab2", "pec"])
@pytest.mark.parametrize("dt", [0.01, 0.3, 2.0])
def test_a_dark_loop_follows_the_exponential_exactly_at_any_step(method, dt):
    leak, bias, start = np.array([[0.0, 1e-5, 0.2, 1.0]]), 0.7, 0.4
    dark = law(np.zeros((4, 4)), np.ones((1, 4)), leak, np.full((1, 4), bias))
    steps = 6
    z = last(
        trajectory(dark, torch.full((1, 4), start, dtype=torch.float64), dt=dt, steps=steps, method=method)
    )
    t = dt * steps
    driven = [bias * (t if v == 0 else -math.expm1(-v * t) / v) for v in leak[0]]
    expected = start * np.exp(-leak * t) + driven
    np.testing.assert_allclose(z, expected, rtol=1e-9)


def test_a_row_couples_as_output_to_column_as_input():
    weights = np.zeros((3, 3))
    weights[2, 0] = 0.5
    one = law(weights, [[1, 1, 2.0]], np.ones((1, 3)), np.zeros((1, 3)))
    forcing = one.forcing(torch.tensor([[0.3, 9.0, 9.0]], dtype=torch.float64))
    np.testing.assert_allclose(forcing, [[0, 0, 2.0 * 0.5 * math.tanh(0.3)]], rtol=1e-15)


def test_phi_saturates_on_every_row_unless_declared_linear():
    z = torch.tensor([[3.0, -3.0]], dtype=torch.float64)
    every = law(np.eye(2), np.ones((1, 2)), np.ones((1, 2)), np.zeros((1, 2)))
    np.testing.assert_allclose(every.phi(z), np.tanh([[3.0, -3.0]]))
    second = law(np.eye(2), np.ones((1, 2)), np.ones((1, 2)), np.zeros((1, 2)), linear_rows=(1,))
    np.testing.assert_allclose(second.phi(z), [[math.tanh(3.0), -3.0]])
    assert z[0, 1] == -3.0


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("ab2", 2), ("pec", 2)])
def test_linear_rows_converge_to_the_matrix_exponential_at_their_order(method, order):
    rng = np.random.default_rng(1)
    n = 5
    weights, leak = 0.4 * rng.normal(size=(n, n)), rng.uniform(0.5, 1.0, n)
    gain, bias, start = rng.uniform(0.5, 1.5, n), rng.normal(size=n), rng.normal(size=n)
    matrix = gain[:, None] * weights - np.diag(leak)
    fixed = -np.linalg.solve(matrix, bias)
    exact = fixed + expm(4.0 * matrix) @ (start - fixed)
    linear = law(weights, gain, leak, bias, tuple(range(n)))
    errors = []
    for steps in (80, 160, 320):
        z = last(trajectory(linear, torch.from_numpy(start[None]), dt=4 / steps, steps=steps, method=method))
        errors.append(np.abs(z.numpy() - exact).max())
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("ab2", 2), ("pec", 2)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_order_of_convergence_to_dop853_on_random_nets(net, method, order, seed):
    loop = net(seed=seed)
    exact = loop.flow([3.0])[0]
    errors = []
    for steps in (60, 120, 240):
        z = last(trajectory(loop.law, loop.z0, dt=3 / steps, steps=steps, method=method))
        errors.append(np.abs(z.numpy() - exact).max())
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)
    assert errors[-1] < (2e-2 if order == 1 else 1e-3)


@pytest.mark.parametrize("method", ["ab2", "pec"])
@pytest.mark.parametrize("ratio", [0.125, 0.5, 1.0])
def test_the_trip_delay_is_modelled_to_second_order(net, ratio, method):
    """Trip and step halved together, as the delay is extrapolated over about one step."""
    loop = net(seed=3)
    errors, ignoring = [], []
    for steps in (12, 24, 48):
        dt = 3.0 / steps
        exact = loop.delayed_flow(3.0, ratio * dt, steps * 64)
        z = last(trajectory(loop.law, loop.z0, dt=dt, steps=steps, method=method, trip=ratio * dt))
        plain = last(trajectory(loop.law, loop.z0, dt=dt, steps=steps, method=method))
        errors.append(np.abs(z.numpy() - exact).max())
        ignoring.append(np.abs(plain.numpy() - exact).max())
    assert math.log2(errors[0] / errors[2]) / 2 > 1.6
    assert errors[2] < ignoring[2] / 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_correcting_the_prediction_pays_at_coarse_steps(net, seed):
    """Same evaluations, a fraction of the error."""
    loop = net(n=48, batch=16, strength=0.8, seed=seed)
    exact = loop.flow([6.0])[0]
    predicted, corrected = (
        np.abs(last(trajectory(loop.law, loop.z0, dt=0.5, steps=12, method=method)).numpy() - exact).max()
        for method in ("ab2", "pec")
    )
    assert corrected < predicted / 3


def test_settle_times_at_the_twins_step_are_within_half_a_percent(net):
    """The step limit of the electronics twin (0.22 tau) rests on this."""
    loop = net(n=48, batch=48, strength=1.0, seed=5)
    final = loop.flow([80.0])[0]
    times = np.arange(0, 20, 0.02)
    exact = settle_times(times, np.concatenate([loop.start[None], loop.flow(times[1:])]), final, 0.038)
    dt = 0.22
    states = [loop.z0, *trajectory(loop.law, loop.z0, dt=dt, steps=90)]
    coarse = settle_times(dt * np.arange(91), torch.stack(states).numpy(), final, 0.038)
    error = np.abs(coarse - exact) / exact
    assert np.isfinite(exact).all()
    assert np.median(exact) > 3
    assert np.median(error) < 5e-3
    assert error.max() < 3e-2


@pytest.mark.parametrize("method", ["euler", "ab2", "pec"])
def test_gradients_flow_through_a_trajectory(method):
    torch.manual_seed(0)
    n = 3

    def run(weights, gain, leak, bias, z):
        parts = LoopLaw(weights, gain, leak, bias)
        return last(trajectory(parts, z, dt=0.3, steps=5, method=method, trip=0.05))

    inputs = [
        torch.randn(n, n, dtype=torch.float64),
        torch.rand(1, n, dtype=torch.float64) + 0.5,
        torch.rand(1, n, dtype=torch.float64) * 0.5 + 0.3,
        torch.randn(2, n, dtype=torch.float64),
        torch.randn(2, n, dtype=torch.float64),
    ]
    for value in inputs:
        value.requires_grad_(True)
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("method", ["euler", "ab2", "pec"])
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("tile", [3, 512])
def test_settle_fast_is_the_trajectory(net, method, per_sample, tile):
    loop = net(batch=7)
    if per_sample:  # a gain and leak of its own for every sample
        loop.gain = loop.gain * np.linspace(0.5, 1, 7)[:, None]
        loop.leak = np.repeat(loop.leak, 7, axis=0)
    start = loop.z0
    slow = last(trajectory(loop.law, start, dt=0.2, steps=30, method=method, trip=0.03))
    fast = settle_fast(loop.law, start, dt=0.2, steps=30, method=method, trip=0.03, tile=tile)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-13)
    torch.testing.assert_close(start, loop.z0, rtol=0, atol=0)  # the caller's start is left alone


def test_settle_fast_shows_an_observer_every_state(net):
    loop = net(batch=5)
    seen = []
    settle_fast(loop.law, loop.z0, dt=0.2, steps=4, tile=2, observe=lambda k, z: seen.append((k, z.clone())))
    expected = list(trajectory(loop.law, loop.z0, dt=0.2, steps=4))
    assert [k for k, _ in seen] == [0, 1, 2, 3]
    for (_, got), want in zip(seen, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-13)


def test_flow_and_map_share_the_fixed_point(net):
    loop = net(strength=0.5)
    settled = last(trajectory(loop.law, loop.z0, dt=0.2, steps=600))
    mapped = last(delayed_map(loop.law, loop.z0, trips=400))
    for b in range(len(loop.start)):
        exact = root(lambda z, b=b: (loop.forcing(z) - loop.leak * z)[b], np.zeros(12), tol=1e-13)
        assert exact.success
        np.testing.assert_allclose(settled[b], exact.x, atol=1e-9)
        np.testing.assert_allclose(mapped[b], exact.x, atol=1e-9)


def ring(blocks, product):
    """A ring of `blocks` rows whose loop gain is -product: one negative eigenvalue, `blocks` lags."""
    weights = np.roll(np.eye(blocks), 1, axis=0)
    weights[0, blocks - 1] = -1.0
    each = product ** (1 / blocks)
    return law(weights, np.full((1, blocks), each), np.ones((1, blocks)), np.zeros((1, blocks)))


def test_an_eigenvalue_below_minus_one_settles_as_a_flow_and_cycles_as_a_map():
    """Reference numbers 0.4: on the negative side the map stops at 1, the flow does not."""
    one = ring(1, 1.5)
    start = torch.tensor([[0.3]], dtype=torch.float64)
    assert abs(last(trajectory(one, start, dt=0.1, steps=400)).item()) < 1e-6
    states = list(delayed_map(one, start, trips=400))
    # period 2: z -> -z with z = 1.5 tanh z
    amplitude = root(lambda z: z - 1.5 * np.tanh(z), 1.0).x[0]
    assert abs(states[-1].item()) == pytest.approx(amplitude, rel=1e-9)
    assert states[-1].item() == pytest.approx(-states[-2].item(), rel=1e-9)
    assert states[-1].item() == pytest.approx(states[-3].item(), rel=1e-9)


def test_leak_one_half_moves_the_maps_limit_to_the_published_machines():
    """alpha = 1 - leak = .5: eigenvalue .5 - k must stay above -1, so k < 1.5; at leak 1, k < 1."""
    start = torch.tensor([[0.1]], dtype=torch.float64)
    for leak, k, settles in ((0.5, 1.4, True), (0.5, 1.6, False), (1.0, 0.95, True), (1.0, 1.05, False)):
        one = law([[-1.0]], [[k]], [[leak]], [[0.0]])
        states = list(delayed_map(one, start, trips=600))
        assert (abs(states[-1].item()) < 1e-3) == settles, (leak, k)


@pytest.mark.parametrize(("blocks", "limit"), [(3, 8.0), (4, 4.0)])
def test_the_flow_of_a_ring_is_stable_up_to_its_negative_limit(blocks, limit):
    """|lambda| < 1 / cos^(L+1)(pi / (L+1)): 8 for L = 2, 4 for L = 3."""
    assert 1 / math.cos(math.pi / blocks) ** blocks == pytest.approx(limit)
    start = torch.full((1, blocks), 0.2, dtype=torch.float64)
    below = last(trajectory(ring(blocks, 0.8 * limit), start, dt=0.1, steps=4000))
    above = list(trajectory(ring(blocks, 1.3 * limit), start, dt=0.1, steps=4000))
    assert below.abs().max() < 1e-6
    swing = torch.stack(above[-200:])[:, 0, 0]
    assert swing.max() > 0.3
    assert swing.min() < -0.3


def test_a_ring_of_two_is_stable_at_any_negative_gain():
    start = torch.full((1, 2), 0.2, dtype=torch.float64)
    assert last(trajectory(ring(2, 30.0), start, dt=0.05, steps=4000)).abs().max() < 1e-6


def test_the_map_is_the_flows_iteration_map(net):
    loop = net()
    z = loop.z0
    expected = (1 - loop.leak) * loop.start + loop.forcing(loop.start)
    np.testing.assert_allclose(loop.law.map(z), expected, rtol=1e-13)


def test_step_coefficients_cross_their_series_smoothly():
    leak = torch.tensor([[0.0, 1e-7, 9.99e-4, 1.001e-3, 0.3]], dtype=torch.float64)
    step = ExponentialStep.of(leak, 1.0)
    x = leak.numpy()[0]
    exact1 = [1.0 if v == 0 else -math.expm1(-v) / v for v in x]
    np.testing.assert_allclose((step.now + step.before)[0], exact1, rtol=1e-9)
    # extrapolation weight: integral of exp(-x (1 - s)) s ds
    s = (np.arange(200_000) + 0.5) / 200_000
    exact2 = [np.mean(np.exp(-v * (1 - s)) * s) for v in x]
    np.testing.assert_allclose(-step.before[0], exact2, rtol=1e-8)


def test_the_compiled_tanh_is_within_its_stated_error():
    x = np.concatenate([np.linspace(-12, 12, 400_001), [0.0, 1e-30, -1e-30, 1e30, -1e30, np.inf, -np.inf]])
    z = torch.from_numpy(x.astype(np.float32))
    out = saturate(z)
    error = np.abs(out.double().numpy() - np.tanh(z.double().numpy()))
    assert error.max() < 3e-7
    assert out[400_001].item() == 0.0


def test_single_precision_and_its_gradients_agree_with_double(net):
    loop = net(n=48, batch=6)
    gradients, states = [], []
    for dtype in (torch.float32, torch.float64):
        parts = [torch.from_numpy(a).to(dtype) for a in (loop.weights, loop.gain, loop.leak, loop.bias)]
        parts[0].requires_grad_(True)
        z = last(trajectory(LoopLaw(*parts), loop.z0.to(dtype), dt=0.2, steps=20))
        z.square().sum().backward()
        gradients.append(parts[0].grad.double())
        states.append(z.detach().double())
        fast = settle_fast(LoopLaw(*(p.detach() for p in parts)), loop.z0.to(dtype), dt=0.2, steps=20)
        torch.testing.assert_close(fast.double(), states[-1], rtol=0, atol=5e-6)
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=5e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)
    assert gradients[1].abs().max() > 0.1
