"""Each fault of the optical twin, alone, against its own formula; off, it is not there to the bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from labctl_sim_devices import TERMS, CameraTwin

from labctl.devices import SettleCodes

N = 48
OFF = dict.fromkeys(TERMS, 0.0)
FINE = {
    "panel_levels": 65536, "panel_tau_us": 0.0, "probe_dac_bits": 40, "offset_dac_bits": 48, "dac_bits": 40,
    "adc_bits": 40, "leak_bits": 40, "gain_bits": 40, "precision": "float64", "wait_us": 60.0,
}  # fmt: skip


@pytest.fixture
def with_terms(twin):
    """Factory: the drawn bench with these terms alone, converters fine and noise off."""

    def make(*terms, scale=1.0, seed=1, **overrides):
        return twin(
            "unit", seed=seed, noise_scale=0.0,
            **{**FINE, "terms": {**OFF, **dict.fromkeys(terms, scale)}, **overrides},
        )  # fmt: skip

    return make


def fractions(seed=0):
    r = np.random.default_rng(seed)
    return r.uniform(-1, 1, (N, N)) * (r.random((N, N)) < 0.4)


def probe(bench, drive, at="phi"):
    """Photocurrents [B, n] of patterns in units of phi = 1."""
    spec = bench.electronics.spec
    codes = np.rint(np.asarray(drive) / spec.probe_dac.units_per_code).astype(np.int64)
    return bench.electronics.probe(codes, at=at).counts * spec.offset_dac.units_per_code


def settle(bench, *, bias=0.0, gain=0.4, leak=1.0, start=0.0, batch=1, step_id=0):
    spec = bench.electronics.spec

    def codes(value, unit, rows):
        return np.broadcast_to(np.rint(np.asarray(value, float) / unit).astype(np.int64), (rows, N)).copy()

    readout = bench.electronics.settle(
        SettleCodes(
            bias=codes(bias, spec.dac.units_per_code, batch),
            gain=np.broadcast_to(spec.hidden_gain.code(np.full((1, N), float(gain))), (1, N)).copy(),
            leak=codes(leak, 1 / spec.max_leak_code, 1),
            gain_range=np.ones(N, np.int64),
            start=codes(start, spec.dac.units_per_code, batch),
            step_id=step_id,
            sample_id=np.arange(batch),
        )
    )
    return readout.counts * spec.adc.units_per_code


def null(bench):
    """Trims at the true resting current."""
    unit = bench.electronics.spec.offset_dac.units_per_code
    bench.electronics.set_offset_null(np.rint(bench.bench.truth().rest() / unit).astype(np.int64))


ALL_BUT_CLOCK = [
    t for t in TERMS
    if t not in ("flicker", "self_heating", "drift", "warm_up", "registration_drift", "mains", "crossing")
]  # fmt: skip


def test_with_every_term_off_it_is_the_bench_without_faults(twin, with_terms):
    bench, plain = with_terms(), twin("adm", seed=1, noise_scale=0.0, **FINE)
    assert bench.bench.plain_light
    for b in (bench, plain):
        b.show_fractions(fractions())
    drive = np.random.default_rng(1).uniform(-1, 1, (4, N))
    np.testing.assert_array_equal(probe(bench, drive), probe(plain, drive))
    np.testing.assert_array_equal(settle(bench, bias=0.3), settle(plain, bias=0.3))


@pytest.mark.parametrize("term", [t for t in TERMS if t not in ("crossing", "mirror_resets", "speckle")])
def test_a_term_switched_off_leaves_no_trace(with_terms, term):
    """One term on, then set_terms to 0: as if it had never been."""
    bench, plain = with_terms(term), with_terms()
    for b in (bench, plain):
        b.show_fractions(fractions())
    bench.bench.set_terms({term: 0.0})
    drive = np.random.default_rng(1).uniform(-1, 1, (4, N))
    np.testing.assert_array_equal(probe(bench, drive), probe(plain, drive))
    np.testing.assert_array_equal(settle(bench, bias=0.3), settle(plain, bias=0.3))


@pytest.mark.parametrize("terms", [(t,) for t in ALL_BUT_CLOCK] + [tuple(ALL_BUT_CLOCK)], ids=" ".join)
def test_devices_and_truth_agree(with_terms, terms):
    """Open loop, and at rest: the fixed point of the truth's map is where the loop settles."""
    bench = with_terms(*terms)
    bench.show_fractions(fractions())
    null(bench)
    truth = bench.bench.truth()
    drive = np.random.default_rng(1).uniform(-1, 1, (4, N))
    with torch.no_grad():
        expected = truth.law.difference(torch.from_numpy(1.1 + drive)).numpy() - truth.rest()
    np.testing.assert_allclose(probe(bench, drive), expected, atol=1e-5)
    bias = np.random.default_rng(2).uniform(-0.5, 0.5, (3, N))
    z = settle(bench, bias=bias, gain=0.1, batch=3)
    gain = bench.electronics.spec.hidden_gain.value(bench.electronics.spec.hidden_gain.code(np.array(0.1)))
    # the static table of the loop's light is good to 1e-5 of an emitter, of which there are 48
    np.testing.assert_allclose(truth.next_state(z, gain, 1.0, bias), z, atol=2e-5)


