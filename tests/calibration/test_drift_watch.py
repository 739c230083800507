"""Probes for drift on twins: what each fault moves, what a watch says, and that still benches are quiet."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from labctl_calibration.drift.board import BoardProber
from labctl_calibration.drift.charts import Alarm
from labctl_calibration.drift.keeping import baseline_of, keep_baseline
from labctl_calibration.drift.look import learn
from labctl_calibration.drift.morning import told_cold
from labctl_calibration.drift.optical import LIGHT, REST, OpticalProber
from labctl_calibration.drift.watch import LEARN, Pace, Watch, by_group
from labctl_calibration.open_loop import calibrate_open_loop
from labctl_calibration.optical.dense import dense_fractions
from labctl_calibration.oscillators.frequency import KIND as FREQUENCIES
from labctl_calibration.procedure import Quantity
from labctl_calibration.staleness import Standing
from labctl_calibration.store import About, RecordStore
from labctl_sim_devices import (
    ElectronicsTwin,
    OpticalBench,
    OscillatorBench,
    OscillatorBoardTwin,
    PanelTwin,
    load_oscillator_profile,
    load_profile,
)

from labctl.devices import CalibrationRecord, ConfigError

STILL = {"drift": 0.0, "warm_up": 0.0}
SECOND_US = 1e6


def watched_bench(seed=1):
    """A drawn bench that neither warms up nor wanders, a dense frame on display; a watch that learnt it."""
    bench = OpticalBench(load_profile("unit"), seed=seed, unit_seed=seed)
    bench.set_terms(STILL)
    panel, electronics = PanelTwin("panel", bench), ElectronicsTwin("electronics", bench)
    panel.open()
    electronics.open()
    n, (height, width) = bench.profile.n_channels, bench.profile.cell_px
    levels = np.zeros(bench.profile.panel_shape_px, np.uint16)
    for path, sign in enumerate((1, -1)):
        top, left = bench.profile.path_origin_px[path]
        on = np.maximum(sign * dense_fractions(n), 0.0) * (bench.profile.panel_levels - 1)
        cells = np.kron(np.rint(on).astype(np.uint16), np.ones((height, width), np.uint16))
        levels[top : top + n * height, left : left + n * width] = cells
    panel.show(levels)
    null = calibrate_open_loop(electronics).array("null_codes")
    watch = Watch(OpticalProber(electronics, lambda: null), Pace(every_s=1.0))
    looks = []
    for _ in range(LEARN):
        looks.append(watch.prober.look())
        bench.advance(SECOND_US)
    watch.use(learn(watch.prober, looks))
    return SimpleNamespace(bench=bench, watch=watch, looks=looks, electronics=electronics)


@pytest.fixture(scope="module")
def learnt():
    return watched_bench()


def seen(found, looks):
    """What the watch says in so many looks, a second apart, as {kind: look}."""
    told = {}
    for look in range(1, looks + 1):
        found.bench.advance(SECOND_US)
        for one in found.watch.look(found.bench.now_us * 1e-6):
            told.setdefault(one.group.kind, look)
    return told


@pytest.fixture
def fresh(learnt):
    """The bench as it was learnt, its charts begun anew."""
    alive, drawn = learnt.bench.damage.alive.copy(), learnt.bench.drawn
    learnt.watch.charts = learnt.watch.charts.afresh()
    yield learnt
    learnt.bench.damage.alive[:] = alive
    learnt.bench.drawn = drawn
    learnt.bench.set_terms({})


def test_a_bench_that_does_not_drift_is_quiet(fresh):
    assert seen(fresh, 12) == {}
    assert fresh.watch.worst < 0.9


def test_one_percent_of_light_is_found_in_three_looks_and_named_alone(fresh):
    fresh.bench.damage.alive[:] *= 0.99
    assert seen(fresh, 3) == pytest.approx({"emitters": 2}, abs=1)


def test_one_percent_steps_are_found_in_three_looks_whatever_the_noise(fresh):
    """Of all light, over the scatter that was learnt: readings drawn, so that there are many."""
    baseline, charts = fresh.watch.learnt.baseline, fresh.watch.charts
    at = baseline.names.index("light of all emitters")
    rng = np.random.Generator(np.random.Philox(key=3))
    late = 0
    for _ in range(200):
        now, found = charts.afresh(), False
        for _ in range(3):
            reading = baseline.mean + fresh.watch.learnt.baseline.sd * rng.standard_normal(len(baseline.mean))
            reading[at] -= 0.01
            now, alarms = now.after(reading)
            found = found or any(alarm.index == at for alarm in alarms)
        late += not found
    assert late <= 2


def test_rows_that_rest_elsewhere_put_their_record_in_doubt(fresh):
    moved = fresh.bench.drawn.loop_offset.copy()
    moved[7] += 0.05
    fresh.bench.drawn = replace(fresh.bench.drawn, loop_offset=moved)
    fresh.bench.set_terms({})
    told = seen(fresh, 2)
    assert set(told) == {"rows (measured)"}


def test_an_emitter_that_fades_alone_changes_the_shape(fresh):
    fresh.bench.damage.alive[20] *= 0.9
    assert "registration" in seen(fresh, 2)


def test_a_lens_cap_is_told_at_once(fresh):
    fresh.bench.damage.alive[:] = 1e-9
    assert seen(fresh, 1)["emitters"] == 1


def test_what_another_change_explains_is_left_to_it():
    alarms = (Alarm(1, "rest of row 3", "ewma", 3.0, 0.1, 0.0), Alarm(0, "light", "ewma", 2.0, 0.9, 1.0))
    (found,) = by_group(alarms, (LIGHT, REST))
    assert found.group is LIGHT
    assert "-10%" in found.words
    (alone,) = by_group(alarms[:1], (LIGHT, REST))
    assert alone.group is REST
    assert "+0.1 units" in alone.words


def test_what_was_learnt_is_kept_and_found_again(learnt, tmp_path):
    store, watch = RecordStore(tmp_path / "records"), learnt.watch
    kept = keep_baseline(store, "drift baseline x", learnt.electronics, learnt.looks, watch.prober, rig="r")
    back = baseline_of(store.get(kept.id), watch.prober)
    np.testing.assert_array_equal(back.baseline.mean, watch.learnt.baseline.mean)
    np.testing.assert_array_equal(back.baseline.sd, watch.learnt.baseline.sd)
    assert back.baseline.names == watch.learnt.baseline.names
    other = SimpleNamespace(title="something else")
    assert baseline_of(kept, other) is None


def test_looks_keep_within_their_share_of_the_time(learnt):
    watch = Watch(learnt.watch.prober, Pace(every_s=0.0), learnt.watch.learnt, charts=learnt.watch.charts)
    look_us = watch.prober.device_us
    assert not watch.due(0.0, 49 * look_us)
    assert watch.due(0.0, 51 * look_us)
    slow = Watch(learnt.watch.prober, Pace(every_s=10.0), learnt.watch.learnt, charts=learnt.watch.charts)
    slow.look(100.0)
    assert not slow.due(109.0, 1e9)
    assert slow.due(110.0, 1e9)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"every_s": -1.0}, r"every_s is -1\.0; allowed: 0 or more"),
        ({"duty": 0.1}, r"duty is 0\.1; allowed: above 0, up to 0\.02"),
        ({"alarms_per_day": 5.0}, r"alarms_per_day is 5\.0; allowed: above 0, up to 1"),
    ],
)
def test_a_pace_out_of_range_is_refused(setting, words):
    with pytest.raises(ConfigError, match=words):
        Pace(**setting)


def test_a_watch_without_a_baseline_says_so(learnt):
    with pytest.raises(ConfigError, match="the watch has no baseline"):
        Watch(learnt.watch.prober).look(0.0)


def test_a_board_whose_frequencies_move_is_found_and_named_alone():
    bench = OscillatorBench(load_oscillator_profile("unit50"), seed=1, unit_seed=1)
    bench.set_terms({"temperature": 0.0})
    board = OscillatorBoardTwin("board", bench)
    board.open()
    watch = Watch(BoardProber(board, plain=True), Pace(every_s=1.0))
    watch.learn()
    for _ in range(5):
        assert watch.look(0.0) == ()
    bench.drawn = replace(bench.drawn, detuning=bench.drawn.detuning + 0.01)
    bench.set_terms({})
    kinds = {one.group.kind for _ in range(3) for one in watch.look(0.0)}
    assert kinds == {FREQUENCIES}


@pytest.mark.parametrize(("above_c", "cold"), [(0.5, False), (4.4, True)])
def test_a_bench_colder_than_its_warm_up_is_told(tmp_path, above_c, cold):
    electronics = ElectronicsTwin("electronics", OpticalBench(load_profile("unit"), seed=1, unit_seed=1))
    identity, now_c = electronics.open(), electronics.temperature_c()
    store = RecordStore(tmp_path)
    about = About(
        rig="r", identity=identity, quantities=(Quantity("temperature", now_c + above_c, np.nan, "C"),)
    )
    stored = store.get(store.put(CalibrationRecord("warm-up", identity.serial, "2026-01-01", {}), about))
    told = told_cold([Standing("warm-up", identity.serial, stored)], electronics)
    assert bool(told) is cold
    assert told_cold([Standing("warm-up", identity.serial, None)], electronics) == ""
    if cold:
        assert f"at {now_c:.1f} °C" in told
        assert f"at {now_c + above_c:.1f} °C" in told
