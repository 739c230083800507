"""Absolute-maximum ratings: what goes beyond them is recorded, and breaks."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_sim_devices import DmdTwin, OpticalBench, PanelTwin, load_profile

from labctl.devices import ConfigError, DeviceValueError, SettleCodes

N = 48


def codes(twin, units):
    spec = twin.drive.spec
    return np.rint(np.asarray(units) * twin.bench.profile.emitter_ma_per_unit / spec.ma_per_code).astype(int)


def test_within_the_limits_nothing_breaks(twin, no_damage):
    bench = twin("adm")
    limits = bench.drive.spec
    most = min(limits.max_channel_ma, limits.max_total_ma / N) / limits.ma_per_code
    bench.drive.drive(np.full((2, N), int(most)))
    bench.drive.drive(np.eye(N, dtype=int) * (limits.n_codes - 1))
    with pytest.raises(DeviceValueError, match="total current"):
        bench.drive.drive(np.full((1, N), limits.n_codes - 1))  # refused before it reaches the emitters
    assert not no_damage
    assert not bench.bench.damage.events
    assert bench.bench.plain_light


@pytest.mark.damages
def test_an_emitter_beyond_its_rating_dies(twin, no_damage):
    bench = twin("adm", noise_scale=0.0, emitter_max_channel_ma=60.0)
    bench.show_fractions(np.eye(N))
    pattern = np.zeros((1, N))
    pattern[0, 7] = 10.0  # 40 mA, rated 30
    before = bench.bench.now_us
    bench.drive.drive(codes(bench, pattern))
    (event,) = bench.bench.damage.events
    assert (event.part, event.device, event.time_us) == ("emitter 7", "emitters", before)
    assert event.value == pytest.approx(40.0, rel=1e-3)
    assert event.limit == 30.0
    assert str(event).startswith("emitters at 20000.0 us: current (mA) of emitter 7 was 40")
    assert no_damage == [event]
    matrix = bench.bench.truth().matrix()
    assert (matrix[:, 7] == 0).all()
    assert matrix[8, 8] > 0.9
    lit = bench.electronics.probe(
        np.eye(N, dtype=int) * bench.electronics.spec.probe_dac.max_code, at="emitter"
    )
    seen = np.diag(lit.counts) * bench.electronics.spec.offset_dac.units_per_code
    assert abs(seen[7]) < 1e-3
    np.testing.assert_allclose(np.delete(seen, 7), 1.0, atol=1e-3)


@pytest.mark.damages
def test_the_supply_and_the_panel_have_ratings_too(twin):
    bench = twin("adm", emitter_max_total_ma=2000.0, panel_rated_w_cm2=0.2)
    bench.show_fractions(np.eye(N))
    full = bench.bench.truth().transmittance[0, 0, 0]
    bench.drive.drive(codes(bench, np.full((1, N), 4.9)))
    quantities = [event.quantity for event in bench.bench.damage.events]
    assert quantities == ["total current (mA)", "irradiance (W/cm2)"]
    assert bench.bench.damage.events[1].value == pytest.approx(N * 4.9e-3 / 0.85, rel=1e-3)
    assert bench.bench.truth().transmittance[1].max() <= 1e-9
    assert bench.bench.truth().transmittance[0].max() == pytest.approx(0.8 * full, abs=1e-6)
    assert bench.bench.damage.alive.sum() == N - 1


@pytest.mark.damages
def test_closed_loops_strain_the_emitters_as_well(twin):
    bench = twin("adm", emitter_rated_channel_ma=8.0)
    spec = bench.electronics.spec
    zero = np.zeros((1, N), np.int64)
    bench.electronics.settle(
        SettleCodes(zero, zero, zero + spec.max_leak_code, zero[0], zero, 0, np.zeros(1, int))
    )
    assert len(bench.bench.damage.events) == N  # pedestal and full signal: 8.4 mA


def test_a_modulator_stands_on_its_own_kind_of_bench(twin):
    with pytest.raises(ConfigError, match="panel_kind is 'lcos-intensity'; allowed: 'dmd'"):
        DmdTwin("mirrors", twin("adm").bench)
    with pytest.raises(ConfigError, match="panel_kind is 'dmd'; allowed: 'lcos-intensity'"):
        PanelTwin("panel", OpticalBench(load_profile("dmd")))
    with pytest.raises(ConfigError, match="panel_levels is 8; a mirror has 2"):
        DmdTwin("mirrors", OpticalBench(load_profile("dmd", {"panel_levels": 8})))
