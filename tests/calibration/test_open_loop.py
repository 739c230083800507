"""Measured records against the light that is really there, and what their use repairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from labctl_calibration import calibrate_open_loop, calibrate_steady, nominal_panel_record
from labctl_calibration.open_loop import (
    MOST_HOLDS,
    OFFSET_REPEATS,
    STEADY_CODES,
    WEIGHT_REPEATS,
    hold_repeats,
    usual_us,
)

from labctl.devices import CalibrationMissing, DeviceFault, ModulatorSpec, SettleCodes

N = 48


def random_fractions(seed=0):
    rng = np.random.default_rng(seed)
    fractions = rng.uniform(-1, 1, (N, N))
    fractions[rng.random((N, N)) < 0.7] = 0.0
    return fractions


def at_rest(twin, gain_code):
    """State with no bias anywhere, 80 tau after release from zero, units."""
    zeros = np.zeros((1, N), np.int64)
    spec = twin.electronics.spec
    codes = SettleCodes(
        bias=zeros,
        gain=zeros + gain_code,
        leak=zeros + spec.max_leak_code,
        gain_range=zeros[0],
        start=zeros,
        step_id=0,
        sample_id=zeros[:, 0],
    )
    return twin.electronics.settle(codes, wait_us=80 * spec.tau_us).counts[0] * spec.adc.units_per_code


@pytest.mark.parametrize(
    ("profile", "noise_scale", "atol"), [("ideal", 1, 1e-9), ("adm", 0, 1e-4), ("adm", 1, 3e-3)]
)
def test_effective_fractions_are_what_the_light_does(twin, profile, noise_scale, atol):
    bench = twin(profile, noise_scale=noise_scale)
    fractions = random_fractions()
    bench.show_fractions(fractions)
    record = calibrate_open_loop(bench.electronics)
    np.testing.assert_allclose(record.array("effective_fractions"), bench.true_fractions(), atol=atol)
    # and the light is what was meant, to half a level
    np.testing.assert_allclose(record.array("effective_fractions"), fractions, atol=atol + 0.5 * np.pi / 255)


@pytest.mark.parametrize("profile", ["ideal", "adm"])
def test_offsets_are_pedestal_times_row_sums_and_get_nulled(twin, profile):
    """The detectors see W s + b W 1: with b W 1 trimmed away, a loop without bias stays at zero."""
    bench = twin(profile, noise_scale=0.0)
    bench.show_fractions(0.5 * random_fractions())
    gain = int(bench.electronics.spec.state_gain.code(np.array([0.3]))[0])  # zero is then a stable state
    assert np.abs(at_rest(bench, gain)).max() > 0.5
    record = calibrate_open_loop(bench.electronics)
    row_sums = bench.true_fractions().sum(axis=1)
    np.testing.assert_allclose(record.array("offset_units"), 1.1 * row_sums, atol=2e-4)
    unit = bench.electronics.spec.offset_dac.units_per_code
    np.testing.assert_allclose(record.array("null_codes") * unit, record.array("offset_units"), atol=unit / 2)
    assert np.abs(at_rest(bench, gain)).max() < 1e-3


def test_calibrating_twice_gives_the_same_and_the_first_trim_is_forgotten(twin):
    bench = twin("adm", noise_scale=0.0)
    bench.show_fractions(random_fractions())
    first, second = (calibrate_open_loop(bench.electronics) for _ in range(2))
    for name in first.arrays:
        # 60 ms later the panel has turned by its last 1.5e-5
        np.testing.assert_allclose(
            first.array(name), second.array(name), atol=2e-4 if name != "null_codes" else 1
        )


def test_a_new_frame_needs_a_new_record(twin):
    bench = twin("adm")
    bench.show_fractions(random_fractions(0))
    old = calibrate_open_loop(bench.electronics)
    bench.show_fractions(random_fractions(1))
    new = calibrate_open_loop(bench.electronics)
    assert np.abs(old.array("effective_fractions") - new.array("effective_fractions")).max() > 0.5


def test_the_record_says_whose_it_is_and_what_it_took(twin):
    bench = twin("adm", seed=3)
    before = bench.bench.now_us
    record = calibrate_open_loop(bench.electronics)
    assert record.device_serial == bench.electronics.open().serial
    assert record.taken_at.endswith("+00:00")
    window_us = bench.electronics.spec.window_us
    taken = bench.bench.now_us - before
    assert taken == pytest.approx(window_us * (OFFSET_REPEATS + 2 * N * WEIGHT_REPEATS))
    assert taken < 60e3
    with pytest.raises(
        CalibrationMissing, match="has no 'tau_us'; it has effective_fractions, null_codes, offset"
    ):
        record.array("tau_us")


def test_light_beyond_the_photocurrent_range_is_a_fault_not_a_clipped_trim(twin):
    bench = twin("adm", photocurrent_range_units=20.0)
    fractions = np.zeros((N, N))
    fractions[5] = 1.0
    bench.show_fractions(fractions)
    with pytest.raises(
        DeviceFault, match=r"^electronics: calibrate_open_loop: .* on rows \[5\]; allowed: 20"
    ):
        calibrate_open_loop(bench.electronics)
    with pytest.raises(DeviceFault, match=r"on rows \[5\]; allowed: 20"):
        calibrate_steady(bench.electronics)


def left_of_the_null(electronics):
    """The pedestal's light behind the null, a second later and averaged over mains, offset codes [n]."""
    one = np.zeros((1, N), np.int64)
    electronics.probe(one, repeats=10 * hold_repeats(electronics.spec))
    return electronics.probe(one, repeats=hold_repeats(electronics.spec)).counts[0]


