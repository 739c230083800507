"""From scheme and network to tables, and the loop that runs them: fixed points must be exact."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import root

from labctl.devices import ConfigError, ProgramError
from labctl.engines import DigitalEngine
from labctl.programs import encode
from labctl.sampling import (
    SCHEMES,
    HostMachine,
    LoopMachine,
    LoopNetwork,
    Sampler,
    asks_of,
    compile_program,
    scheme,
    sigmas,
    start_noise,
)

N = 16
KINDS = ("edm", "flow", "vp")
X = np.array([[1.0, -0.5], [-2.0, 0.8], [0.2, 2.5]])


def sampler_of(name="implicit-midpoint", steps=4, sigma_max=6.0, **options):
    return Sampler(scheme(name), sigmas("flow", steps, sigma_max, 0.1), **options)


def iterate(program, segment, z, inject, label):
    """F(z) = (1 - leak) z + gain W tanh(z) + bias, written out."""
    bias = segment.bias[label].copy()
    bias[program.weights.placement.state] += segment.inject_scale * inject
    return (1 - segment.leak) * z + segment.gain[label] * (program.weights.weights @ np.tanh(z)) + bias


def hidden_layers(network, u, sigma, label):
    tables, out, h = network.rows(sigma), [u], u
    for w, gain, bias in zip(network.weights()[:-1], tables.gains, tables.biases, strict=False):
        h = gain[label] * (w @ np.tanh(h)) + bias[label]
        out.append(h)
    return np.concatenate(out)


def test_the_toy_is_a_network(toy):
    assert isinstance(toy(), LoopNetwork)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_classes", [0, 3])
def test_the_host_machine_evaluates_the_written_out_network(toy, kind, n_classes):
    network = toy(kind=kind, n_classes=n_classes)
    labels = np.array([2, 0, 1]) if n_classes else None
    machine = HostMachine(network, labels=labels)
    for sigma in (0.1, 1.0, 7.0):
        expected = [
            network.reference_denoiser(x, sigma, 0 if labels is None else labels[i]) for i, x in enumerate(X)
        ]
        np.testing.assert_allclose(machine.denoise(X, sigma), expected, rtol=1e-12)
    assert machine.nfe == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["implicit-euler", "implicit-midpoint", "implicit-trapezoid"])
@pytest.mark.parametrize("sizes", [(2, 5, 4), (3, 6), (1, 2, 3, 4)])
def test_the_implicit_solution_is_a_fixed_point_of_the_compiled_step(toy, kind, name, sizes):
    """z = c + g D(z; sigma), solved by MINPACK on the written-out network: F(z) = z in every row."""
    network = toy(sizes, kind=kind, n_classes=2)
    sampler = sampler_of(name)
    program = compile_program(network, sampler, N)
    rng = np.random.default_rng(0)
    for ask, segment in zip(asks_of(sampler), program.segments, strict=True):
        assert (segment.kind, segment.sigma) == (ask.kind, ask.sigma)
        if ask.kind == "evaluate":
            continue
        for label in (0, 1):
            c = rng.normal(size=sizes[0])
            found = root(
                lambda z, c=c, a=ask, k=label: c + a.g * network.reference_denoiser(z, a.sigma, k) - z,
                c,
                tol=1e-14,
            )
            assert np.abs(found.fun).max() < 1e-12
            u = found.x * network.preconditioning.coefficients(ask.sigma)[2]
            z = np.zeros(N)
            z[: sum(sizes)] = hidden_layers(network, u, ask.sigma, label)
            np.testing.assert_allclose(iterate(program, segment, z, c, label), z, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_leak_is_programmed_and_never_divided_by(toy, kind):
    """u rows: leak 1 - g c_skip, gain g c_in c_out g_out, bias g c_in c_out b_out; hidden rows: leak 1."""
    network, sampler = toy(kind=kind), sampler_of()
    program = compile_program(network, sampler, N)
    for ask, segment in zip(asks_of(sampler), program.segments, strict=True):
        c_skip, c_out, c_in = network.preconditioning.coefficients(ask.sigma)
        tables = network.rows(ask.sigma)
        scale = ask.g * c_in * c_out
        leak = 1 - ask.g * c_skip if ask.kind == "implicit" else 1.0
        np.testing.assert_allclose(segment.leak, [leak] * 2 + [1.0] * (N - 2), rtol=1e-15)
        np.testing.assert_allclose(segment.gain[0, :2], scale * tables.gains[-1][0], rtol=1e-14)
        np.testing.assert_allclose(segment.bias[0, :2], scale * tables.biases[-1][0], rtol=1e-14)
        np.testing.assert_allclose(segment.gain[0, 2:7], tables.gains[0][0])
        np.testing.assert_allclose(segment.bias[0, 7:11], tables.biases[1][0])
        assert not segment.gain[:, 11:].any()
        assert not segment.bias[:, 11:].any()
        assert segment.inject_scale == c_in
        assert segment.end.tolerance == pytest.approx(0.05 * ask.sigma * c_in)


def run_on_loop(network, sampler, labels, x, *, seed=0, seen=None, engine=None, program=None):
    program = compile_program(network, sampler, N) if program is None else program
    engine = DigitalEngine(N, tolerance=1e-12) if engine is None else engine
    engine.load(program)
    ids = np.arange(len(x))
    machine = LoopMachine(engine, network, program, labels=labels, sample_id=ids, seen=seen)
    return sampler.run(machine, x, sample_id=ids, seed=seed)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_gives_the_hosts_samples(toy, name, kind):
    network, sampler = toy(kind=kind, n_classes=3), sampler_of(name, steps=5)
    labels, ids = np.arange(6) % 3, np.arange(6)
    x = start_noise(ids, 2, seed=1, sigma_max=6.0)
    host = sampler.run(HostMachine(network, labels=labels), x, sample_id=ids, seed=0)
    loop = run_on_loop(network, sampler, labels, x)
    assert np.isfinite(host).all()
    np.testing.assert_allclose(loop, host, atol=1e-6)


def test_with_fresh_noise_the_loop_still_gives_the_hosts_samples(toy):
    network, sampler = toy(), sampler_of(eta=0.6)
    ids = np.arange(4)
    x = start_noise(ids, 2, seed=1, sigma_max=6.0)
    host = sampler.run(HostMachine(network), x, sample_id=ids, seed=9)
    np.testing.assert_allclose(run_on_loop(network, sampler, None, x, seed=9), host, atol=1e-6)


def test_u_is_preset_to_the_sample_and_hidden_rows_are_held(toy):
    """Conventions, section 4: start of a settle."""

    class Watching(DigitalEngine):
        starts, states = [], []

        def solve(self, segment, batch, *, audit=0):
            self.starts.append(batch)
            result = super().solve(segment, batch, audit=audit)
            self.states.append(result.z)
            return result

    network, sampler, seen = toy(), sampler_of("implicit-euler"), []
    engine = Watching(N)
    x = start_noise(np.arange(3), 2, seed=1, sigma_max=6.0)
    run_on_loop(network, sampler, None, x, seen=seen.append, engine=engine)
    assert [s.index for s in seen] == [0, 1, 2, 3, 4]
    state = x
    for k, batch in enumerate(engine.starts):
        scale = seen[k].segment.inject_scale
        np.testing.assert_allclose(batch.start[:, :2], scale * state, rtol=1e-12)
        held = np.zeros((3, N - 2)) if k == 0 else engine.states[k - 1][:, 2:]
        np.testing.assert_array_equal(batch.start[:, 2:], held)
        assert batch.step_id == k
        state = engine.states[k][:, :2] / scale


@pytest.mark.parametrize(
    ("compiled", "run"),
    [
        (sampler_of("implicit-euler"), sampler_of("implicit-midpoint")),
        (sampler_of("implicit-euler"), sampler_of("ddim")),
        (sampler_of(steps=4), sampler_of(steps=5)),
        (sampler_of(steps=5), sampler_of(steps=4)),
        (sampler_of(), sampler_of(eta=0.5)),
        # only the factor g differs: the same sigma is reached from elsewhere
        (sampler_of("implicit-euler", 1, 6.0), sampler_of("implicit-euler", 1, 12.0)),
    ],
    ids=["scheme", "kind", "more steps", "fewer steps", "eta", "g"],
)
def test_a_program_compiled_for_another_sampler_is_refused(toy, compiled, run):
    network = toy()
    program = compile_program(network, compiled, N)
    with pytest.raises(ConfigError, match="it was compiled for another sampler"):
        run_on_loop(network, run, None, X, program=program)


def test_a_program_is_used_up_by_one_run(toy):
    network, sampler = toy(), sampler_of()
    program = compile_program(network, sampler, N)
    engine = DigitalEngine(N)
    engine.load(program)
    ids = np.arange(3)
    machine = LoopMachine(engine, network, program, labels=None, sample_id=ids)
    sampler.run(machine, X, sample_id=ids, seed=0)
    with pytest.raises(ConfigError, match="it was compiled for another sampler"):
        sampler.run(machine, X, sample_id=ids, seed=0)


def test_codes_of_a_network_are_shown_as_they_are(toy):
    network = toy()
    network.codes = [encode(w, 4) for w in network.weights()]
    program = compile_program(network, sampler_of(), N)
    assert program.weights.bits == 4
    np.testing.assert_allclose(program.weights.weights[2:7, :2], network.codes[0].weights())


def test_a_network_larger_than_the_machine_is_refused(toy):
    with pytest.raises(ProgramError, match=r"network \[2, 5, 4\] needs 11 variables; this machine has 10"):
        compile_program(toy(), sampler_of(), 10)
