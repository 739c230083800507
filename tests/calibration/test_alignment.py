"""What an operator sees while aligning, against the twin's truth; what is said when something is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration import nominal_panel_record
from labctl_calibration.alignment import Alignment, advice
from labctl_sim_devices import CameraTwin

from labctl import open_rig
from labctl.dashboard import emitters_of
from labctl.devices import Camera, WeightModulator

N = 48
DARK = {"truth": {"input_efficiency": np.zeros((2, N)).tolist()}}


@pytest.fixture
def aligned(panels):
    """Factory: (alignment, true centres [2, n, 2])."""
    opened = []

    def make(unit_seed=1, **how):
        bench, modulator, electronics = panels.opened(unit_seed, **how)
        camera = CameraTwin("camera", bench)
        camera.open()
        record = nominal_panel_record(modulator.spec, N, "design")
        alignment = Alignment(modulator, electronics, camera, record)
        alignment.light()
        opened.append(camera)
        truth = np.stack([camera._sensor._y, camera._sensor._x], 1).reshape(2, N, 2)
        return alignment, truth

    yield make
    for camera in opened:
        camera.close()


def test_one_frame_says_where_every_spot_is(aligned):
    alignment, truth = aligned()
    look = alignment.look()
    assert look.spots.lit.all()
    assert np.sqrt(((look.spots.centre_px - truth) ** 2).mean()) < 0.02
    assert look.residual_px == pytest.approx(0.1, rel=0.3)
    assert look.spots.dark_counts == pytest.approx(64, abs=0.2)
    assert 0.4 < look.peak_share < 1.0
    assert look.saturated_px == 0
    assert advice(look) == ""
    alignment.dark()
    assert not alignment.modulator.shown().any()
    assert not alignment.modulator._bench.emitted_units.any()


@pytest.mark.parametrize(
    "rig_name",
    [
        "optical-host",
        *(pytest.param(f"optical-host-{kind}", marks=pytest.mark.slow) for kind in ("dmd", "phase")),
    ],
)
def test_rigs_whose_emitters_the_host_drives_are_aligned_too(rig_name):
    with open_rig(rig_name) as rig:
        camera, modulator = rig.device(Camera), rig.device(WeightModulator)
        record = nominal_panel_record(modulator.spec, rig.config.n_channels, "design")
        alignment = Alignment(modulator, emitters_of(rig), camera, record)
        alignment.light()
        look = alignment.look()
        assert alignment.registered, alignment.said
        assert look.spots.lit.all()
        assert look.residual_px < 0.15
        assert 0.3 < look.peak_share < 1.0
        alignment.dark()
        assert not modulator.shown().any()
        assert alignment.look().spots.lit.sum() < N


def test_focus_says_which_image_is_sharper(aligned):
    """Width: a box of 8 px blurred by a normal has the variance 64/12 + blur^2, and 1/12 more of pixels."""
    sharp, soft = (aligned(profile="adm", camera_blur_px=blur)[0].look().spots for blur in (0.5, 1.2))
    assert sharp.sharpness > 1.3 * soft.sharpness
    for spots, blur in ((sharp, 0.5), (soft, 1.2)):
        assert spots.width_px == pytest.approx(4 * np.sqrt(64 / 12 + blur**2 + 1 / 12), rel=0.05)
    assert sharp.width_px < soft.width_px


@pytest.mark.slow
def test_focus_does_not_depend_on_exposure(aligned):
    alignment, _ = aligned(profile="adm")
    before = alignment.look().spots
    alignment.expose(1.3)
    after = alignment.look().spots
    assert after.peak_counts.mean() == pytest.approx(1.3 * before.peak_counts.mean(), rel=0.02)
    assert after.sharpness == pytest.approx(before.sharpness, rel=0.02)
    assert after.width_px == pytest.approx(before.width_px, rel=0.01)


@pytest.mark.slow  # every day in a browser: tests/dashboard
def test_jogs_are_what_they_say(aligned):
    alignment, _ = aligned(profile="adm")
    alignment.jog_grid(0.5, -0.25)
    assert alignment.look().off_px == pytest.approx((-0.5, 0.25), abs=0.03)
    alignment.register()
    assert alignment.grid_shift_px == (0.0, 0.0)
    alignment.show("cells")
    contrast = []
    for _ in range(4):
        contrast.append(alignment.look().contrast)
        alignment.jog_panel(0, 1)
    assert contrast[0] > 0.98
    assert np.all(np.diff(contrast) < -0.05)
    alignment.jog_panel(0, 100)
    assert alignment.panel_shift_px == (0, 4)
    assert "allowed: within 22 px" in alignment.said


@pytest.mark.slow
def test_a_panel_that_lies_elsewhere_is_found_by_its_contrast(aligned):
    """The jog of the largest contrast is where the truth has the panel, to a pixel of it."""
    alignment, _ = aligned(profile="adm", truth={"shift_px": [[3.0, -2.0], [3.0, -2.0]]})
    alignment.show("cells")
    seen = {}
    for down in (-4, -3, -2, 0, 2, 3, 4):
        alignment.panel_shift_px = (0, 0)
        alignment.jog_panel(down, 0)
        seen[down] = alignment.look().contrast
    assert max(seen, key=seen.get) == 3


def test_lens_cap_saturation_and_a_blank_panel_are_said_and_stay_on_view(aligned):
    capped, _ = aligned(**DARK)
    look = capped.look()
    assert not look.registered
    assert "no light" in advice(look)
    assert np.isnan(look.residual_px)
    bright, _ = aligned(camera_light_percent=60.0)
    look = bright.look()
    assert advice(look).startswith("saturated: ")
    assert look.said.startswith("not registered: ")
    blank, _ = aligned(change=np.zeros_like, profile="ideal")
    assert "no light" in advice(blank.look())
    dim, _ = aligned(camera_light_percent=1e-4)
    assert "no light" in advice(dim.look())
    dim.expose(1e9)
    assert "allows 5 to 1e+06 us" in dim.said


def test_a_grid_that_does_not_fit_is_said(aligned):
    alignment, _ = aligned()
    alignment.jog_grid(0.0, 1.0)
    assert "px rms off the grid; register again" in advice(alignment.look())
