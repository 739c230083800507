"""The host loop on mirrors: pulse-width weights in exposures of whole sequences, and area patterns."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.devices import Camera, ConfigError, Outcome, WeightModulator
from labctl.engines import Batch, DigitalEngine
from labctl.models.checkpoint import load_network
from labctl.rig import Rig, RigConfig, load_rig
from labctl.sampling import Sampler, compile_program, scheme, sigmas

NAME = "optical-host-dmd"


def bench(**changes):
    return Rig(load_rig(NAME).model_copy(update=changes))


def problem(size=8):
    how = Sampler(scheme("implicit-midpoint"), sigmas("flow", 4, 10.0, 0.06))
    program = compile_program(load_network("moons-4bit"), how, 48)
    part = program.segments[2]
    x = np.random.default_rng(0).normal(size=(size, 2))
    start = np.zeros((size, 48))
    start[:, program.placement.state] = part.inject_scale * x
    return program, part, Batch(0.64 * x, start, None, np.arange(size), 1)


def error_in_sd(rig, program, part, batch):
    """States against the program's own roots (its codes are exactly the planes'), over the derived sd."""
    rig.engine.load(program)
    found = rig.engine.solve(part, batch)
    assert (found.outcome == Outcome.CONVERGED).all()
    digital = DigitalEngine(48)
    digital.load(program)
    state = program.placement.state
    error = (found.z - digital.solve(part, batch).z)[:, state]
    return error / np.sqrt(found.noise.random**2 + found.noise.common**2)[:, state]


def test_pulse_width_weights_give_the_programs_states_in_exposures_of_whole_sequences():
    program, part, batch = problem()
    with bench() as rig:
        ratio = error_in_sd(rig, program, part, batch)
        repeat_us = rig.device(WeightModulator).repeat_us
        exposure_us = rig.engine.summary()["camera_exposure_us"]
        assert exposure_us / repeat_us == pytest.approx(round(exposure_us / repeat_us), abs=1e-6)
        np.testing.assert_allclose(rig.engine.measured_weights(), program.weights.weights, atol=0.02)
    assert np.abs(ratio).max() < 5
    assert 0.4 < np.sqrt((ratio**2).mean()) < 1.8


def test_an_exposure_of_parts_of_a_sequence_is_refused_with_what_is_allowed():
    program, _, _ = problem()
    with bench() as rig:
        rig.set_readout("camera", 1000.0)
        with pytest.raises(
            ConfigError, match=r"mirrors: exposure_us is 1000, .* every 759.* us; allowed: whole"
        ):
            rig.engine.load(program)


@pytest.mark.slow
def test_parts_of_a_sequence_would_spoil_the_states():
    """Why they are refused: exposures begin anywhere in the sequence."""
    program, part, batch = problem()
    with bench() as rig:
        rig.engine.load(program)
        whole = rig.engine.solve(part, batch)
        camera = rig.device(Camera)
        camera.configure({"ExposureTime": 0.6 * camera.settings.exposure_us})
        spoiled = rig.engine.solve(part, batch)
        rows = program.placement.state
        moved = np.abs(spoiled.z - whole.z)[:, rows] / whole.noise.random[:, rows]
        assert np.median(moved) > 10


@pytest.mark.slow
def test_area_patterns_are_exposed_for_whole_periods_of_the_mirror_resets():
    program, part, batch = problem()
    with bench(weights="frame") as rig:
        ratio = error_in_sd(rig, program, part, batch)
        assert rig.engine.summary()["camera_exposure_us"] % 1000.0 == 0.0
    # a cell has 440 mirrors: rounding its share moves the root as well
    assert np.sqrt((ratio**2).mean()) < 4


def test_pulse_width_needs_a_host_loop_and_a_device_that_shows_sequences():
    values = load_rig("optical-twin").model_dump()
    with pytest.raises(ValueError, match=r"pulse-width.* with engine optical-loop"):
        RigConfig(**{**values, "weights": "pulse-width"})
    lcos = load_rig("optical-host").model_copy(update={"weights": "pulse-width"})
    with pytest.raises(ConfigError, match=r"panel: weights is .* shows no sequences of planes; allowed"):
        Rig(lcos).open()
