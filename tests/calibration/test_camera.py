"""Spots as calibrated through the interfaces, against the sensor that is really there."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration import (
    calibrate_camera,
    calibrate_open_loop,
    nominal_panel_record,
    nominal_spot_record,
)
from labctl_sim_devices import CameraTwin

from labctl.devices import CameraSpec, ConfigError, DeviceFault, ProgramError

N = 48
Q = 1.602176634e-19


@pytest.fixture
def spotted(twin):
    """Factory: a bench with a program's frame on display, its camera calibrated; (bench, camera, record)."""
    opened = []

    def make(profile="adm", *, exposure_us=0.0, fractions=None, noise_scale=1.0, **overrides):
        bench = twin(profile, noise_scale=noise_scale, **overrides)
        camera = CameraTwin("camera", bench.bench)
        camera.open()
        opened.append(camera)
        bench.show_fractions(program() if fractions is None else fractions)
        calibrate_open_loop(bench.electronics)
        record = calibrate_camera(
            bench.panel,
            bench.electronics,
            camera,
            panel_record=nominal_panel_record(bench.panel.spec, N, "test"),
            spots=nominal_spot_record(camera.spec, N, "test"),
            exposure_us=exposure_us,
        )
        return bench, camera, record

    yield make
    for camera in opened:
        camera.close()


def program(seed=0):
    rng = np.random.default_rng(seed)
    fractions = rng.uniform(-1, 1, (N, N))
    fractions[rng.random((N, N)) < 0.6] = 0.0
    return fractions


def counts_per_unit(bench, camera):
    """Counts of a unit of light: photocurrent, the camera's share, electrons a count."""
    p = bench.bench.profile
    share = p.camera_light_percent / 100 * p.camera_quantum_efficiency_percent / 100
    rate = p.photocurrent_ua * 1e-12 / Q / (p.detector_quantum_efficiency_percent / 100) * share
    return rate * camera.settings.exposure_us / camera.spec.e_per_code(0.0, p.camera_black_level_codes)


def test_gains_are_those_of_the_pixels_under_each_spot(spotted):
    """1% from pixel to pixel is 0.12% over a spot's 64: that must be found, to its own error."""
    bench, camera, record = spotted(noise_scale=0.0, exposure_us=6.0)
    _, _, noisy = spotted(exposure_us=6.0)
    exact = record.array("spot_gain_counts")
    assert exact.mean() == pytest.approx(counts_per_unit(bench, camera), rel=5e-4)
    assert 0.0006 < exact.std() / exact.mean() < 0.0025
    off = (noisy.array("spot_gain_counts") / exact - 1) / noisy.array("gain_error")
    assert noisy.array("gain_error").max() < 2e-4
    # photocurrent and rounding of the electronics add a little to the camera's own error
    assert 0.7 < np.sqrt(np.mean(off**2)) < 1.5


def test_the_pedestal_of_every_output_is_found(spotted):
    bench, _, record = spotted()
    pedestal = bench.bench.profile.pedestal_units * bench.true_fractions().sum(axis=1)
    off = record.array("zero_units") - pedestal
    assert np.abs(pedestal).max() > 2
    light = bench.bench.optics.transmittances(bench.bench.now_us).sum(axis=(0, 2)) * 1.1
    expected = np.sqrt(record.array("zero_error_units") ** 2 + (2e-4 * light) ** 2 + 1e-4**2)
    assert np.sqrt(np.mean((off / expected) ** 2)) < 1.5


def test_the_exposure_is_as_long_as_the_brightest_frame_allows(spotted):
    bench, camera, _ = spotted(noise_scale=0.0)
    camera.configure({"TriggerMode": "Off"})
    bench.bench.emitted_units = np.full((1, N), 2.1)  # pedestal and phi = 1 everywhere
    counts = camera.acquire(1).counts.astype(float) - 64
    assert counts.max() / (4095 - 64) == pytest.approx(0.8, abs=0.01)


def test_the_frame_on_display_is_on_display_again(spotted):
    bench, _, _ = spotted(noise_scale=0.0)
    # half a level, and the last 1.5e-5 of the panel's turn
    np.testing.assert_allclose(bench.true_fractions(), program(), atol=0.5 * np.pi / 255 + 1e-4)


def test_an_exposure_that_saturates_is_refused(spotted):
    message = r"camera: saturated: exposure_us is 50, and the brightest spot .* allowed: 5 to \d"
    with pytest.raises(ConfigError, match=message):
        spotted(exposure_us=50.0)
    with pytest.raises(ConfigError, match=r"saturated: at the shortest exposure, 5 us, .* dim the spots"):
        spotted(fractions=np.ones((N, N)), camera_light_percent=2.0)


def test_spots_out_of_place_or_missing_are_named(spotted):
    with pytest.raises(DeviceFault, match=r"the spot of output \d+ on path 0 is .* pixels .* allowed: 1.5"):
        spotted(camera_misplaced_px=1.5)


def test_a_layout_that_exceeds_the_sensor_is_refused(spotted):
    _, camera, _ = spotted(noise_scale=0.0)
    small = CameraSpec(**{**camera.spec.__dict__, "shape_px": (400, 500)})
    with pytest.raises(ProgramError, match="two rows of 48 spots of 12 pixels exceed a sensor of 500 x 400"):
        nominal_spot_record(small, N, "test")
