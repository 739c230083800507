"""The host-closed loop: its states against the analog loop's, its noise against what is derived, and one
clear error for each way in which a bench can be dark, bright or stuck.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from labctl_sim_devices import PanelTwin
from scipy.stats import chi2

from labctl import load_protocol, open_rig, run
from labctl.devices import (
    Camera,
    ConfigError,
    DeviceFault,
    InputDrive,
    Outcome,
    ProgramError,
    UnsupportedFeature,
    WeightModulator,
)
from labctl.engines import Batch, DigitalEngine
from labctl.models.checkpoint import load_network
from labctl.rig import Rig, load_rig
from labctl.sampling import Sampler, compile_program, scheme, sigmas

SIZE = 12
REST_TAU = 80.0


def bench(**overrides):
    config = load_rig("optical-host")
    world = config.world.model_copy(update={"overrides": overrides})
    return Rig(config.model_copy(update={"world": world}))


@pytest.fixture(scope="module")
def hosted():
    """The bench with the program of every `problem` loaded."""
    with bench() as rig:
        rig.engine.load(problem()[0])
        yield rig


@cache
def moons(steps):
    how = Sampler(scheme("implicit-midpoint"), sigmas("flow", steps, 10.0, 0.06))
    return compile_program(load_network("moons"), how, 48)


def problem(size=SIZE, steps=4, segment=1):
    program = moons(steps)
    part = program.segments[segment]
    x = 2.3 * np.random.default_rng(0).normal(size=(size, 2))
    start = np.zeros((size, 48))
    start[:, program.placement.state] = part.inject_scale * x
    return program, part, Batch(0.64 * x, start, None, np.arange(size), 1)


def analog_root(program, part, batch):
    """States [B, n] where the analog loop comes to rest, noise off; segment and batch with the knobs that
    reached it (gain, leak and bias as its codes have them); what its ADC rounds.
    """
    with open_rig("optical-twin") as rig:
        rig.set_noise_scale(0.0)
        engine = rig.engine
        engine.load(program)
        spec = engine.electronics.spec
        found = engine.solve(part, batch, wait_us=REST_TAU * spec.tau_us)
        (tables,) = [t for s, t in zip(program.segments, engine.tables_of(program), strict=True) if s is part]
    knobs = found.applied
    u = program.placement.state
    bias = tables.bias_codes * spec.dac.units_per_code
    inject = knobs.inject_codes * spec.dac.units_per_code - bias[0, u]
    reached = replace(part, gain=knobs.gain, leak=knobs.leak, bias=bias)
    rounding = spec.adc.units_per_code / np.sqrt(12)
    return found.z, reached, replace(batch, inject=inject / part.inject_scale), rounding


def test_states_are_those_of_the_analog_loop_within_the_cameras_noise_budget(hosted):
    """The same program with the same knobs; both engines' calibrations are their own.

    The differences' mean square over the derived variance: chi-square, one degree of freedom a sample (the
    rows of a sample share frames), for the share that is common to all samples one a row; 99.9% of it.
    """
    program, part, batch = problem(size=64)
    state = program.placement.state
    exact, reached, asked, rounding = analog_root(program, part, batch)
    own = hosted.engine.solve(reached, asked)
    assert (own.outcome == Outcome.CONVERGED).all()
    error = (own.z - exact)[:, state]
    random, common = own.noise.random[:, state], own.noise.common[:, state]
    assert random.min() > 1e-5
    assert random.max() < 5e-3
    own_var = random**2 + rounding**2
    shared = (common**2 / (own_var + common**2)).mean()
    low = (1 - shared) * chi2.ppf(0.0005, 64) / 64
    high = (1 - shared) * chi2.ppf(0.9995, 64) / 64 + shared * chi2.ppf(0.9995, 2) / 2
    assert low < (error**2 / (own_var + common**2)).mean() < high
    bias_sd = np.sqrt(own_var.mean(axis=0) / len(error) + (common**2).mean(axis=0))
    assert (np.abs(error.mean(axis=0)) < 4 * bias_sd).all()


@pytest.mark.slow
def test_the_derived_noise_is_that_of_repeated_solves(hosted):
    program, part, batch = problem(size=2, segment=3)
    repeats = 100
    many = Batch(
        np.repeat(batch.inject, repeats, axis=0), np.repeat(batch.start, repeats, axis=0), None,
        np.arange(2 * repeats), 5,
    )  # fmt: skip
    found = hosted.engine.solve(part, many)
    low, high = np.sqrt(chi2.ppf([0.0005, 0.9995], repeats - 1) / (repeats - 1))
    for rows in (program.placement.state, program.placement.last_hidden):
        measured = found.z[:, rows].reshape(2, repeats, -1).std(axis=1, ddof=1)
        ratio = measured / found.noise.random[::repeats, rows]
        # rows share the light of a frame, so they are no independent draws: each for itself
        assert ((ratio > low) & (ratio < high)).mean() > 0.95
        assert low < np.sqrt((ratio**2).mean()) < high


@pytest.mark.slow
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
    # no noise dithers the rounding of pixels and emitters, neither here nor in the weights as measured
    assert np.abs(own - exact)[:, state].max() < 2e-3


def test_the_duration_is_told_before_the_first_exposure_and_comes_true(hosted):
    _, part, batch = problem()
    told, engine, world = [], hosted.engine, hosted.world
    before_us = world.now_us
    expected = engine.expected(part, batch)
    assert world.now_us == before_us
    engine.tell = lambda words: told.append((words, world.now_us))
    found = engine.solve(part, batch)
    engine.tell = None
    assert world.now_us - before_us == pytest.approx(found.ledger.window_us, rel=1e-3)
    ((words, when_us),) = told
    assert when_us == before_us
    assert "12 samples" in words
    assert "s on the bench" in words
    np.testing.assert_array_equal(found.iterations, expected.each)
    assert found.ledger.window_us == pytest.approx(expected.duration_us)


def test_a_recipe_runs_on_it(tmp_path):
    with open_rig("optical-host") as rig:
        result = run(
            load_protocol("sample_moons", {"samples": 6, "audit": 0, "reference": 50}), rig, out=tmp_path
        )
    metrics = result.panels[0].metrics
    assert np.isfinite(result.samples).all()
    assert metrics["converged_share"] > 0.9
    assert metrics["camera_exposure_us"] > 5
    assert metrics["camera_saturated_samples"] == 0
    assert 0 < metrics["state_noise"] < 0.03


@pytest.mark.slow
def test_machines_in_sequence_each_have_their_own_light():
    network = load_network("fashion_x4")
    how = Sampler(scheme("implicit-midpoint"), sigmas("flow", 2, 10.0, 0.06))
    program = compile_program(network, how, 48)
    with bench() as rig:
        rig.set_noise_scale(0.0)
        rig.engine.load(program)
        d = program.placement.sizes[0]
        x = np.random.default_rng(1).normal(size=(2, d))
        for part in program.segments[:2]:
            batch = Batch(x, np.zeros((2, 48)), np.zeros(2, np.int64), np.arange(2), 0)
            own = rig.engine.solve(part, batch)
            weights = rig.engine.measured_weights()
            np.testing.assert_allclose(weights, program.matrix_of(part).weights, atol=0.02)
            assert (own.outcome == Outcome.CONVERGED).all()


@pytest.mark.slow
def test_the_exposure_uses_the_well_and_does_not_saturate():
    program, part, batch = problem()
    exposures = []
    for share in (0.02, 1.0):  # of the light, percent
        with bench(camera_light_percent=share) as rig:
            rig.engine.load(program)
            told = rig.engine.summary()
            assert 0.7 < told["camera_brightest_pixel_share"] < 0.9
            exposures.append(told["camera_exposure_us"])
            found = rig.engine.solve(part, replace(batch, inject=100 * batch.inject))  # phi at its ends
            assert not (found.outcome == Outcome.SATURATED).any()
    assert exposures[0] == pytest.approx(68, rel=0.1)
    assert exposures[1] == pytest.approx(5, rel=0.3)  # the shortest there is, with the emitters dimmed


def test_the_lens_cap_is_on():
    program, _, _ = problem()
    with bench(camera_light_percent=1e-9) as rig, pytest.raises(DeviceFault) as caught:
        rig.engine.load(program)
    assert caught.value.device == "camera"
    assert "counts of light; allowed: 40 or more; is the lens cap on" in str(caught.value)


def test_a_panel_that_is_blank_is_named(monkeypatch):
    program, _, _ = problem()
    with bench() as rig:
        shown = PanelTwin._display
        monkeypatch.setattr(PanelTwin, "_display", lambda self, levels: shown(self, 0 * levels))
        with pytest.raises(DeviceFault, match=r"camera: find_spots: all dark: .* is the panel blank\?"):
            rig.engine.load(program)


def test_a_panel_that_does_not_switch_is_named(monkeypatch):
    program, _, _ = problem()
    with bench(camera_light_percent=0.02) as rig:
        rig.engine.load(program)  # finds the spots while the panel is sound
        shown = PanelTwin._display
        monkeypatch.setattr(PanelTwin, "_display", lambda self, levels: shown(self, 0 * levels + 255))
        with pytest.raises(DeviceFault, match=r"panel: calibrate_light: .*allowed: below 50%"):
            rig.engine.load(program)


def test_a_camera_that_saturates_is_refused():
    program, _, _ = problem()
    with (
        bench(camera_light_percent=20.0) as rig,
        pytest.raises(ConfigError, match="camera: saturated: at the shortest"),
    ):
        rig.engine.load(program)


def test_a_saturated_frame_marks_its_sample():
    program, part, batch = problem()
    with bench() as rig:
        rig.engine.load(program)
        rig.device(Camera).configure({"ExposureTime": 8 * rig.device(Camera).settings.exposure_us})
        assert (rig.engine.solve(part, batch).outcome == Outcome.SATURATED).all()
        assert rig.engine.summary()["camera_saturated_samples"] == SIZE


def test_nothing_is_solved_before_a_program_is_loaded():
    _, part, batch = problem()
    with bench() as rig, pytest.raises(ProgramError, match="no program is loaded"):
        rig.engine.solve(part, batch)


def test_rolling_shutters_and_drivers_without_a_trigger_are_refused(monkeypatch):
    with pytest.raises(UnsupportedFeature, match=r"camera: .*shutter is rolling; allowed: global"):
        bench(camera_shutter="rolling").open()
    program, _, _ = problem()
    with (
        bench(max_hold_us=0.0) as rig,
        pytest.raises(UnsupportedFeature, match=r"emitters: drive: .*no trigger output"),
    ):
        rig.engine.load(program)


def test_the_bench_is_left_dark():
    program, part, batch = problem()
    rig = bench().open()
    panel, drive = rig.device(WeightModulator), rig.device(InputDrive)
    rig.engine.load(program)
    rig.engine.solve(part, batch)
    rig.close()
    panel.open(), drive.open()
    assert panel.shown().max() == 0
    assert drive.snapshot()["total_current_ma"] == 0