@pytest.mark.parametrize("terms", [("emission",), ("input_efficiency", "curve"), ("beamsplitter",)])
def test_the_camera_sees_the_same_light(with_terms, terms):
    """Spots are photocurrents where the detectors add nothing."""
    bench = with_terms(*terms)
    bench.show_fractions(fractions())
    camera = CameraTwin("camera", bench.bench)
    camera.open()
    drive = np.abs(fractions(3)[:1])
    seen = bench.bench.spots(bench.bench.light_of(drive))
    truth = bench.bench.truth().law.photocurrents(torch.from_numpy(drive)).numpy()
    np.testing.assert_allclose(seen, truth.reshape(1, 2 * N), atol=1e-12)
    camera.close()


@pytest.mark.parametrize(
    "term",
    ["contrast", "point_spread", "beamsplitter", "neighbour_crosstalk", "illumination", "registration",
     "input_efficiency", "weight_response", "output_correction"],
)  # fmt: skip
def test_more_of_a_fault_is_more_error(with_terms, term):
    """Distance of the effective matrix from what was shown grows with the scale, from nothing."""
    bench, shown = with_terms(term), fractions()
    bench.show_fractions(shown)
    bench.bench.set_terms({term: 0.0})
    ideal = bench.bench.truth().matrix()
    errors = []
    for scale in (0.0, 0.25, 0.5, 1.0):
        bench.bench.set_terms({term: scale})
        errors.append(float(np.abs(bench.bench.truth().matrix() - ideal).mean()))
    assert errors[0] == 0
    assert (np.diff(errors) > 0).all()


