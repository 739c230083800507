"""The oscillator law and its evolution in plain torch, against sines on every edge and tight solvers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from labctl.devices.errors import ProgramError
from labctl.physics import Stream
from labctl.physics.oscillators import Edges, OscillatorLaw, PhaseNoise, evolve, rhs


def by_edges(edges, law, k, theta, inject=None):
    """The law as written, a sine on every edge, one sample at a time."""
    a, b, second, w, coupling = (
        t[k].numpy() for t in (law.in_phase, law.quadrature, law.second, law.detuning, law.coupling)
    )
    out = []
    for row in range(len(theta)):
        th = theta[row].numpy()
        extra = (0, 0) if inject is None else (inject[0][row].numpy(), inject[1][row].numpy())
        rate = w + (a + extra[0]) * np.cos(th) - (b + extra[1]) * np.sin(th) - second * np.sin(2 * th)
        np.add.at(rate, edges.target, coupling * np.sin(th[edges.source] - th[edges.target]))
        out.append(rate)
    return np.stack(out)


@pytest.mark.parametrize(("n", "share"), [(9, 0.5), (200, 0.02)])  # matrix product, then edge by edge
def test_rhs_is_the_law(oscillators, n, share):
    edges, law, theta, inject = oscillators(n, share)
    for k in range(2):
        assert np.allclose(rhs(edges, law, k, theta).numpy(), by_edges(edges, law, k, theta), atol=1e-12)
        found = rhs(edges, law, k, theta, inject).numpy()
        assert np.allclose(found, by_edges(edges, law, k, theta, inject), atol=1e-12)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_schemes_have_their_order(oscillators, method, order):
    edges, law, theta, _ = oscillators(batch=1)
    durations = (0.7, 0.4)
    truth = theta.numpy()[0]
    for k, span in enumerate(durations):
        truth = solve_ivp(
            lambda _, y, k=k: by_edges(edges, law, k, torch.from_numpy(y[None]))[0], (0, span), truth,
            method="DOP853", rtol=1e-12, atol=1e-13,
        ).y[:, -1]  # fmt: skip
    errors = [
        np.abs(
            evolve(edges, law, theta, duration=durations, steps=m, method=method, backend="torch").numpy()
            - truth
        ).max()
        for m in (20, 40)
    ]
    assert 2 ** (order - 0.4) < errors[0] / errors[1] < 2 ** (order + 0.4)


def test_gradients_pass_a_check_by_finite_differences(oscillators):
    edges, law, theta, inject = oscillators(n=4, batch=2)
    tables = [
        t.clone().requires_grad_()
        for t in (law.coupling, law.in_phase, law.quadrature, law.second, law.detuning, theta, *inject)
    ]

    def run(*t):
        return evolve(
            edges, OscillatorLaw(*t[:5]), t[5], duration=0.5, steps=3, inject=t[6:], backend="torch"
        )

    assert torch.autograd.gradcheck(run, tables, atol=1e-6)


def test_free_phases_spread_by_2_d_t_and_draws_ignore_the_batch():
    edges = Edges.of_pairs(4, np.array([0]), np.array([1]))
    law = OscillatorLaw.zeros(edges, segments=2)
    ids = np.arange(2000)
    stream = Stream(3, "board", "phase")

    def run(ids, first_step=0, law=law):
        noise = PhaseNoise(0.03, stream, ids, first_step)
        return evolve(edges, law, torch.zeros(len(ids), 4), duration=1.5, steps=4, noise=noise)

    out = run(ids)
    assert out.var().item() == pytest.approx(2 * 0.03 * 3.0, rel=0.05)
    assert torch.equal(run(ids[500:700]), out[500:700])
    one = OscillatorLaw(*(t[:1] for t in vars(law).values()))
    assert torch.allclose(run(ids, 0, one) + run(ids, 4, one), out, atol=1e-6)


@pytest.mark.parametrize(
    ("target", "source", "words"),
    [
        ([0, 0], [1, 1], "sorted by"),
        ([1, 0], [0, 1], "sorted by"),
        ([2], [2], "to itself"),
        ([3], [0], "0 to 2"),
        ([0], [-1], "0 to 2"),
        ([0, 1], [1], "as many of each"),
    ],
)
def test_bad_edges_are_refused(target, source, words):
    with pytest.raises(ProgramError, match=words):
        Edges(3, np.array(target, np.int32), np.array(source, np.int32))


def test_opposite_edges_are_found():
    edges = Edges.of_pairs(3, np.array([0, 1, 2]), np.array([1, 0, 0]))
    assert edges.reverse.tolist() == [1, 0, -1]


def test_bad_input_of_evolve_is_refused(oscillators):
    edges, law, theta, inject = oscillators()
    good = {"duration": 1.0, "steps": 2}
    for change, words in [
        ({"duration": (1.0, 2.0, 3.0)}, "duration: 3 values"),
        ({"duration": -1.0}, "duration: -1.0"),
        ({"steps": 0}, "steps: 0"),
        ({"method": "rk5"}, "euler, heun, rk4"),
        ({"backend": "cuda"}, "auto, compiled, torch"),
        ({"noise": PhaseNoise(0.1, Stream(0, "a", "b"), np.arange(2))}, "2 sample ids"),
        ({"inject": (inject[0][:1], inject[1])}, "inject: a"),
    ]:
        with pytest.raises(ProgramError, match=words):
            evolve(edges, law, theta, **{**good, **change})
    with pytest.raises(ProgramError, match="theta: shape"):
        evolve(edges, law, theta[:, 1:], **good)
    short = OscillatorLaw(law.coupling, law.in_phase, law.quadrature, law.second[:, 1:], law.detuning)
    with pytest.raises(ProgramError, match="law: second"):
        evolve(edges, short, theta, **good)
    with pytest.raises(ProgramError, match="diffusion"):
        PhaseNoise(-1.0, Stream(0, "a", "b"), np.arange(2))
