"""Coherent light: speckle of the stated contrast and grain, and a phase panel whose gratings make weights."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration import nominal_panel_record
from labctl_sim_devices import CameraTwin, EmitterTwin, OpticalBench, PhasePanelTwin, load_profile
from labctl_sim_devices.speckle import speckle_patterns

from labctl.engines.spots import hold_of
from labctl.physics import Stream
from labctl.programs import encode_frame

N = 48


@pytest.mark.parametrize(("contrast", "grain_px"), [(1.0, 1.5), (0.5, 2.0), (0.3, 1.5)])
def test_patterns_have_the_stated_contrast_and_grain(contrast, grain_px):
    made = speckle_patterns(Stream(3, "camera", "speckle"), 4000, 12, grain_px, contrast).astype(np.float64)
    assert made.shape == (4000, 12, 12)
    assert made.min() > -1e-6
    # 4,000 patterns of 144 pixels, dozens of grains each: the ensemble's mean and sd within a few per mille
    assert made.mean() == pytest.approx(1.0, abs=0.005)
    assert made.std() == pytest.approx(contrast, rel=0.02)
    if contrast == 1.0:  # exponential: half of all intensities lie below ln 2
        assert np.median(made) == pytest.approx(np.log(2), abs=0.01)
    off = made - made.mean()
    middle = off[:, 6:7, 6:7]
    correlation = (off * middle).mean(axis=0) / (off**2).mean()
    assert correlation.sum() == pytest.approx(grain_px**2, rel=0.15)


def test_no_contrast_is_even_light():
    assert (speckle_patterns(Stream(0, "camera", "speckle"), 2, 12, 1.5, 0.0) == 1).all()


@pytest.fixture
def coherent():
    """A phase bench, noise off: (bench, panel, emitters, camera)."""

    def make(seed=0, **unit):
        overrides = {"unit": {"speckle": {"contrast": 0.3, "grain_px": 1.5, **unit}}}
        bench = OpticalBench(load_profile("phase", overrides), seed=seed, noise_scale=0.0)
        devices = PhasePanelTwin("panel", bench), EmitterTwin("lasers", bench), CameraTwin("camera", bench)
        for device in devices:
            device.open()
        return bench, *devices

    return make


def image(devices, fractions, codes):
    """Counts [24, 576] above black of the spots' part of the sensor."""
    _, panel, drive, camera = devices
    record = nominal_panel_record(panel.spec, N, "test")
    panel.show(encode_frame(fractions, panel.spec, record).levels)
    camera.configure(
        {
            "TriggerMode": "On",
            "Width": 576,
            "Height": 24,
            "OffsetX": 680,
            "OffsetY": 596,
            "ExposureTime": 40.0,
        }
    )
    camera.arm(1)
    drive.drive(codes[None], hold=hold_of(camera))
    frames = camera.acquire(1)
    return frames.counts[0].astype(np.int64) - frames.black_level_codes


def test_the_light_of_a_cell_is_the_fractions_first_order(coherent):
    bench, panel, _, _ = coherent()
    fractions = np.random.default_rng(0).uniform(-1, 1, (N, N))
    encoded = encode_frame(fractions, panel.spec, nominal_panel_record(panel.spec, N, "test"))
    panel.show(encoded.levels)
    seen = bench.transmittances()
    np.testing.assert_allclose(seen[0] - seen[1], encoded.realised, atol=2e-5)  # the crystal's own lag
    assert np.abs(seen[0] * seen[1]).max() < 1e-4


def test_each_cell_has_a_speckle_pattern_of_its_own_and_cells_add_in_intensity(coherent):
    devices = coherent()
    fractions = np.ones((N, N))
    codes = np.zeros((3, N), np.int64)
    codes[0, 5], codes[1, 9] = 600, 600
    codes[2] = codes[0] + codes[1]
    one, other, both = (image(devices, fractions, c) for c in codes)
    assert np.abs(both - one - other).max() <= 4  # counts: rounding, and the pixels' offsets twice
    inside = np.s_[4:8, 4:8]
    assert np.corrcoef(one[inside].ravel(), other[inside].ravel())[0, 1] < 0.8
    again = image(coherent(), fractions, codes[0])
    np.testing.assert_array_equal(one, again)
    assert (image(coherent(seed=1), fractions, codes[0]) != one).mean() > 0.2


def test_speckle_makes_spots_uneven_by_contrast_over_root_grains(coherent):
    devices = coherent(contrast=0.5, grain_px=1.5)
    codes = np.zeros(N, np.int64)
    codes[5] = 900
    counts = image(devices, np.ones((N, N)), codes)[:12].reshape(12, N, 12)
    sums = counts.sum(axis=(0, 2))
    grains = 8.0 * 8.0 / 1.5**2
    # 48 spots: the relative sd of a sd is 10%
    assert sums.std() / sums.mean() == pytest.approx(0.5 / np.sqrt(grains), rel=0.35)


def test_the_term_switches_it_off(coherent):
    devices = coherent()
    devices[0].set_terms({"speckle": 0.0})
    codes = np.zeros(N, np.int64)
    codes[5] = 900
    sums = image(devices, np.ones((N, N)), codes)[:12].reshape(12, N, 12).sum(axis=(0, 2))
    assert sums.std() / sums.mean() < 0.005  # the pixels' own response