@pytest.mark.parametrize("unit_seed", [4, 5])
def test_in_steady_light_a_null_lasts(twin, unit_seed):
    """Emitters of drawn units dim by a percent in 0.2 s: what is nulled in cold light is soon wrong."""
    bench = twin("unit", seed=unit_seed, unit_seed=unit_seed)
    bench.show_fractions(random_fractions())
    bench.bench.advance(5e6)  # dark, so that the emitters are cold
    calibrate_open_loop(bench.electronics)
    assert np.abs(left_of_the_null(bench.electronics)).max() > 40
    bench.bench.advance(5e6)
    began = bench.bench.now_us
    record = calibrate_steady(bench.electronics)
    taken = bench.bench.now_us - began
    assert np.abs(left_of_the_null(bench.electronics)).max() < 12
    assert record.settings["steady_codes"] < 5
    assert 0.5 < taken / usual_us(bench.electronics.spec) < 2


def test_light_that_is_steady_is_held_twice(twin):
    bench = twin("adm", noise_scale=0.0)
    bench.show_fractions(random_fractions())
    record = calibrate_steady(bench.electronics)
    assert record.settings["offset_repeats"] == 2 * hold_repeats(bench.electronics.spec)
    assert record.settings["steady_codes"] < STEADY_CODES


def test_light_that_never_stays_is_left_at_that(twin, mocker):
    bench = twin("adm", noise_scale=0.0)
    bench.show_fractions(random_fractions())
    probe = bench.electronics.probe
    brighter = iter(range(10**6))

    def restless(codes, **how):
        seen = probe(codes, **how)
        return replace(seen, counts=seen.counts + 10.0 * next(brighter))

    mocker.patch.object(bench.electronics, "probe", restless)
    record = calibrate_steady(bench.electronics)
    assert record.settings["steady_codes"] == pytest.approx(10.0, abs=1.0)
    assert record.settings["offset_repeats"] < MOST_HOLDS * hold_repeats(bench.electronics.spec)


class TestNominalPanel:
    """The data sheet as a record."""

    def test_geometry_of_the_conventions(self):
        spec = ModulatorSpec((1080, 1920), 256, 1.0, 60.0, "lcos-intensity")
        record = nominal_panel_record(spec, 48, "P1")
        assert record.array("cell_px").tolist() == [22, 20]  # conventions, section 3: 20 wide, 22 high
        assert record.array("path_origin_px").tolist() == [[12, 0], [12, 960]]
        assert record.device_serial == "P1"

    def test_response_is_a_half_wave_between_crossed_polarisers(self):
        spec = ModulatorSpec((1080, 1920), 5, 1.0, 60.0, "lcos-intensity")
        table = nominal_panel_record(spec, 48, "P1").array("panel_transmittance")
        np.testing.assert_allclose(
            table, [0, 0.5 - 0.5 / np.sqrt(2), 0.5, 0.5 + 0.5 / np.sqrt(2), 1], atol=1e-15
        )

    @pytest.mark.parametrize("profile", ["ideal", "adm", "nature2025"])
    def test_it_agrees_with_the_twins_own_optics(self, twin, profile):
        bench = twin(profile)
        record = nominal_panel_record(bench.panel.spec, N, "test")
        for level in (0, bench.panel.spec.n_levels // 3, bench.panel.spec.n_levels - 1):
            bench.panel.show(np.full(bench.panel.spec.shape_px, level, np.uint16))
            light = bench.bench.optics.transmittances(bench.bench.now_us)
            np.testing.assert_allclose(light, record.array("panel_transmittance")[level], atol=2e-5)

    def test_phase_panels_have_phases_and_no_transmittance(self):
        spec = ModulatorSpec((1080, 1920), 4, 1.0, 60.0, "lcos-phase")
        record = nominal_panel_record(spec, 48, "P1")
        np.testing.assert_allclose(record.array("panel_phase_rad"), np.pi * np.array([0, 0.5, 1, 1.5]))
        assert record.array("grating_period_px").tolist() == [4]
        assert "panel_transmittance" not in record.arrays
