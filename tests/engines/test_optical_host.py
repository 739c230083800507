"""The host-closed loop: the analog loop's states within the camera's noise, and one clear error each."""

from __future__ import annotations

import numpy as np
import pytest

from labctl import load_protocol, open_rig, run
from labctl.devices import Camera, ConfigError, DeviceFault, Outcome, ProgramError
from labctl.engines import Batch, DigitalEngine
from labctl.models.checkpoint import load_network
from labctl.rig import Rig, load_rig
from labctl.sampling import Sampler, compile_program, scheme, sigmas

SIZE = 12


def bench(**overrides):
    config = load_rig("optical-host")
    world = config.world.model_copy(update={"overrides": overrides})
    return Rig(config.model_copy(update={"world": world}))


def problem():
    network = load_network("moons")
    how = Sampler(scheme("implicit-midpoint"), sigmas("flow", 4, 10.0, 0.06))
    program = compile_program(network, how, 48)
    part = program.segments[1]
    x = 2.3 * np.random.default_rng(0).normal(size=(SIZE, 2))
    start = np.zeros((SIZE, 48))
    start[:, program.placement.state] = part.inject_scale * x
    return program, part, Batch(0.64 * x, start, None, np.arange(SIZE), 1)


def test_states_are_those_of_the_analog_loop_within_the_cameras_noise(capsys):
    program, part, batch = problem()
    state = program.placement.state
    with open_rig("optical-twin") as analog:
        analog.engine.load(program)
        theirs = analog.engine.solve(part, batch).z[:, state]
    with open_rig("optical-host") as rig:
        rig.engine.load(program)
        own = rig.engine.solve(part, batch)
        again = np.stack([rig.engine.solve(part, batch).z[:, state] for _ in range(6)])
    assert "12 samples x 100 iterations" in capsys.readouterr().out
    assert (own.outcome == Outcome.CONVERGED).all()
    noise = again.std(axis=0, ddof=1).max()  # of one solve, frame by frame new
    assert 1e-5 < noise < 5e-3
    # the analog loop's own state noise and both engines' calibration stand beside the camera's
    assert np.abs(own.z[:, state] - theirs).max() < 0.01


def test_without_noise_the_roots_are_the_digital_engines():
    program, part, batch = problem()
    with bench() as rig:
        rig.set_noise_scale(0.0)
        rig.engine.load(program)
        own = rig.engine.solve(part, batch).z
        digital = DigitalEngine(48)
        digital.load(program, weights=rig.engine.measured_weights())
        exact = digital.solve(part, batch).z
    state = program.placement.state
    assert np.abs(own - exact)[:, state].max() < 3e-3


def test_a_recipe_runs_on_it(tmp_path, capsys):
    with open_rig("optical-host") as rig:
        result = run(load_protocol("sample_moons", {"samples": 6, "reference": 50}), rig, out=tmp_path)
    assert np.isfinite(result.samples).all()
    assert result.panels[0].metrics["converged_share"] > 0.9


def test_the_lens_cap_is_on():
    program, _, _ = problem()
    with bench(camera_light_percent=1e-9) as rig, pytest.raises(DeviceFault, match="is the lens cap on"):
        rig.engine.load(program)


def test_a_camera_that_saturates_is_refused():
    program, _, _ = problem()
    with (
        bench(camera_light_percent=20.0) as rig,
        pytest.raises(ConfigError, match="saturated at the shortest"),
    ):
        rig.engine.load(program)


def test_a_saturated_frame_marks_its_sample():
    program, part, batch = problem()
    with bench() as rig:
        rig.engine.load(program)
        rig.device(Camera).configure({"ExposureTime": 4 * rig.device(Camera).settings.exposure_us})
        assert (rig.engine.solve(part, batch).outcome == Outcome.SATURATED).all()


def test_nothing_is_solved_before_a_program_is_loaded():
    _, part, batch = problem()
    with bench() as rig, pytest.raises(ProgramError, match="no program is loaded"):
        rig.engine.solve(part, batch)
