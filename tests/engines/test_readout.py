"""States by camera: what it says at rest and of a moving loop, its budget, and when it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from labctl_calibration import calibrate_camera, nominal_panel_record, nominal_spot_record
from labctl_sim_devices import CameraTwin

from labctl.devices import (
    CalibrationMissing,
    ConfigError,
    DeviceFault,
    Outcome,
    ProgramError,
    UnsupportedFeature,
)
from labctl.engines import Batch, CameraReadout
from labctl.programs import place

N = 48


@pytest.fixture
def filmed(twin):
    """Factory: a bench whose engine reads through a camera; (bench, camera)."""
    opened = []

    def make(profile="adm", *, exposure_us=0.0, **options):
        bench = twin(profile, **options)
        camera = CameraTwin("camera", bench.bench)
        camera.open()
        opened.append(camera)
        panel_record = nominal_panel_record(bench.panel.spec, N, "test")
        spots = nominal_spot_record(camera.spec, N, "test")

        def calibrate(electronics, camera, asked_us):
            return calibrate_camera(
                bench.panel, electronics, camera, panel_record=panel_record, spots=spots, exposure_us=asked_us
            )

        bench.engine.camera = CameraReadout(camera, spots, calibrate, exposure_us=exposure_us)
        return bench, camera

    yield make
    for camera in opened:
        camera.close()


def network(one_segment, gain=0.5, **options):
    """u [2] -> h [20] -> u."""
    rng = np.random.default_rng(0)
    weights = place([0.5 * rng.normal(size=(20, 2)), 0.3 * rng.normal(size=(2, 20))], N)
    gains = np.zeros(N)
    gains[:2], gains[2:22] = 0.2, gain
    return one_segment(weights, gain=gains, **options)


def batch(size=200, step_id=0):
    inject = np.random.default_rng(1).normal(size=(size, 2))
    return Batch(inject, np.zeros((size, N)), None, np.arange(size), step_id)


def test_states_are_those_of_the_adc_within_the_cameras_budget(filmed, twin, one_segment):
    program, segment = network(one_segment)
    bench, _ = filmed("adm", loop_noise_percent=0.0, rin_dbc_hz="off", detector_pa_rthz=0.0, shot_noise=False)
    plain = twin("adm", noise_scale=0.0)
    for engine in (bench.engine, plain.engine):
        engine.load(program)
    seen = bench.engine.solve(segment, batch(), wait_us=60.0)
    adc = plain.engine.solve(segment, batch(), wait_us=60.0)
    read = seen.camera
    rows = slice(0, 22)
    sd = np.sqrt(read.random_sd**2 + read.common_sd**2)[:, rows]
    ratio = (seen.z - adc.z)[:, rows] / np.sqrt(sd**2 + (0.3 * 4.7e-4) ** 2)
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1.0, abs=0.15)
    assert np.abs(ratio).max() < 6
    assert adc.camera is None
    # rows without gain and without weights are told by their bias alone, to the DAC's rounding
    np.testing.assert_allclose(seen.z[:, 22:], 0.0, atol=1e-9)


def test_the_budget_follows_light_and_data_sheet(filmed, one_segment):
    program, segment = network(one_segment)
    bench, camera = filmed("adm")
    bench.engine.load(program)
    budget = bench.engine.solve(segment, batch()).camera.budget
    per_unit = bench.engine.camera.record.array("spot_gain_counts") * camera.spec.e_per_code(0.0, 64)
    paths = bench.bench.optics.transmittances(bench.bench.now_us)
    least = (paths.sum(axis=2) * 0.1 / per_unit).sum(axis=0)  # pedestal less full signal
    most = (paths.sum(axis=2) * 2.1 / per_unit).sum(axis=0)
    assert (budget.shot >= 0.9 * least - 1e-9).all()
    assert (budget.shot <= 1.1 * most + 1e-6).all()
    read = (144 * 7.0**2 / per_unit**2).sum(axis=0)
    np.testing.assert_allclose(budget.read, np.broadcast_to(read, budget.read.shape))


def test_a_batch_larger_than_the_cameras_memory_goes_in_queues(filmed, one_segment):
    program, segment = network(one_segment)
    bench, camera = filmed("adm", camera_max_frames=512, noise_scale=0.0)
    bench.engine.load(program)
    large = bench.engine.solve(segment, batch(600))
    assert large.z.shape == (600, N)
    few = batch(600)
    part = Batch(few.inject[512:], few.start[512:], None, few.sample_id[512:], 0)
    np.testing.assert_allclose(bench.engine.solve(segment, part).z, large.z[512:], atol=2e-3)
    period = camera.spec.period_us(camera.settings.exposure_us, 24)
    assert large.ledger.wait_us + large.ledger.window_us == pytest.approx(600 * period)


def test_frames_over_the_cameras_cable_are_read_time_beside_the_loops(filmed, one_segment):
    program, segment = network(one_segment)
    read = {}
    for rate in (115.0, 11.5, None):
        kept = {"camera_link_mbyte_per_s": rate} if rate else {}
        bench, camera = filmed("adm", noise_scale=0.0, camera_max_frames=512, **kept)
        bench.engine.load(program)
        read[rate] = bench.engine.solve(segment, batch(600)).ledger
    settings, profile = camera.settings, bench.bench.profile
    frame_us = 2 * settings.width_px * settings.height_px / 11.5  # 12 bits are sent in two bytes
    period = camera.spec.period_us(settings.exposure_us, 24)
    assert frame_us / 10 < period < frame_us
    # Gigabit Ethernet keeps up with the sensor: two queues cost two latencies on either cable.
    latency_us = profile.link_latency_us + profile.camera_link_latency_us
    assert read[115.0].read_us == pytest.approx(2 * latency_us)
    assert read[11.5].read_us == pytest.approx(2 * latency_us + 600 * (frame_us - period))
    assert read[None] == replace(read[115.0], host_s=read[None].host_s)
    assert read[115.0].device_us == pytest.approx(read[11.5].device_us - 600 * (frame_us - period))


def test_what_a_transient_leaves_is_measured_and_too_much_of_it_refused(filmed, one_segment):
    program, segment = network(one_segment)
    bench, _ = filmed("adm", exposure_us=6.0, wait_us=0.0, noise_scale=0.0, camera_jitter_us=0.0)
    bench.engine.load(program)
    far = batch()
    far.start[:, 2:22] = 2.0 * np.sign(np.random.default_rng(2).normal(size=20))
    early = bench.engine.solve(segment, far, audit=50)
    late = bench.engine.solve(segment, far, wait_us=60.0)
    true = np.abs(early.z - late.z)[:50, :2].max(axis=1)
    assert true.max() > 0.01
    np.testing.assert_allclose(early.transient, true, atol=0.1 * true.max() + 2e-3)
    summary = bench.engine.camera.summary()
    assert summary["camera_transient_share_p95"] > 0.1
    assert summary["camera_transient_allowed"] is False
    message = r"camera: an exposure of 6 us, begun 1 us after release, holds a transient of .* allowed: 0.5%"
    with pytest.raises(ConfigError, match=message):
        bench.engine.camera.refuse_transient(early.transient, bench.electronics.spec)
    bench.engine.camera.refuse_transient(np.zeros(5), bench.electronics.spec)


def test_a_saturated_frame_marks_its_sample(filmed, one_segment):
    program, segment = network(one_segment)
    bench, camera = filmed("adm")
    bench.engine.load(program)
    camera.configure({"ExposureTime": 200.0})  # somebody turned a knob since
    result = bench.engine.solve(segment, batch(20))
    assert (result.outcome == Outcome.SATURATED).all()
    assert bench.engine.camera.summary()["camera_saturated_samples"] == 20


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("dropped", "camera: acquire: 1 of 20 frames were lost, the first for trigger 7"),
        ("stale", "camera: acquire: frame 7 is stale: its exposure began -"),
    ],
)
def test_lost_and_stale_frames_are_faults(filmed, one_segment, fault, message):
    program, segment = network(one_segment)
    bench, _ = filmed("adm")
    bench.engine.load(program)
    bench.bench.camera_faults[7] = fault
    with pytest.raises(DeviceFault, match=message):
        bench.engine.solve(segment, batch(20))
    assert bench.engine.solve(segment, batch(20)).z.shape == (20, N)


def test_a_rolling_shutter_is_refused(filmed):
    with pytest.raises(
        UnsupportedFeature, match=r"camera: build CameraReadout: the shutter is rolling: .*global"
    ):
        filmed("adm", camera_shutter="rolling")


def test_a_row_without_leak_cannot_be_told_by_its_light(filmed, one_segment):
    leak = np.ones(N)
    leak[1] = 0.0
    program, segment = network(one_segment)
    bench, _ = filmed("adm")
    bench.engine.load(program)
    with pytest.raises(ProgramError, match="camera: read-out: row 1 has leak 0"):
        bench.engine.solve(replace(segment, leak=leak), batch(5))


def test_before_a_program_is_loaded_nothing_is_calibrated(filmed):
    bench, _ = filmed("adm")
    with pytest.raises(CalibrationMissing, match="camera: spots not calibrated"):
        _ = bench.engine.camera.record
    assert bench.engine.camera.summary() == {}
