"""Several matrices on one machine: each with its own null and weights, frames counted where they change."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from labctl.devices import ConfigError, ProgramError, UnsupportedFeature
from labctl.engines import Batch, DigitalEngine
from labctl.models.checkpoint import load_network
from labctl.models.network import RowTableNetwork
from labctl.procedures import load_protocol, run
from labctl.procedures.plan import chains_of
from labctl.programs import LoopProgram
from labctl.rig import open_rig
from labctl.runlog import RunReader
from labctl.sampling import HostMachine, LoopMachine, Sampler, compile_program, scheme, sigmas, start_noise

SAMPLES = 200


@pytest.fixture(scope="module")
def network():
    return RowTableNetwork((3, 80), seeds=(2,), n_classes=2)


@pytest.fixture(scope="module")
def how():
    return Sampler(scheme("implicit-midpoint"), sigmas("flow", 4, 10.0, 0.06))


def on_rig(rig, network, how, seen=None, sweeps=3):
    ids = np.arange(SAMPLES)
    labels = ids % 2
    x = start_noise(ids, 3, seed=1, sigma_max=10.0)
    program = compile_program(network, how, rig.engine.n_channels, sweeps=sweeps)
    rig.engine.load(program)
    machine = LoopMachine(rig.engine, network, program, labels=labels, sample_id=ids, seen=seen)
    host = how.run(HostMachine(network, labels=labels), x, sample_id=ids, seed=1)
    return how.run(machine, x, sample_id=ids, seed=1), host, program


def test_the_ideal_loop_makes_the_whole_networks_samples(network, how):
    with open_rig("optical-ideal") as rig:
        made, host, _ = on_rig(rig, network, how)
    assert np.sqrt(np.mean((made - host) ** 2)) < 0.01


@pytest.mark.parametrize("name", ["fashion_x4", pytest.param("mnist_x4", marks=pytest.mark.slow)])
@pytest.mark.parametrize("steps", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_two_sweeps_leave_less_than_the_scheme_on_the_shipped_networks(name, steps):
    """To the whole network's own midpoint chain, against that chain's distance to the network's ODE."""
    network, ids = load_network(name), np.arange(100)
    labels = ids % network.n_classes
    x = start_noise(ids, network.sizes[0], seed=1, sigma_max=10.0)
    how = Sampler(scheme("implicit-midpoint"), sigmas("flow", steps, 10.0, 0.06))
    program = compile_program(network, how, 48, sweeps=2)
    engine = DigitalEngine(48, tolerance=1e-7)
    engine.load(program)
    made = how.run(
        LoopMachine(engine, network, program, labels=labels, sample_id=ids), x, sample_id=ids, seed=1
    )
    host = HostMachine(network, labels=labels)
    whole = how.run(host, x, sample_id=ids, seed=1)
    exact = Sampler(scheme("heun"), sigmas("flow", 64, 10.0, 0.06)).run(host, x, sample_id=ids, seed=1)

    def rms(a, b):
        return np.sqrt(np.mean((a - b) ** 2))

    assert rms(made, whole) < rms(whole, exact)


def test_frames_are_paid_for_where_they_are_shown(network, how):
    seen = []
    with open_rig("optical-twin") as rig:
        frame_us = rig.frame_us
        *_, program = on_rig(rig, network, how, seen.append)
    shown = [event.result.ledger.upload_us >= frame_us for event in seen]
    changed = [True, *(a.matrix != b.matrix for a, b in pairwise(program.segments))]
    assert shown == changed
    assert sum(shown) == program.frames


def test_each_matrix_keeps_its_own_null_and_weights(network, how):
    with open_rig("optical-ideal") as rig:
        program = compile_program(network, how, 48)
        engine = rig.engine
        engine.load(program)
        for segment in program.segments[:2]:
            on_rig_batch = _batch(engine, program)
            engine.solve(segment, on_rig_batch)
            wanted = program.matrices[segment.matrix].weights
            np.testing.assert_allclose(engine.measured_weights(), wanted, atol=0.02 * np.abs(wanted).max())
        segments = [replace(s, matrix=0, last=True) for s in program.segments if s.matrix == 1]
        implicit = tuple(s for s in segments if s.kind == "implicit")
        alone = LoopProgram(program.matrices[1:], implicit)
        z = engine.solve(program.segments[1], on_rig_batch).z
        engine.load(alone)
        np.testing.assert_allclose(engine.solve(alone.segments[0], on_rig_batch).z, z, atol=2e-3)


def test_what_needs_one_frame_refuses_several(network, how):
    with open_rig("optical-twin") as rig:
        program = compile_program(network, how, 48)
        rig.set_readout("camera")
        with pytest.raises(UnsupportedFeature, match="spots are calibrated for one frame"):
            rig.engine.load(program)
        rig.set_readout("adc")
        rig.engine.load(program)
        with pytest.raises(UnsupportedFeature, match="cannot change the panel's frame"):
            rig.engine.solve_chain(program.segments[:2], _batch(rig.engine, program), [])
    with open_rig("digital") as rig:
        rig.engine.load(program)
        with pytest.raises(ProgramError, match="weights replace one matrix"):
            rig.engine.load(program, weights=np.zeros((48, 48)))


@pytest.mark.parametrize("setting", [{"stepping": "chain"}, {"readout": "camera"}])
def test_a_recipe_that_needs_one_frame_is_refused_before_anything_runs(setting):
    protocol = load_protocol("sample_fashion_latent", {"model": "fashion_x4", "samples": 20, **setting})
    with open_rig("optical-twin") as rig, pytest.raises(ConfigError, match="4 machines in sequence"):
        chains_of(protocol, rig, lambda *_: None)


def test_a_run_keeps_every_matrix(tmp_path):
    protocol = load_protocol(
        "sample_fashion_latent", {"model": "fashion_x4", "samples": 30, "steps": 2, "audit": 0}
    )
    with open_rig("optical-twin") as rig:
        done = run(protocol, rig, out=tmp_path)
    with RunReader(done.file) as file:
        panel = file.panel()
        program = panel.program
        assert len(program.further) == 3
        assert set(program.segments.matrix) == {0, 1, 2, 3}
        assert len(program.frame_checksum.split()) == 4
        assert panel.n_steps == 2 * 7 + 4
        for matrix in (program, *program.further):
            assert np.abs(matrix.codes).max() == 7
            np.testing.assert_allclose(matrix.weights, matrix.row_scale[:, None] * matrix.codes / 7)
        uploads = panel.ledger.modelled_us["upload"]
    assert (uploads > 10_000).sum() == 1 + 2 * 6 + 3


def _batch(engine, program):
    ids = np.arange(8)
    x = np.random.default_rng(0).normal(size=(8, 3))
    return Batch(x, np.zeros((8, engine.n_channels)), ids % 2, ids, 0)
