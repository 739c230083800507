"""The host loop in coherent light: gratings on a phase-only panel, speckle measured and evened out."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.devices import Outcome
from labctl.engines import Batch, DigitalEngine, WeightPanel
from labctl.models.checkpoint import load_network
from labctl.rig import Rig, load_rig
from labctl.sampling import Sampler, compile_program, scheme, sigmas


@pytest.fixture(scope="module")
def program():
    how = Sampler(scheme("implicit-midpoint"), sigmas("flow", 4, 10.0, 0.06))
    return compile_program(load_network("moons-4bit"), how, 48)


def weight_error(rig, program):
    """Of the effective weights, rms over rms of the program's."""
    wanted = program.weights.weights
    off = rig.engine.measured_weights() - wanted
    return np.sqrt((off[wanted != 0] ** 2).sum() / (wanted**2).sum())


def test_states_are_the_roots_of_the_weights_that_are_there(program):
    part, state = program.segments[2], program.placement.state
    x = np.random.default_rng(0).normal(size=(16, 2))
    start = np.zeros((16, 48))
    start[:, state] = part.inject_scale * x
    batch = Batch(0.64 * x, start, None, np.arange(16), 1)
    with Rig(load_rig("optical-host-phase")) as rig:
        rig.engine.load(program)
        found = rig.engine.solve(part, batch)
        assert (found.outcome == Outcome.CONVERGED).all()
        assert weight_error(rig, program) < 0.01
        digital = DigitalEngine(48)
        digital.load(program, weights=rig.engine.measured_weights())
        error = (found.z - digital.solve(part, batch).z)[:, state]
    ratio = error / np.sqrt(found.noise.random**2 + found.noise.common**2)[:, state]
    # the weights as measured have errors of their own, a few times 1e-4 of full scale each
    assert np.sqrt((ratio**2).mean()) < 2
    assert np.abs(error).max() < 0.02


@pytest.mark.slow
def test_without_evening_out_speckle_is_in_the_weights(program, monkeypatch):
    monkeypatch.setattr(WeightPanel, "uneven", False)
    with Rig(load_rig("optical-host-phase")) as rig:
        rig.engine.load(program)
        assert 0.03 < weight_error(rig, program) < 0.08  # .3 over the root of 28 grains is .057


def test_cells_too_weak_to_even_out_are_told():
    with Rig(load_rig("optical-host-phase")) as rig:
        panel = rig.engine._panel
        gain = np.ones((2, 48, 48))
        gain[0, 3, 5] = 0.2
        panel.even_out(gain)
        fractions = np.full((48, 48), 1.0)
        _, (note,) = panel.show(fractions)
    assert note.count == 1
    assert (note.requested, note.applied) == (pytest.approx(2.5, rel=0.01), 1.0)
