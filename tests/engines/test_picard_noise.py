"""Noise through the host's loop: against the iteration itself, drawn many times, and a closed form."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.engines.picard_noise import RelaxedLoop

DELTA, AVERAGED = 0.4, 20


def test_one_row_without_feedback_is_the_mean_of_an_autoregression():
    """e <- r e + q: var q^2 / (1 - r^2); of the mean of K: times (K + 2 sum (K - l) r^l) / K^2."""
    leak, gain, sd = 0.7, 0.5, 0.01
    loop = RelaxedLoop(np.zeros((1, 1)), np.array([[gain]]), np.array([leak]), DELTA)
    found = loop.noise(np.zeros((1, 1)), np.array([[sd**2]]), np.array([[0.002**2]]), AVERAGED)
    r, q = 1 - DELTA * leak, DELTA * gain * sd
    single = q**2 / (1 - r**2)
    lags = np.arange(1, AVERAGED)
    mean = single * (AVERAGED + 2 * ((AVERAGED - lags) * r**lags).sum()) / AVERAGED**2
    assert found.single[0, 0] == pytest.approx(np.sqrt(single))
    assert found.random[0, 0] == pytest.approx(np.sqrt(mean))
    assert found.common[0, 0] == pytest.approx(0.002 * gain / leak)


def test_a_loop_of_many_rows_scatters_as_derived():
    rng = np.random.default_rng(0)
    n, repeats = 6, 20_000
    weights = rng.normal(size=(n, n)) * 0.5
    gain, leak = rng.uniform(0.2, 0.6, (1, n)), rng.uniform(0.5, 1.0, n)
    bias, sd, shared = rng.normal(size=n), rng.uniform(1e-4, 1e-3, n), rng.uniform(1e-4, 1e-3, n)
    root = np.zeros(n)
    for _ in range(2000):
        root = root + DELTA * (gain[0] * (weights @ np.tanh(root)) + bias - leak * root)
    found = RelaxedLoop(weights, gain, leak, DELTA).noise(
        root[None], sd[None] ** 2, shared[None] ** 2, AVERAGED
    )
    z, total = np.tile(root, (repeats, 1)), np.zeros((repeats, n))
    offset = shared * rng.normal(size=(repeats, n))
    pure, pure_total = z.copy(), total.copy()
    for k in range(200 + AVERAGED):
        eta = sd * rng.normal(size=(repeats, n))
        z = z + DELTA * (gain * (np.tanh(z) @ weights.T + eta) + bias - leak * z)
        pure = pure + DELTA * (gain * (np.tanh(pure) @ weights.T + offset) + bias - leak * pure)
        if k >= 200:
            total, pure_total = total + z / AVERAGED, pure_total + pure / AVERAGED
    # sd of 20,000 draws: within 2.5% (5 standard errors)
    np.testing.assert_allclose(total.std(axis=0), found.random[0], rtol=0.025)
    np.testing.assert_allclose(z.std(axis=0), found.single[0], rtol=0.025)
    np.testing.assert_allclose(pure_total.std(axis=0), found.common[0], rtol=0.025)


def test_what_nothing_holds_has_no_small_error():
    """Leak 0 without feedback: nothing pulls the state back."""
    loop = RelaxedLoop(np.zeros((2, 2)), np.ones((1, 2)), np.array([0.0, 1.0]), DELTA)
    found = loop.noise(np.zeros((3, 2)), np.full((3, 2), 1e-6), np.full((3, 2), 1e-6), AVERAGED)
    assert (found.common[:, 0] > 1e4).all()
    assert (found.random[:, 0] > 10 * found.random[:, 1]).all()
    runaway = RelaxedLoop(np.eye(2) * 9.0, np.ones((1, 2)), np.ones(2), DELTA)
    assert np.isinf(runaway.noise(np.zeros((1, 2)), *[np.full((1, 2), 1e-6)] * 2, AVERAGED).random).all()