class TestLight:
    """From drive to photocurrent."""

    def test_emission_is_the_cubic_of_its_path(self, with_terms):
        bench = with_terms("emission")
        unit = bench.bench.unit
        for path, sign in ((0, 1.0), (1, -1.0)):
            bench.show_fractions(sign * np.eye(N))
            u = np.array([-0.9, -0.3, 0.0, 0.4, 1.0])
            seen = probe(bench, u[:, None] * np.ones(N))
            q, c = unit.emission_quadratic[path], unit.emission_cubic[path]
            s = unit.emission_slope[path]
            rise = s * u[:, None] + q * u[:, None] ** 2 + c * u[:, None] ** 3
            np.testing.assert_allclose(seen - seen[2], sign * rise, atol=1e-9)
            dark = probe(bench, np.zeros((1, N)), at="emitter")
            np.testing.assert_allclose(dark, 0, atol=1e-12)  # no drive, no light

    def test_dead_inputs_and_efficiencies_scale_columns(self, with_terms):
        bench = with_terms("input_efficiency")
        bench.show_fractions(fractions())
        efficiency = bench.bench.unit.input_efficiency
        paths = bench.bench.optics.transmittances(0.0)
        expected = paths[0] * efficiency[0] - paths[1] * efficiency[1]
        np.testing.assert_allclose(bench.bench.truth().matrix(), expected, atol=1e-12)
        assert (expected == 0).all(axis=0).sum() == 1

    def test_output_quadratic_and_leakage(self, with_terms):
        bench = with_terms("weight_response")
        bench.show_fractions(np.zeros((N, N)))
        unit = bench.bench.unit
        leak = unit.weight_constant[0] - unit.weight_constant[1]
        np.testing.assert_allclose(bench.bench.truth().matrix(), np.repeat(leak[:, None], N, 1), atol=1e-12)

    def test_the_splitter_adds_to_the_diagonal(self, with_terms):
        bench = with_terms("beamsplitter")
        bench.show_fractions(np.zeros((N, N)))
        splitter = bench.bench.unit.splitter
        np.testing.assert_allclose(
            bench.bench.truth().matrix(), np.diag(splitter[0] - splitter[1]), atol=1e-12
        )

    def test_detector_crosstalk_mixes_neighbouring_rows(self, with_terms):
        bench = with_terms("neighbour_crosstalk")
        weights = np.abs(fractions())
        bench.show_fractions(weights)
        shown = bench.true_fractions()
        earlier, later = bench.bench.unit.neighbour[0].T
        mixed = shown.copy()
        mixed[:-1] += earlier[1:, None] * shown[1:]
        mixed[1:] += later[:-1, None] * shown[:-1]
        np.testing.assert_allclose(bench.bench.truth().matrix(), mixed, atol=1e-12)

    def test_compression_bends_large_currents(self, with_terms):
        bench = with_terms("compression")
        bench.show_fractions(np.ones((N, N)))
        k = bench.bench.unit.compression[0]
        for drive in (0.25, 0.5, 1.0):
            seen = probe(bench, np.full((1, N), drive), at="emitter")
            np.testing.assert_allclose(seen[0], N * drive / (1 + k * N * drive), rtol=1e-9)

    def test_flicker_swings_all_light_together(self, with_terms):
        bench = with_terms("flicker")
        bench.show_fractions(np.ones((N, N)))
        period_us = bench.bench.unit.settings["flicker_us"]
        seen = []
        for _ in range(40):
            seen.append(probe(bench, np.full((1, N), 1.0), at="emitter")[0] / N)
            bench.bench.advance(period_us / 40 - 6.4)
        seen = np.array(seen)
        np.testing.assert_allclose(seen.mean(axis=0), 1, atol=1e-9)
        swing = float(bench.bench.unit.flicker_share) * np.sinc(6.4 / period_us)  # a window's mean of it
        assert seen.std() * math.sqrt(2) == pytest.approx(swing, rel=1e-6)
        assert np.ptp(seen, axis=1).max() < 1e-12

    @pytest.mark.parametrize("windows", [1, 100, 500, 15_625])
    def test_a_long_reading_is_the_mean_of_its_windows(self, with_terms, windows):
        """A null that is read over 100 ms has no phase of a flicker of 480 Hz in it."""
        benches = [with_terms("flicker") for _ in range(2)]
        for bench in benches:
            bench.show_fractions(np.ones((N, N)))
        spec = benches[0].electronics.spec
        codes = np.full((windows, N), spec.probe_dac.max_code)
        each = benches[0].electronics.probe(codes, at="emitter").counts
        whole = benches[1].electronics.probe(codes[:1], at="emitter", repeats=windows).counts
        np.testing.assert_allclose(whole[0], each.mean(axis=0), rtol=1e-9)

    def test_emitters_dip_after_much_light_and_recover(self, with_terms):
        bench = with_terms("self_heating")
        bench.show_fractions(np.eye(N))
        depth, time_us = bench.bench.unit.heating_depth, bench.bench.unit.settings["heating_us"]
        pattern = np.full((4096, N), 1.0)
        for _ in range(60):
            probe(bench, pattern, at="emitter")
        on_us = 60 * 4096 * 6.4
        warm = probe(bench, np.full((1, N), 1.0), at="emitter")[0]
        np.testing.assert_allclose(warm, 1 - depth * -math.expm1(-on_us / time_us), rtol=1e-6)
        bench.bench.advance(20 * time_us)
        rested = probe(bench, np.full((1, N), 1.0), at="emitter")[0]
        np.testing.assert_allclose(rested, 1, atol=1e-6)


