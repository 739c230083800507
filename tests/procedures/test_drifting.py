"""A watch on drift in a run: what is looked at, noted, done; and runs that nobody watches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from labctl_calibration.oscillators.frequency import KIND as FREQUENCIES
from labctl_calibration.store import RecordStore

from labctl import load_protocol, run
from labctl.devices import CalibrationRecord, ConfigError, DriftStop, LoopElectronics, OscillatorBoard
from labctl.procedures import Watcher
from labctl.rig import Rig, load_rig
from labctl.rig.config import WatchConfig, watched
from labctl.runlog import RunReader, list_runs

ENOUGH = {"samples": 3000, "steps": 2, "audit": 0, "reference": 50}
EMITTERS = "emitters"


class Fading(Watcher):
    """Takes a tenth of all light after the second settle of the first run."""

    def __init__(self, rig) -> None:
        self.rig, self.events = rig, []

    def settled(self, report) -> None:
        if report.index == 1 and self.rig is not None:
            self.rig.world.damage.alive[:] *= 0.9

    def drifted(self, event) -> None:
        self.events.append(event)


def rig_with(policy, store=None, name="optical-unit"):
    config = load_rig(name).model_copy(update={"watch": WatchConfig(on_drift=policy, every_s=0.0)})
    return Rig(config, store).open()


@pytest.fixture
def protocol():
    return load_protocol("sample_moons", ENOUGH)


@pytest.mark.slow  # two long runs
def test_an_event_is_in_the_file_and_its_record_is_stale(protocol, tmp_path):
    store = RecordStore(tmp_path / "records")
    with rig_with("warn", store) as rig:
        serial = rig.device(LoopElectronics).open().serial
        store.put(CalibrationRecord(EMITTERS, serial, "2026-01-01T00:00:00+00:00", {"x": np.zeros(1)}))
        watcher = Fading(rig)
        made = run(protocol, rig, out=tmp_path / "runs", watcher=watcher)
    with RunReader(made.file) as done:
        events, looks, metrics = done.drift_events, done.watch_looks, done.metrics
    assert [event.kind for event in events].count(EMITTERS) == 1
    assert watcher.events == list(events)
    light = next(event for event in events if event.kind == EMITTERS)
    assert light.change == pytest.approx(-0.1, abs=0.01)
    assert (light.policy, light.done, light.step) == ("warn", "noted", 2)
    assert looks[0].learning
    assert 1 <= sum(not look.learning for look in looks) == metrics["watch_looks"]
    assert 0 < metrics["watch_duty"] <= 0.02
    assert metrics["watch_device_us"] == pytest.approx(801.6 * metrics["watch_looks"])
    (noted,) = [one for one in store.drift_events() if one.kind == EMITTERS]
    assert "light of all emitters by -10%" in noted.words
    with rig_with("warn", store) as rig:  # knows what the frame was like, and that light has come back
        again = run(protocol, rig, out=tmp_path / "runs", watcher=Fading(None))
    with RunReader(again.file) as done:
        assert not any(look.learning for look in done.watch_looks)
        assert done.drift_events == ()


def test_stopping_leaves_the_rig_safe_and_the_file_whole(protocol, tmp_path):
    rig = rig_with("stop")
    with pytest.raises(DriftStop, match="optical-unit drifted: the light of all emitters changed"):
        run(protocol, rig, out=tmp_path / "runs", watcher=Fading(rig))
    assert rig.devices == {}
    (one,) = list_runs(tmp_path / "runs")
    with RunReader(one.path) as done:
        assert done.status == "aborted"
        assert "optical-unit drifted: the light of all emitters changed" in done.exit_reason
        assert done.drift_events[0].done == "stopped, the rig left safe"


def test_a_run_too_short_for_a_look_says_so(tmp_path):
    with rig_with("warn", name="optical-twin") as rig:
        made = run(load_protocol("sample_moons", {**ENOUGH, "samples": 12}), rig, out=tmp_path)
    assert made.metrics["watch_looks"] == 0
    assert "of which a look of 0.802 ms is more than 2%" in made.metrics["watch_left_out"]


def test_who_asks_for_no_watch_gets_none(tmp_path):
    config = load_rig("optical-twin")
    assert config.watch is None
    assert '"watch"' not in config.as_json()
    assert "started_h" not in config.as_json()
    assert watched(config, None) is config
    assert watched(config, "stop").watch == WatchConfig(on_drift="stop")
    with Rig(config) as rig:
        made = run(load_protocol("sample_moons", {**ENOUGH, "samples": 12}), rig, out=tmp_path)
    assert "watch_looks" not in made.metrics


def test_what_cannot_be_watched_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--on-drift is 'panic'; allowed: warn, refit-biases"):
        watched(load_rig("digital"), "panic")
    rig = rig_with("warn", name="digital")
    with pytest.raises(ConfigError, match="rig digital is watched for drift"):
        run(load_protocol("sample_moons", ENOUGH), rig, out=tmp_path)


@pytest.mark.slow
def test_biases_are_fitted_again_and_charts_begin_anew(protocol, tmp_path):
    with rig_with("refit-biases") as rig:
        made = run(protocol, rig, out=tmp_path, watcher=Fading(rig))
    with RunReader(made.file) as done:
        assert done.drift_events[0].done == "offsets nulled and weights measured anew"
        assert sum(look.learning for look in done.watch_looks) == 2


@pytest.mark.slow
def test_the_one_record_in_doubt_is_measured_again(tmp_path, unit_bringup):
    """On a brought-up unit: the run goes on by its own tables, the store has a newer record."""
    store = RecordStore(tmp_path / "records")
    unit_bringup.found.keep(store)
    protocol = load_protocol("sample_moons", {**ENOUGH, "bits": "float"})
    config = load_rig("optical-unit").model_copy(
        update={"watch": WatchConfig(on_drift="recalibrate", every_s=0.0)}
    )
    rig = Rig(config, store, compensated=False).open()
    before = store.newest(EMITTERS, rig.device(LoopElectronics).open().serial)
    with rig:
        made = run(protocol, rig, out=tmp_path, watcher=Fading(rig))
        after = store.newest(EMITTERS, rig.device(LoopElectronics).open().serial)
    assert after.id != before.id
    with RunReader(made.file) as done:
        assert "emitters measured, accepted" in done.drift_events[0].done


@pytest.mark.slow
def test_a_boards_trims_follow_its_frequencies(chain_file, tmp_path):
    """A look takes 2 ms there: the run is as long as it has to be for that."""

    class Moving(Watcher):
        trims = np.zeros(0)

        def settled(self, report) -> None:
            if report.index == 1:
                bench = rig.world
                bench.drawn = replace(bench.drawn, detuning=bench.drawn.detuning + 0.02)
                bench.set_terms({})

        def drifted(self, event) -> None:
            self.trims = rig.device(OscillatorBoard).loaded().detuning

    protocol = load_protocol("diffuse_digits_oscillators", {"model": str(chain_file), "samples": 40_000})
    with rig_with("refit-biases", name="oscillator-twin") as rig:
        watcher, unit = Moving(), rig.device(OscillatorBoard).spec.detuning.units_per_code
        made = run(protocol, rig, out=tmp_path, watcher=watcher)
    with RunReader(made.file) as done:
        first = done.drift_events[0]
    assert first.kind == FREQUENCIES
    assert first.done.startswith("trims moved by 0.02")
    assert watcher.trims.mean() * unit == pytest.approx(-0.02, abs=0.002)
