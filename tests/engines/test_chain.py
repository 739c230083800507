"""A chain on the sequencer against the same chain stepped by the host, on twins of their own."""

from __future__ import annotations

import numpy as np
import pytest

from labctl import open_rig
from labctl.devices import Outcome, ProgramError, UnsupportedFeature
from labctl.engines import SecondStarts
from labctl.models.checkpoint import load_network
from labctl.sampling import LoopMachine, Sampler, compile_program, run_chain, scheme, sigmas, start_noise

SAMPLES = 64


def run(rig_name, model, name, *, steps=4, eta=0.0, chained, samples=SAMPLES, wrap=lambda engine: engine):
    """(settles seen, states observed, samples) of one chain on a new rig."""
    network = load_network(model)
    sampler = Sampler(scheme(name), sigmas("flow", steps, 10.0, 0.06), eta, "last-settle")
    ids = np.arange(samples)
    labels = ids % network.n_classes if network.n_classes else None
    settles, states = [], []
    with open_rig(rig_name) as rig:
        program = compile_program(network, sampler, rig.engine.n_channels)
        rig.engine.load(program)
        machine = LoopMachine(
            wrap(rig.engine), network, program, labels=labels, sample_id=ids, audit=8, seen=settles.append
        )
        x = start_noise(ids, network.sizes[0], seed=3, sigma_max=10.0)
        step = run_chain if chained else Sampler.run
        out = step(sampler, machine, x, sample_id=ids, seed=3, observe=states.append)
    return settles, states, out


def coerced(result):
    """What left a range, and how often; the values to what a converter's rounding leaves of them."""
    return [(c.field, round(c.requested, 4), round(c.applied, 4), c.count) for c in result.coercions]


@pytest.mark.parametrize(
    ("rig", "model", "name", "eta"),
    [
        ("optical-ideal", "moons", "implicit-midpoint", 0.0),
        pytest.param("optical-twin", "moons-4bit", "implicit-midpoint", 0.0, marks=pytest.mark.slow),
        ("optical-twin", "moons-4bit", "implicit-midpoint", 0.6),
        pytest.param("optical-twin", "moons-4bit", "implicit-euler", 0.3, marks=pytest.mark.slow),
        pytest.param("optical-twin", "moons-4bit", "implicit-trapezoid", 0.0, marks=pytest.mark.slow),
        ("optical-twin", "fashion-4bit", "implicit-midpoint", 0.0),
    ],
)
def test_a_chain_is_the_host_stepped_run(rig, model, name, eta):
    """Conventions, section 6: the same draws; states within 1e-5."""
    host, host_states, host_out = run(rig, model, name, eta=eta, chained=False)
    chain, chain_states, chain_out = run(rig, model, name, eta=eta, chained=True)
    assert [s.index for s in chain] == [s.index for s in host]
    for ours, theirs in zip(chain, host, strict=True):
        np.testing.assert_allclose(ours.result.z, theirs.result.z, atol=1e-5)
        np.testing.assert_allclose(ours.inject, theirs.inject, atol=1e-5)
        np.testing.assert_array_equal(ours.result.outcome, theirs.result.outcome)
        assert coerced(ours.result) == coerced(theirs.result)
        np.testing.assert_allclose(ours.result.settle_time_us, theirs.result.settle_time_us, atol=1e-3)
        if rig != "optical-ideal":
            codes, wanted = ours.result.applied.inject_codes, theirs.result.applied.inject_codes
            np.testing.assert_array_equal(codes, wanted)
    assert [s.sigma_next for s in chain_states] == [s.sigma_next for s in host_states]
    for ours, theirs in zip(chain_states, host_states, strict=True):
        np.testing.assert_allclose(ours.x, theirs.x, atol=1e-5)
        np.testing.assert_allclose(ours.denoised, theirs.denoised, atol=3e-5)
    np.testing.assert_allclose(chain_out, host_out, atol=1e-5)


def test_what_a_chain_saves_is_in_the_ledger():
    """Wait and window are the same; of the commands there is one pair instead of one a step."""
    host, *_ = run("optical-twin", "moons-4bit", "implicit-midpoint", steps=8, chained=False)
    chain, *_ = run("optical-twin", "moons-4bit", "implicit-midpoint", steps=8, chained=True)
    for part in ("wait_us", "window_us", "settles"):
        totals = [sum(getattr(s.result.ledger, part) for s in seen) for seen in (host, chain)]
        assert totals[0] == pytest.approx(totals[1])
    frame_us, latency_us = 20_000.0, 50.0
    cable = [sum(s.result.ledger.upload_us + s.result.ledger.read_us for s in seen) for seen in (host, chain)]
    assert cable == pytest.approx([frame_us + 2 * 8 * latency_us, frame_us + 2 * latency_us])


def test_a_queue_larger_than_the_sequencers_memory_is_split():
    long, _, out = run("optical-ideal", "moons", "implicit-midpoint", steps=2, chained=True, samples=4100)
    _, _, short = run("optical-ideal", "moons", "implicit-midpoint", steps=2, chained=True, samples=80)
    assert [len(s.result.z) for s in long] == [4100, 4100]
    np.testing.assert_allclose(out[:80], short, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("chained", [False, True])
def test_second_starts_mark_what_ends_elsewhere_and_change_no_state(chained):
    how = {"steps": 4, "chained": chained, "samples": 256}
    plain, _, out = run("optical-twin", "gaussians-4bit", "implicit-midpoint", **how)
    audited, _, same = run(
        "optical-twin", "gaussians-4bit", "implicit-midpoint", **how, wrap=lambda e: SecondStarts(e, 200)
    )
    np.testing.assert_array_equal(out, same)
    found = 0
    for before, after in zip(plain, audited, strict=True):
        np.testing.assert_array_equal(before.result.z, after.result.z)
        changed = before.result.outcome != after.result.outcome
        assert not changed[200:].any()
        assert (after.result.outcome[changed] == Outcome.MULTISTABLE).all()
        assert (before.result.outcome[changed] == Outcome.CONVERGED).all()
        found += int(changed.sum())
    assert 0 < found < 200  # eight modes in four steps: some starts lie between two


def test_electronics_without_a_sequencer_and_chains_too_long(monkeypatch):
    from dataclasses import replace

    network = load_network("moons")
    for spoiled, error, words in (
        (None, UnsupportedFeature, "no sequencer; allowed: stepping by the host"),
        (3, ProgramError, "the chain has 4 settles; allowed: 1 to 3"),
    ):
        sampler = Sampler(scheme("implicit-midpoint"), sigmas("flow", 4, 10.0, 0.06), 0.0, "last-settle")
        with open_rig("optical-ideal") as rig:
            spec = rig.engine.electronics.spec
            chain = None if spoiled is None else replace(spec.chain, depth=spoiled)
            program = compile_program(network, sampler, 48)
            rig.engine.load(program)
            monkeypatch.setattr(rig.engine.electronics, "_spec", replace(spec, chain=chain))
            machine = LoopMachine(rig.engine, network, program, labels=None, sample_id=np.arange(2))
            with pytest.raises(error, match=words):
                run_chain(sampler, machine, np.ones((2, 2)), sample_id=np.arange(2), seed=0)