class TestPanel:
    """From frame to transmittance."""

    def test_response_by_region(self, with_terms):
        bench = with_terms("panel_response", "contrast")
        profile, unit = bench.bench.profile, bench.bench.unit
        level = 30000
        bench.panel.show(np.full(profile.panel_shape_px, level, np.uint16))
        g = level / (profile.panel_levels - 1)
        curve = (
            unit.contrast_off
            + (1 - unit.contrast_off)
            * np.sin(np.pi / 2 * unit.response_retardance * g**unit.response_exponent) ** 2
        )
        light = bench.bench.optics.response.light(np.full(profile.panel_shape_px, level, np.uint16))
        rows, columns = curve.shape
        height, width = profile.panel_shape_px
        for i in range(rows):
            for j in range(columns):
                y, x = int((i + 0.5) * height / rows), int((j + 0.5) * width / columns)
                assert light[y, x] == pytest.approx(curve[i, j], abs=2e-3)  # half a pixel beside the centre
        midway = light[int(height / rows), int(width / columns / 2)]
        assert midway == pytest.approx((curve[0, 0] + curve[1, 0]) / 2, abs=2e-3)
        assert bench.bench.optics.transmittances(1e9).min() >= curve.min() - 1e-12

    def test_off_is_not_zero(self, with_terms):
        bench = with_terms("contrast")
        bench.show_fractions(np.zeros((N, N)))
        paths = bench.bench.optics.transmittances(1e9)
        off = bench.bench.unit.contrast_off
        assert off.min() - 1e-12 <= paths.min() <= paths.max() <= off.max() + 1e-12
        assert paths.mean() == pytest.approx(0.02, abs=0.01)

    def test_dead_pixels_stay_as_they_are(self, with_terms):
        bench = with_terms("dead_pixels", scale=4.0)
        shape = bench.bench.profile.panel_shape_px
        dead = bench.bench.optics.response.dead_pixels
        assert len(dead) == round(4 * 2e-5 * shape[0] * shape[1])
        lights = [bench.bench.optics.response.light(np.full(shape, level, np.uint16)) for level in (0, 65535)]
        changed = lights[0] != lights[1]
        assert np.count_nonzero(~changed) == len({tuple(place) for place in dead})
        assert not changed[dead[:, 0], dead[:, 1]].any()

    def test_brightening_and_darkening_cells_take_their_own_time(self, with_terms):
        bench = with_terms("asymmetry", panel_tau_us=1800.0)
        shape, top = bench.bench.profile.panel_shape_px, bench.bench.profile.panel_levels - 1
        for first, second, ratio in ((0, top, 1.2), (top, 0, 0.8)):
            bench.panel.show(np.full(shape, first, np.uint16))
            bench.bench.advance(1e6)
            bench.panel.show(np.full(shape, second, np.uint16), wait=False)
            bench.bench.advance(1000.0)
            left = math.exp(-1000.0 / (1800.0 * ratio))
            expected = left if first else 1 - left
            np.testing.assert_allclose(
                bench.bench.optics.transmittances(bench.bench.now_us), expected, atol=1e-9
            )

    def test_illumination_rolls_off_from_its_centre(self, with_terms):
        bench = with_terms("illumination")
        bench.show_fractions(np.ones((N, N)))
        unit = bench.bench.unit
        paths = bench.bench.optics.transmittances(1e9)
        step = (np.arange(N) + 0.5) / N * 2 - 1
        y, x = np.meshgrid(step, step, indexing="ij")
        away = ((y - unit.illumination_centre[0, 0]) ** 2 + (x - unit.illumination_centre[0, 1]) ** 2) / 2
        np.testing.assert_allclose(paths[0], np.exp(-unit.illumination_roll_off[0] * away), atol=1e-12)


