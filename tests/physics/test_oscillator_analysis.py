"""Runs of the oscillator law against what theory says of it, and the theory's own functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.devices.errors import ProgramError
from labctl.physics import Stream
from labctl.physics.oscillators import (
    Edges,
    OscillatorLaw,
    PhaseNoise,
    beat_rate,
    contraction_rate,
    energy,
    evolve,
    gershgorin_margin,
    hessian,
    locked_phase,
    locking,
    rhs,
    stationary_covariance,
)


def symmetric_law(n=6, seed=0, anchor=0.0, strength=0.5, second=0.2, detuning=0.2):
    """All-to-all symmetric couplings, anchors of at least the given strength; (edges, law of one segment)."""
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(~np.eye(n, dtype=bool))
    edges = Edges.of_pairs(n, pairs[:, 0], pairs[:, 1])
    full = rng.normal(size=(n, n)) * strength
    full = (full + full.T) / 2
    phase, size = rng.uniform(-np.pi, np.pi, n), anchor + rng.random(n)
    rows = (
        full[edges.target, edges.source], size * np.sin(phase), size * np.cos(phase),
        second * rng.normal(size=n), detuning * rng.normal(size=n),
    )  # fmt: skip
    return edges, OscillatorLaw(*(torch.from_numpy(row)[None] for row in rows))


def settled(edges, law, **how):
    """An equilibrium [1, n] on the anchors' side."""
    start = torch.atan2(law.in_phase, law.quadrature)
    return evolve(edges, law, start, duration=80.0, steps=1600, method="rk4", **how)


def test_two_oscillators_lock_where_theory_says_and_at_its_phase():
    # one pair for every detuning, in one run: K_12 = .7, K_21 = .3
    detuning = torch.cat(
        [torch.linspace(-0.95, 0.95, 20), torch.tensor([0.99, -0.99, 1.01, -1.01, 1.2, -2.0])]
    )
    m = len(detuning)
    one, two = np.arange(m), np.arange(m) + m
    edges = Edges.of_pairs(2 * m, np.concatenate([one, two]), np.concatenate([two, one]))
    law = OscillatorLaw.zeros(edges)
    coupling = torch.cat([torch.full((m,), 0.7), torch.full((m,), 0.3)])[None]
    turned = torch.cat([detuning, torch.zeros(m)])[None]
    law = OscillatorLaw(coupling, law.in_phase, law.quadrature, law.second, turned)
    early, late = (
        evolve(edges, law, torch.zeros(1, 2 * m), duration=span, steps=round(span / 0.05), method="rk4")[0]
        for span in (300.0, 1500.0)
    )
    phase = (late[:m] - late[m:]).numpy()
    slip = (phase - (early[:m] - early[m:]).numpy()) / 1200.0
    theory = locked_phase(detuning, torch.ones(m)).numpy()
    locked = np.abs(detuning.numpy()) < 1
    assert np.array_equal(np.isfinite(theory), locked)
    assert np.abs(slip[locked]).max() < 1e-5  # within 1% of the edge on either side
    assert np.abs(phase[:20] / theory[:20] - 1).max() < 0.01
    beats = beat_rate(detuning, torch.ones(m)).numpy()
    assert np.abs(slip[-2:] / beats[-2:] - 1).max() < 0.01
    assert np.abs(slip[22:24]).min() > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_relaxation_is_as_fast_as_the_smallest_eigenvalue(seed):
    edges, law = symmetric_law(seed=seed, anchor=1.0)
    rest = settled(edges, law)
    found = hessian(edges, law, 0, rest)
    rate, slowest = contraction_rate(found).item(), torch.linalg.eigh(found[0]).eigenvectors[:, 0]
    assert rate > 0.2
    away = rest + 1e-3 * slowest
    span = 4.0 / rate
    late = evolve(edges, law, away, duration=span, steps=400, method="rk4")
    seen = np.log((away - rest).norm().item() / (late - rest).norm().item()) / span
    assert seen == pytest.approx(rate, rel=0.02)


