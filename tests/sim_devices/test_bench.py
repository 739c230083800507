"""One world: one clock, one light, and an electronics twin that follows the delay equation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from labctl_sim_devices import (
    ElectronicsTwin,
    EmitterTwin,
    OpticalBench,
    PanelTwin,
    load_profile,
    profile_document,
    profile_names,
)

from labctl.devices import ConfigError, SettleCodes

N = 48


def test_devices_on_one_bench_share_its_clock_and_its_light(twin):
    bench = twin("adm")
    profile = bench.bench.profile
    assert bench.bench.now_us == 0.0
    bench.panel.show(np.zeros(profile.panel_shape_px, np.uint16))
    assert bench.bench.now_us == profile.panel_settle_us
    bench.electronics.probe(np.zeros((10, N), np.int64))
    assert bench.bench.now_us == profile.panel_settle_us + 10 * 6.4
    bench.drive.drive(np.ones((5, N), np.int64))
    assert bench.bench.now_us == pytest.approx(profile.panel_settle_us + 64 + 5 * 0.16)
    other = twin("adm")
    assert other.bench.now_us == 0.0


def test_a_settle_on_a_half_turned_panel_uses_the_light_of_that_moment(twin):
    """wait=False and a settle at once: W is what has turned so far, not what was asked for."""
    bench = twin("adm", noise_scale=0.0)
    profile, spec = bench.bench.profile, bench.electronics.spec
    bench.panel.show(np.zeros(profile.panel_shape_px, np.uint16))
    bench.panel.show(np.full(profile.panel_shape_px, 255, np.uint16), wait=False)
    seen = []
    for _ in range(3):
        probe = np.zeros((1, N), np.int64)
        probe[0, 3] = spec.probe_dac.max_code
        paths = bench.bench.optics.transmittances(bench.bench.now_us)
        counts = bench.electronics.probe(probe, at="emitter").counts[0] * spec.offset_dac.units_per_code
        np.testing.assert_allclose(counts, paths[0][:, 3] - paths[1][:, 3], atol=1e-4)
        seen.append(paths[0][0, 3])
        bench.bench.advance(1800.0)
    turned = 1 - np.exp(-np.arange(3) * (1800.0 + 6.4) / 1800.0)
    np.testing.assert_allclose(seen, turned, atol=1e-9)


@pytest.mark.parametrize(("profile", "first_step"), [("ideal", 0.04), ("adm", 0.04), ("nature2025", 0.01)])
def test_the_whole_transient_follows_the_delay_equation(twin, profile, first_step):
    """tau dz/dt = -leak z + gain W tanh(z(t - trip)) + bias against a fine Heun integration written here."""
    bench = twin(profile, noise_scale=0.0)
    spec = bench.electronics.spec
    rng = np.random.default_rng(0)
    fractions = rng.uniform(-1, 1, (N, N)) * (rng.random((N, N)) < 0.3)
    bench.show_fractions(fractions)
    w = bench.true_fractions()
    trims = np.rint(1.1 * w.sum(axis=1) / spec.offset_dac.units_per_code).astype(np.int64)
    bench.electronics.set_offset_null(trims)
    gain_code = spec.hidden_gain.code(np.full((1, N), 0.4))
    leak_code = np.full((1, N), round(0.8 * spec.max_leak_code))
    units = {"bias": rng.normal(size=(2, N)), "start": rng.normal(size=(2, N))}
    codes = {k: np.rint(v / spec.dac.units_per_code).astype(np.int64) for k, v in units.items()}
    readout = bench.electronics.settle(
        SettleCodes(gain=gain_code, leak=leak_code, gain_range=np.ones(N, np.int64), step_id=0,
                    sample_id=np.arange(2), **codes),
        trace=True,
    )  # fmt: skip
    gain = spec.hidden_gain.value(gain_code)
    leak = leak_code / spec.max_leak_code
    bias, z = (codes[k] * spec.dac.units_per_code for k in ("bias", "start"))
    per_sample = 32  # fine steps in 0.16 us: 5 ns, so that the 20 ns trip is 4 of them
    dt = 0.16 / per_sample / spec.tau_us
    past, states = [z] * 5, [z]

    def slope(state, seen):
        return gain * (np.tanh(seen) @ w.T) + bias - leak * state

    times = readout.trace_time_us
    end = int(np.ceil(times[-1] / 0.16 * per_sample)) + 2
    for _ in range(end):
        first = slope(z, past[0])
        z = z + dt * 0.5 * (first + slope(z + dt * first, past[1]))
        past = [*past[1:], z]
        states.append(z)
    fine = np.array(states)
    place = times / 0.16 * per_sample
    floor = np.floor(place).astype(int)
    share = (place - floor)[:, None, None]
    exact = np.clip((1 - share) * fine[floor] + share * fine[floor + 1], -3.8, 3.8)
    trace = readout.trace_counts * spec.adc.units_per_code
    assert np.abs(exact[0] - exact[-1]).max() > 1
    np.testing.assert_allclose(trace, exact, atol=first_step)  # the first step knows no slope yet
    late = times > 4 * spec.tau_us
    np.testing.assert_allclose(trace[late], exact[late], atol=4e-3)


def test_precision_is_the_profiles(twin):
    assert twin("ideal").bench.dtype == torch.float64
    assert twin("adm").bench.dtype == torch.float32


@pytest.mark.parametrize("name", ["adm", "ideal", "nature2025"])
class TestProfiles:
    """Profiles are dated data with a source for each number."""

    def test_they_load_and_build(self, name):
        assert name in profile_names()
        bench = OpticalBench(load_profile(name))
        for twin_class in (PanelTwin, EmitterTwin, ElectronicsTwin):
            assert twin_class("x", bench).spec is not None
        document = profile_document(name)
        assert document["name"] == name
        assert len(document["dated"]) == 10

    def test_published_and_conventional_numbers(self, name):
        """Conventions, sections 2 to 4."""
        spec = ElectronicsTwin("x", OpticalBench(load_profile(name))).spec
        assert (spec.n_channels, spec.window_samples, spec.sample_rate_mhz) == (48, 40, 6.25)
        assert spec.window_us == pytest.approx(6.4)
        assert spec.trip_us == 0.02
        assert (spec.dac.range_units, spec.volts_per_unit) == (3.8, 0.34)
        assert spec.dac.range_units * spec.volts_per_unit == pytest.approx(1.3, abs=0.01)
        timing = {"adm": (0.75, 8.5, 14.9), "ideal": (0.75, 8.5, 14.9), "nature2025": (0.2, 2.5, 8.9)}[name]
        assert (spec.tau_us, spec.wait_us) == timing[:2]
        assert spec.wait_us + spec.window_us == pytest.approx(timing[2])
        if name != "ideal":
            assert (spec.dac.bits, spec.leak_bits, spec.state_gain.bits) == (14, 8, 8)
            assert (spec.state_gain.low, spec.state_gain.high) == (5e-4, 1.0)
            assert (spec.hidden_gain.low, spec.hidden_gain.high) == (0.02, 20.0)
            noise = load_profile(name).noise
            assert noise.loop_units == pytest.approx(0.001 * 3.8)
            assert (noise.photocurrent_ua, noise.shot) == (1.0, True)
        else:
            assert load_profile(name).noise.quiet

    def test_the_panel_holds_both_paths_of_every_weight(self, name):
        profile = load_profile(name)
        height, width = profile.cell_px
        assert min(height, width) >= 10
        for top, left in profile.path_origin_px:
            assert 0 <= top <= profile.panel_shape_px[0] - 48 * height
            assert 0 <= left <= profile.panel_shape_px[1] - 48 * width
        (_, first), (_, second) = profile.path_origin_px
        assert abs(second - first) >= 48 * width  # the two fields do not overlap

    def test_wrong_values_are_refused_by_name(self, name):
        for overrides, message in (
            ({"tau_us": "slow"}, f"profile {name}: tau_us = 'slow': "),
            ({"colour": 3}, f"profile {name}: colour = 3: "),
            ({"rin_dbc_hz": "on"}, f"profile {name}: rin_dbc_hz"),
            ({"precision": "float16"}, f"profile {name}: precision = 'float16'"),
        ):
            with pytest.raises(ConfigError, match=message):
                load_profile(name, overrides)


def test_an_unknown_profile_names_the_known():
    with pytest.raises(
        ConfigError, match="profile 'fast' is not known; allowed: adm, dmd, ideal, nature2025"
    ):
        load_profile("fast")
