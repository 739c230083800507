"""The compiled oscillator kernel against plain torch: states, noise, and the gradient of its very steps."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from labctl.devices.errors import ProgramError
from labctl.physics import Stream
from labctl.physics.oscillators import (
    Edges,
    OscillatorLaw,
    PhaseNoise,
    SaturatingLaw,
    adjoint,
    evolve,
)
from labctl.physics.oscillators.lanes import LANES, aligned, sine_cosine_into

RUN = {"duration": (0.5, 0.4), "steps": 5}


def run(edges, law, theta, inject=None, *, dtype=torch.float32, upstream=None, **how):
    """(phases, gradients of all tables, theta and inject of the weighted sum of phases)."""
    leaves = [
        t.detach().to(dtype).clone().requires_grad_() for t in (*vars(law).values(), theta, *(inject or ()))
    ]
    out = evolve(
        edges, OscillatorLaw(*leaves[:5]), leaves[5], inject=tuple(leaves[6:]) or None, **{**RUN, **how}
    )
    upstream = torch.cos(torch.arange(out.numel(), dtype=torch.float64)).reshape(out.shape)
    return out.detach(), torch.autograd.grad((out * upstream.to(dtype)).sum(), leaves)


def apart(x, y):
    """Largest difference over largest value."""
    return ((x - y).abs().max() / y.abs().max()).item()


def test_sine_and_cosine_within_2e_7():
    x, s, c = aligned(2**17), aligned(2**17), aligned(2**17)
    x[:] = np.linspace(-100, 100, x.size)
    sine_cosine_into(x, s, c)
    assert np.abs(s - np.sin(x.astype(float))).max() < 2e-7
    assert np.abs(c - np.cos(x.astype(float))).max() < 2e-7


@pytest.mark.parametrize("method", ["euler", "heun", "rk4"])
@pytest.mark.parametrize(
    ("n", "share", "batch"), [(9, 0.5, 3), (70, 0.1, 2 * LANES + 6), (200, 0.02, LANES), (31, 1.0, 3)]
)
@pytest.mark.parametrize("with_inject", [False, True])
def test_compiled_states_and_gradients_are_those_of_autograd(
    oscillators, method, n, share, batch, with_inject
):
    edges, law, theta, inject = oscillators(
        n, share, batch=batch, strength=0.6 / (1 + share * n) ** 0.5, dtype=torch.float32
    )
    inject = inject if with_inject else None
    noise = PhaseNoise(0.03, Stream(1, "board", "phase"), np.arange(batch) + 100)
    how = {"method": method, "noise": noise}
    found, gradients = run(edges, law, theta, inject, backend="compiled", **how)
    plain, plain_gradients = run(edges, law, theta, inject, backend="torch", **how)
    assert (found - plain).abs().max() < 1e-5
    assert max(map(apart, gradients, plain_gradients)) < 1e-5


def test_gradients_are_those_of_finite_differences(oscillators):
    edges, law, theta, inject = oscillators(strength=0.2, dtype=torch.float32)
    _, exact = run(edges, law, theta, inject, backend="torch", dtype=torch.float64)
    _, compiled = run(edges, law, theta, inject, backend="compiled")
    leaves = [t.double() for t in (*vars(law).values(), theta, *inject)]
    weights = torch.cos(torch.arange(theta.numel(), dtype=torch.float64)).reshape(theta.shape)

    def value(leaves):
        out = evolve(edges, OscillatorLaw(*leaves[:5]), leaves[5], inject=tuple(leaves[6:]), **RUN)
        return (out * weights).sum().item()

    step = 1e-5
    for number, leaf in enumerate(leaves):
        slopes = torch.zeros(leaf.numel(), dtype=torch.float64)
        for i in range(leaf.numel()):
            ends = []
            for sign in (step, -step):
                moved = leaf.clone()
                moved.view(-1)[i] += sign
                ends.append(value([*leaves[:number], moved, *leaves[number + 1 :]]))
            slopes[i] = (ends[0] - ends[1]) / (2 * step)
        assert apart(exact[number], slopes.reshape(leaf.shape)) < 1e-6
        assert apart(compiled[number].double(), slopes.reshape(leaf.shape)) < 1e-6


def test_states_run_again_give_the_same_gradient(oscillators, monkeypatch):
    edges, law, theta, inject = oscillators(20, 0.3, batch=LANES + 1, dtype=torch.float32)
    noise = PhaseNoise(0.05, Stream(2, "board", "phase"), np.arange(LANES + 1))
    kept = run(edges, law, theta, inject, noise=noise)
    monkeypatch.setattr(adjoint, "KEPT_BYTES", 4 * theta.numel() * 5)  # two steps of the ten, so every other
    plan = adjoint.Plan(edges, (0.5, 0.4), 5, "heun", noise)
    assert plan.stride(len(theta)) == 2
    again = run(edges, law, theta, inject, noise=noise)
    assert torch.equal(kept[0], again[0])
    assert all(torch.equal(x, y) for x, y in zip(kept[1], again[1], strict=True))


def test_a_sample_does_not_depend_on_its_batch(oscillators):
    edges, law, theta, inject = oscillators(20, 0.3, batch=100, dtype=torch.float32)
    ids = np.arange(100)

    def states(some):
        noise = PhaseNoise(0.05, Stream(2, "board", "phase"), ids[some])
        return evolve(edges, law, theta[some], inject=tuple(t[some] for t in inject), noise=noise, **RUN)

    assert torch.equal(states(slice(37, 81)), states(slice(None))[37:81])
    assert states(slice(0, 0)).shape == (0, 20)


def test_what_is_no_number_stays_with_its_sample(oscillators):
    edges, law, theta, _ = oscillators(20, 0.3, batch=5, dtype=torch.float32)
    spoiled = theta.clone()
    spoiled[2, 7] = torch.nan
    out = evolve(edges, law, spoiled, **RUN)
    others = [0, 1, 3, 4]
    assert out[2].isnan().any()
    assert torch.equal(out[others], evolve(edges, law, theta, **RUN)[others])


def test_only_what_is_asked_for_is_differentiated(oscillators):
    edges, law, theta, _ = oscillators(dtype=torch.float32)
    assert not evolve(edges, law, theta, **RUN).requires_grad
    coupling = law.coupling.clone().requires_grad_()
    some = OscillatorLaw(coupling, law.in_phase, law.quadrature, law.second, law.detuning)
    flipped = theta.T.contiguous().T  # columns side by side in memory
    out = evolve(edges, some, flipped, **RUN)
    out.sum().backward()
    assert coupling.grad.abs().max() > 0
    with torch.no_grad():  # and then no states are kept
        again = evolve(edges, some, flipped, **RUN)
    assert torch.equal(out, again)
    assert not again.requires_grad


def test_the_kernel_is_compiled_into_vectors(oscillators):
    # 60 to 90 times the speed of torch's gather on AVX-512; 6 to 9 where the compiler counts references in
    # the loops, which its inlining does at small provocation
    edges, law, theta, _ = oscillators(784, 8 / 784, batch=64, dtype=torch.float32)

    def process_s(backend, repeats):
        began = time.process_time()
        for _ in range(repeats):
            evolve(edges, law, theta, method="rk4", backend=backend, **RUN)
        return (time.process_time() - began) / repeats

    process_s("compiled", 1)
    ours = min(process_s("compiled", 5) for _ in range(3))
    assert process_s("torch", 1) > 15 * ours


def test_uncoupled_oscillators_run_too():
    edges = Edges(1, np.zeros(0, np.int32), np.zeros(0, np.int32))
    law = OscillatorLaw.zeros(edges)
    law = OscillatorLaw(law.coupling, law.in_phase, law.quadrature, law.second, law.detuning + 0.5)
    theta = torch.zeros(3, 1, requires_grad=True)
    out = evolve(edges, law, theta, duration=2.0, steps=4)
    assert torch.allclose(out, torch.ones(3, 1))
    out.sum().backward()
    assert torch.equal(theta.grad, torch.ones(3, 1))


def test_the_compiled_backend_refuses_what_it_does_not_do(oscillators):
    edges, law, theta, _ = oscillators()
    with pytest.raises(ProgramError, match="float32 on the CPU"):
        evolve(edges, law, theta, backend="compiled", **RUN)
    ising = SaturatingLaw(law.coupling.float(), law.detuning.float())
    with pytest.raises(ProgramError, match="another law"):
        evolve(edges, ising, theta.float(), backend="compiled", **RUN)
    with pytest.raises(ProgramError, match="inject: 2 tensors"):
        evolve(edges, ising, theta.float(), inject=(theta, theta), **RUN)
