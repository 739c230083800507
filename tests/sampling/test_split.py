"""Machines in sequence: a network cut into parts must still be that network."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.devices import ProgramError
from labctl.engines import DigitalEngine
from labctl.models.network import RowTableNetwork
from labctl.programs import encode
from labctl.sampling import (
    HostMachine,
    LoopMachine,
    Sampler,
    asks_of,
    compile_program,
    parts_of,
    scheme,
    sigmas,
    start_noise,
    visits,
)

N = 8
SIZES = (2, 16)  # on 8 rows: three parts, of 6, 6 and 4 hidden units and two empty rows


def sampler_of(name="implicit-midpoint", steps=4):
    return Sampler(scheme(name), sigmas("flow", steps, 6.0, 0.1))


def drawn(network, sampler, sweeps, *, samples=40, seen=None):
    """Samples of a cut network on the exact engine, and of the whole one on the host."""
    ids = np.arange(samples)
    labels = ids % network.n_classes if network.n_classes else None
    x = start_noise(ids, network.sizes[0], seed=3, sigma_max=6.0)
    program = compile_program(network, sampler, N, sweeps=sweeps)
    engine = DigitalEngine(N, tolerance=1e-12)
    engine.load(program)
    machine = LoopMachine(engine, network, program, labels=labels, sample_id=ids, seen=seen)
    out = sampler.run(machine, x, sample_id=ids, seed=0)
    return out, sampler.run(HostMachine(network, labels=labels), x, sample_id=ids, seed=0)


@pytest.mark.parametrize("n_classes", [0, 3])
def test_parts_sum_to_the_whole_network(toy, n_classes):
    network = toy(SIZES, n_classes=n_classes)
    x, labels = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3 if n_classes else None
    parts = parts_of(network, N)
    assert [tuple(part.sizes) for part in parts] == [(2, 6)] * 3
    for sigma in (0.1, 1.0, 5.0):
        c_skip, c_out, _ = network.preconditioning.coefficients(sigma)
        b_out = network.rows(sigma).biases[1][0 if labels is None else labels]
        raw = [(HostMachine(p, labels=labels).denoise(x, sigma) - c_skip * x) / c_out for p in parts]
        whole = (HostMachine(network, labels=labels).denoise(x, sigma) - c_skip * x) / c_out
        np.testing.assert_allclose(sum(raw) - 2 * b_out, whole, atol=1e-12)


def test_a_network_that_fits_stays_whole(toy):
    network = toy((2, 6))
    assert parts_of(network, N) == (network,)


@pytest.mark.parametrize(("sizes", "channels"), [((2, 16, 16), 8), ((8, 3), 8)])
def test_what_cannot_be_cut_is_refused(toy, sizes, channels):
    with pytest.raises(ProgramError, match="only a network of one hidden layer"):
        parts_of(toy(sizes), channels)


@given(st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_visits_go_there_and_back(parts, sweeps, from_top):
    order = visits(parts, sweeps, from_top)
    assert len(order) == sweeps * (parts - 1) + 1
    assert set(order) == set(range(parts))
    assert all(abs(a - b) == 1 for a, b in pairwise(order))
    following = visits(parts, sweeps, order[-1] > 0)
    assert following[0] == order[-1]  # the matrix on display goes on


@pytest.mark.parametrize("name", ["implicit-midpoint", "implicit-euler", "implicit-trapezoid", "ddim"])
@pytest.mark.parametrize("n_classes", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_sweeps_converge_to_the_whole_networks_samples(toy, name, n_classes):
    network = toy(SIZES, n_classes=n_classes)
    errors = [np.abs(np.subtract(*drawn(network, sampler_of(name), sweeps))).max() for sweeps in (1, 2, 12)]
    assert errors[2] < 1e-7
    if name == "ddim":  # evaluations need no sweeps
        assert errors[0] < 1e-7
    else:
        assert errors[2] < errors[1] < errors[0] < 0.2


def test_an_evaluation_asks_every_part_once_and_frames_are_counted(toy):
    network, sampler = toy(SIZES), sampler_of(steps=2)
    program = compile_program(network, sampler, N, sweeps=2)
    order = [(s.kind, s.matrix, s.last) for s in program.segments]
    step = [("implicit", k, False) for k in (0, 1, 2, 1)] + [("implicit", 0, True)]
    end = [("evaluate", 0, False), ("evaluate", 1, False), ("evaluate", 2, True)]
    assert order == [*step, *step, *end]
    assert program.frames == 1 + 4 + 4 + 2
    assert len(asks_of(sampler)) == 3


def test_codes_are_cut_with_their_scales():
    whole = RowTableNetwork((2, 16), seeds=(1,))
    network = whole.with_codes([[encode(w, 4) for w in whole.weights()]])
    parts = parts_of(network, N)
    for part in parts:
        into, out = part.codes
        assert (into.bits, out.bits) == (4, 4)
        np.testing.assert_array_equal(into.weights(), part.weights()[0])
        np.testing.assert_array_equal(out.weights(), part.weights()[1])
    joined = np.concatenate([part.weights()[0] for part in parts])[:16]
    np.testing.assert_array_equal(joined, network.weights()[0])
    out, host = drawn(network, sampler_of(), 12)
    np.testing.assert_allclose(out, host, atol=1e-6)


def test_every_settle_is_seen_with_what_was_held(toy):
    network, seen = toy(SIZES), []
    drawn(network, sampler_of(steps=2), 2, seen=seen.append)
    assert [event.index for event in seen] == list(range(13))
    first, second = (event.inject for event in seen[:2])
    assert np.abs(first - second).max() > 1e-3  # what part 0 gave stands in part 1's injection