class TestLoop:
    """The closed loop."""

    def test_curve_and_offsets_at_a_known_fixed_point(self, with_terms):
        """W = 0 and gain 0: leak z = clip(bias) + scale offset."""
        bench = with_terms("loop_offset", "loop_scale", "leak_error", "input_clip")
        bench.show_fractions(np.zeros((N, N)))
        unit = bench.bench.unit
        for bias in (0.5, -1.0, 3.8):
            z = settle(bench, bias=bias, gain=0.0)[0]
            limit = 3.8 * (1 - unit.clip_lost)
            expected = np.clip(bias, -limit, limit) + unit.loop_scale * unit.loop_offset
            expected = expected / (unit.leak_scale + unit.leak_offset)
            np.testing.assert_allclose(z, np.clip(expected, -3.8, 3.8), atol=1e-6)

    def test_the_offset_grows_with_the_gain(self, with_terms):
        bench = with_terms("loop_offset")
        bench.show_fractions(np.zeros((N, N)))
        unit, scale = bench.bench.unit, bench.electronics.spec.hidden_gain
        for gain in (0.1, 1.0):
            value = scale.value(scale.code(np.array(gain)))
            z = settle(bench, gain=gain)[0]
            np.testing.assert_allclose(z, unit.loop_offset + value * unit.loop_offset_per_gain, atol=1e-6)

    def test_each_row_has_its_own_time_constant(self, with_terms):
        bench = with_terms("tau_spread")
        bench.show_fractions(np.zeros((N, N)))
        spec = bench.electronics.spec
        codes = SettleCodes(
            bias=np.zeros((1, N), np.int64),
            gain=np.zeros((1, N), np.int64),
            leak=np.full((1, N), spec.max_leak_code),
            gain_range=np.ones(N, np.int64),
            start=np.full((1, N), round(2.0 / spec.dac.units_per_code)),
            step_id=0,
            sample_id=np.zeros(1, np.int64),
        )
        readout = bench.electronics.settle(codes, trace=True)
        tau_us = bench.bench.truth().tau_us
        expected = 2.0 * np.exp(-readout.trace_time_us[:, None] / tau_us)
        trace = readout.trace_counts[:, 0] * spec.adc.units_per_code
        np.testing.assert_allclose(trace, expected, atol=1e-9)
        assert np.ptp(tau_us) > 0.05

    @pytest.mark.parametrize("bandwidth_mhz", [4.0, 20.0])
    def test_the_amplifiers_pole_acts_as_a_delay(self, with_terms, bandwidth_mhz):
        """Against the loop with the pole as one more state, integrated finely here."""
        population = {"tia": {"bandwidth_mhz": bandwidth_mhz}}
        bench = with_terms("tia", unit=population, trip_us=0.0)
        bench.show_fractions(-0.9 * np.eye(N))
        null(bench)
        spec = bench.electronics.spec
        scale = spec.hidden_gain
        gain = float(scale.value(scale.code(np.array(3.0))))
        codes = SettleCodes(
            bias=np.full((1, N), round(0.8 / spec.dac.units_per_code)),
            gain=np.full((1, N), int(scale.code(np.array(3.0)))),
            leak=np.full((1, N), spec.max_leak_code),
            gain_range=np.ones(N, np.int64),
            start=np.zeros((1, N), np.int64),
            step_id=0,
            sample_id=np.zeros(1, np.int64),
        )
        readout = bench.electronics.settle(codes, trace=True)
        trace = readout.trace_counts[:, 0, 0] * spec.adc.units_per_code
        weight = bench.true_fractions()[0, 0]
        pole_us, dt, z, y = 1 / (2 * np.pi * bandwidth_mhz), 2e-4, 0.0, 0.0
        times, states = [0.0], [0.0]
        for k in range(int(6.0 / dt)):
            y += dt / pole_us * (weight * math.tanh(z) - y)
            z += dt / spec.tau_us * (-z + gain * y + 0.8)
            times.append((k + 1) * dt)
            states.append(z)
        early = readout.trace_time_us < 6.0
        exact = np.interp(readout.trace_time_us[early], times, states)
        assert np.abs(trace[early] - exact).max() < 0.04  # the first step knows no slope yet
        late = early & (readout.trace_time_us > 2.0)
        assert np.abs(trace[late] - np.interp(readout.trace_time_us[late], times, states)).max() < 4e-3

    def test_mains_is_picked_up_in_phase_with_the_clock(self, with_terms):
        bench = with_terms("mains")
        bench.show_fractions(np.zeros((N, N)))
        seen, times = [], []
        for k in range(80):
            times.append(bench.bench.now_us)
            seen.append(settle(bench, gain=0.0, step_id=k)[0])
            bench.bench.advance(20000.0 / 80 - 66.4)
        seen, turns = np.array(seen), np.array(times) / 20000.0
        for order in (1, 2, 3):
            swing = 2 * np.abs((seen * np.exp(-2j * np.pi * order * turns)[:, None]).mean(axis=0))
            np.testing.assert_allclose(swing, np.abs(bench.bench.unit.mains[:, order - 1]), atol=1e-6)


