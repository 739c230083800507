"""Spots found on the whole sensor, against where the sensor really has them."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration import calibrate_camera, find_spots, nominal_panel_record, nominal_spot_record
from labctl_calibration.camera_bringup import bring_up_camera
from labctl_sim_devices import CameraTwin

from labctl.devices import ConfigError, DeviceFault
from labctl.engines.spots import frame_features

N = 48


@pytest.fixture
def filmed(panels):
    """Factory: (modulator, electronics, camera, true centres [2, n, 2]); the relay may shift or mirror."""
    opened = []

    def make(unit_seed=1, *, shift_px=(0.0, 0.0), mirrored=False, **how):
        bench, modulator, electronics = panels.opened(unit_seed, **how)
        camera = CameraTwin("camera", bench)
        camera.open()
        opened.append(camera)
        sensor = camera._sensor
        sensor._y, sensor._x = sensor._y + shift_px[0], sensor._x + shift_px[1]
        if mirrored:
            sensor._x = bench.profile.camera_shape_px[1] - sensor._x
        return modulator, electronics, camera, np.stack([sensor._y, sensor._x], 1).reshape(2, N, 2)

    yield make
    for camera in opened:
        camera.close()


def search(modulator, electronics, camera):
    return find_spots(modulator, electronics, camera, nominal_panel_record(modulator.spec, N, "test"))


def test_centres_are_found_to_hundredths_of_a_pixel(filmed):
    shift_px = (-31.4, 57.3)
    modulator, electronics, camera, truth = filmed(shift_px=shift_px)
    found = search(modulator, electronics, camera)
    assert np.sqrt(((found.centre_px - truth) ** 2).mean()) < 0.02
    assert found.pitch_px == pytest.approx(12.0, abs=0.01)
    assert found.residual_px == pytest.approx(0.1, rel=0.3)  # spots scatter by so much in the profile
    assert not modulator.shown().any()
    record = found.record("camera")
    design = nominal_spot_record(camera.spec, N, "test").array("spot_origin_px")
    np.testing.assert_array_equal(record.array("spot_origin_px"), design + np.rint(shift_px))
    assert frame_features(record)["Width"] == N * 12


def test_a_shifted_image_is_read_through_the_found_squares_and_not_through_the_designed(filmed):
    modulator, electronics, camera, _ = filmed(profile="adm", shift_px=(3.0, -5.0))
    panel = nominal_panel_record(modulator.spec, N, "test")
    found = search(modulator, electronics, camera).record("camera")

    def calibrated(spots):
        modulator.show(np.zeros(modulator.spec.shape_px, np.uint16))
        return calibrate_camera(
            modulator, electronics, camera, panel_record=panel, spots=spots, exposure_us=0.0
        )

    with pytest.raises(DeviceFault, match="pixels from its place"):
        calibrated(nominal_spot_record(camera.spec, N, "test"))
    assert np.abs(calibrated(found).array("spot_centre_px")).max() < 0.6


@pytest.mark.slow
def test_an_image_mirrored_left_to_right_is_told(filmed):
    with pytest.raises(DeviceFault, match="counts the outputs from the other end"):
        search(*filmed(mirrored=True)[:3])


def test_too_much_and_no_light_are_told(filmed):
    with pytest.raises(ConfigError, match="camera: saturated: at the shortest exposure, 5 us, and 2%"):
        search(*filmed(camera_light_percent=60.0)[:3])
    dark = {"truth": {"input_efficiency": np.zeros((2, N)).tolist()}}
    with pytest.raises(DeviceFault, match=r"find_spots: all dark: .* allowed: 40 or more; is the lens cap"):
        search(*filmed(**dark)[:3])


def test_an_image_upside_down_is_told(filmed):
    modulator, electronics, camera, _ = filmed()
    camera._sensor._y = camera.spec.shape_px[0] - camera._sensor._y
    with pytest.raises(DeviceFault, match="negative path's spots lie above the positive path's"):
        search(modulator, electronics, camera)


def test_a_panel_that_lies_one_cell_off_is_told(filmed):
    """A relay that moves the frame down by a row of cells, the last one come in at the top."""
    modulator, electronics, camera, _ = filmed(profile="adm")
    design = nominal_panel_record(modulator.spec, N, "test")
    shown, cell = modulator.show, int(design.array("cell_px")[0])
    top = int(design.array("path_origin_px")[0, 0])

    def lower(levels, wait=True):
        field = levels.copy()
        field[top : top + N * cell] = np.roll(levels[top : top + N * cell], cell, axis=0)
        return shown(field, wait=wait)

    modulator.show = lower
    with pytest.raises(DeviceFault, match="outputs 0 to 23 light 24 spots from the left, wrong are 0, 24"):
        find_spots(modulator, electronics, camera, design)


@pytest.mark.slow
def test_whole_spots_of_shift_are_said_and_corrected(filmed):
    """One spot to the right: by the design every output would be taken for its neighbour."""
    modulator, electronics, camera, truth = filmed(profile="adm", shift_px=(0.0, 12.0))
    found = bring_up_camera(modulator, electronics, camera, nominal_panel_record(modulator.spec, N, "test"))
    assert "+0 and +1 spots, so that by the design outputs would be taken for others" in found.finding
    origin = nominal_spot_record(camera.spec, N, "test").array("spot_origin_px")
    np.testing.assert_array_equal(found.record.array("spot_origin_px"), origin + np.array([0, 12]))
    assert np.sqrt(((found.record.array("spot_centre_px") - truth) ** 2).mean()) < 0.02


def test_what_the_camera_cannot_see_is_one_finding(filmed):
    for how, words in (
        ({"mirrored": True}, "mirrored left to right"),
        ({"camera_light_percent": 60.0}, "saturated"),
        ({"camera_light_percent": 1e-9}, "all dark"),
    ):
        modulator, electronics, camera, _ = filmed(profile="adm", **how)
        record = nominal_panel_record(modulator.spec, N, "test")
        found = bring_up_camera(modulator, electronics, camera, record)
        assert found.record is None
        assert found.finding.startswith("the camera's spots are not registered: camera: ")
        assert words in found.finding


UNITS = 20


@pytest.mark.slow
@pytest.mark.parametrize("units", [range(1, 4), range(4, UNITS + 4)], ids=["three", "twenty"])
def test_drawn_units_within_a_twentieth_of_a_pixel(filmed, units):
    """Every unit with its own shift of the image, up to 5 spots; rms error of its 96 spots."""
    errors = {}
    for unit_seed in units:
        shift_px = tuple(np.random.default_rng(unit_seed).uniform(-60, 60, 2))
        modulator, electronics, camera, truth = filmed(unit_seed, shift_px=shift_px)
        found = search(modulator, electronics, camera)
        errors[unit_seed] = float(np.sqrt(((found.centre_px - truth) ** 2).mean()))
    assert max(errors.values()) <= 0.05, errors