def test_fluctuations_have_the_variance_of_theory():
    edges, law = symmetric_law(seed=1, anchor=1.0)
    rest = settled(edges, law)
    diffusion, samples = 1e-3, 20_000
    expected = stationary_covariance(hessian(edges, law, 0, rest), diffusion)[0].diagonal().numpy()
    law32 = OscillatorLaw(*(t.float() for t in vars(law).values()))
    noise = PhaseNoise(diffusion, Stream(5, "board", "phase"), np.arange(samples))
    start = rest.float().expand(samples, -1)
    spread = evolve(edges, law32, start, duration=8.0, steps=80, noise=noise).double()  # steps of 0.1
    seen = spread.var(0).numpy()
    assert np.abs(seen / expected - 1).max() < 0.05


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 8), second=st.floats(-1, 1), strength=st.floats(0, 1.5))
def test_energy_falls_along_symmetric_flows(seed, n, second, strength):
    edges, law = symmetric_law(n, seed, second=second, strength=strength, detuning=0.5)
    rng = np.random.default_rng(seed)
    theta = torch.from_numpy(rng.uniform(-np.pi, np.pi, (4, n))).requires_grad_()
    value = energy(edges, law, 0, theta)
    (slope,) = torch.autograd.grad(value.sum(), theta)
    assert torch.allclose(-slope, rhs(edges, law, 0, theta), atol=1e-12)
    state = theta.detach()
    for _ in range(20):
        after = evolve(edges, law, state, duration=0.2, steps=8, method="rk4")
        assert (energy(edges, law, 0, after) <= energy(edges, law, 0, state) + 1e-9).all()
        state = after


def test_an_energy_of_directed_couplings_is_refused(oscillators):
    edges, law, theta, _ = oscillators()
    with pytest.raises(ProgramError, match="segment 1 are directed"):
        energy(edges, law, 1, theta)


def test_hessian_is_minus_the_jacobian_and_gershgorin_bounds_its_eigenvalues(oscillators):
    edges, law, theta, inject = oscillators(batch=4)
    found = hessian(edges, law, 1, theta, inject)
    for row in range(len(theta)):
        exact = torch.autograd.functional.jacobian(
            lambda th, row=row: rhs(edges, law, 1, th[None], tuple(t[row : row + 1] for t in inject))[0],
            theta[row],
        )
        assert torch.allclose(found[row], -exact, atol=1e-12)
    assert (gershgorin_margin(found) <= contraction_rate(found) + 1e-12).all()
    # a diagonally dominant one: circles do not reach zero
    dominant = torch.tensor([[[3.0, -1.0], [0.5, 2.0]]])
    assert gershgorin_margin(dominant).item() == pytest.approx(1.75)
    assert contraction_rate(dominant).item() > 1.75


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_states_stay_inside_the_locking_bound(seed):
    rng = np.random.default_rng(seed)
    n = 6
    pairs = np.argwhere((rng.random((n, n)) < 0.5) & ~np.eye(n, dtype=bool))
    edges = Edges.of_pairs(n, pairs[:, 0], pairs[:, 1])
    phase = rng.uniform(-np.pi, np.pi, n)
    coupling, w = rng.normal(size=len(edges)) * 0.4, 0.2 * rng.normal(size=n)
    pull = np.abs(w)
    np.add.at(pull, edges.target, np.abs(coupling))
    strength = pull / rng.uniform(0.2, 0.95, n) + 1e-3
    rows = coupling, strength * np.sin(phase), strength * np.cos(phase), np.zeros(n), w
    law = OscillatorLaw(*(torch.from_numpy(row)[None] for row in rows))
    anchors = torch.from_numpy(phase)[None]
    gamma = locking(edges, law, 0, anchors).gamma_rad.item()
    assert locking(edges, law, 0, anchors).offset_rad.item() < 1e-9
    state = anchors + torch.from_numpy(rng.uniform(-gamma, gamma, (8, n)))
    for _ in range(10):
        state = evolve(edges, law, state, duration=0.5, steps=20, method="rk4")
        held = locking(edges, law, 0, state)
        assert (held.distance_rad > -1e-9).all()
    assert held.load.max().item() < 1
    weak = OscillatorLaw(
        *(t * (0.1 if name in ("in_phase", "quadrature") else 1) for name, t in vars(law).items())
    )
    assert locking(edges, weak, 0, state).gamma_rad.isnan().all() or len(edges) == 0