class TestClock:
    """Slow changes: functions of the bench's clock."""

    def test_warm_up(self, with_terms):
        bench = with_terms("warm_up")
        unit, profile = bench.bench.unit, bench.bench.profile
        start_c = bench.bench.temperature_c()
        bench.bench.advance(9e8)
        risen = bench.bench.temperature_c() - start_c
        assert risen == pytest.approx(6.0 * (1 - math.exp(-1)), abs=2 * 0.3)
        warmer = bench.bench.temperature_c() - profile.temperature_c
        np.testing.assert_allclose(bench.bench.emitters(), 1 + float(unit.light_per_c) * warmer)
        assert bench.electronics.temperature_c() == bench.bench.temperature_c()

    def test_walks_have_their_rate_and_do_not_depend_on_the_questions(self, with_terms):
        clocks = [with_terms("drift", seed=seed).bench.clock for seed in range(12)]
        hour = np.array([clock.offset(3.6e9) for clock in clocks])
        assert hour.std() == pytest.approx(0.01, rel=0.15)
        later, earlier = clocks[0].offset(7.2e9), clocks[0].offset(1e9)
        fresh = with_terms("drift", seed=0).bench.clock
        np.testing.assert_array_equal(fresh.offset(1e9), earlier)
        np.testing.assert_array_equal(fresh.offset(7.2e9), later)
        assert (fresh.offset(0.0) == 0).all()

    def test_cells_wander_with_temperature(self, with_terms):
        bench = with_terms("registration_drift", "warm_up")
        before = bench.bench.optics.placement(0, 0.0).centre_px
        after = bench.bench.optics.placement(0, 9e9).centre_px
        moved = (after - before).mean(axis=(0, 1))
        warmer = bench.bench.clock.temperature_c(9e9) - bench.bench.clock.temperature_c(0.0)
        np.testing.assert_allclose(moved, bench.bench.unit.shift_px_per_c * warmer, atol=1e-3)
        bench.show_fractions(fractions())
        cold = bench.bench.transmittances()
        bench.bench.advance(9e9)
        assert np.abs(bench.bench.transmittances() - cold).max() > 1e-3


def test_the_same_seed_gives_the_same_bits_and_another_day_others(twin):
    results = []
    for seed, unit_seed in ((1, 1), (1, 1), (2, 1)):
        bench = twin("unit", seed=seed, unit_seed=unit_seed)
        bench.show_fractions(fractions())
        results.append((settle(bench, bias=0.1, batch=2), bench.bench.unit.curve))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert (results[0][0] != results[2][0]).any()
    np.testing.assert_array_equal(results[0][1], results[2][1])  # the same machine


def test_a_samples_result_depends_on_its_place_in_time_alone(twin):
    """Terms frozen, noise on: a sample's draws do not depend on its batch."""
    still = {**dict.fromkeys(("flicker", "mains", "self_heating"), 0.0)}
    whole, half = (twin("unit", seed=3, terms=still) for _ in range(2))
    for bench in (whole, half):
        bench.show_fractions(fractions())
    np.testing.assert_allclose(settle(whole, bias=0.1, batch=600)[:7], settle(half, bias=0.1, batch=7),
                               atol=1e-6)  # fmt: skip
