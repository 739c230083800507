"""Runs on a bench that was brought up: adapted once, found again, refused where nobody knows how."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from labctl_calibration import compensation
from labctl_calibration.store import RecordStore

from labctl import load_protocol, open_rig, run
from labctl.devices import CalibrationMissing, ConfigError
from labctl.models.checkpoint import load_network
from labctl.procedures import Watcher
from labctl.procedures.replaying import replay
from labctl.runlog import RunReader

SMALL = {"samples": 12, "audit": 0, "reference": 50}
FEW = 10  # iterations of each training: that there is one, not what it reaches


class Trainings(Watcher):
    """What was trained."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def training(self, what: str, done: int, total: int) -> None:
        self.seen.append(what)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for name in ("FREE", "CODING", "TRIAL", "REFIT"):
        stage = getattr(compensation, name)
        monkeypatch.setattr(compensation, name, replace(stage, iterations=FEW))


@pytest.fixture
def records(unit_bringup, tmp_path):
    """The records of rig optical-unit in a folder of this test's own."""
    store = RecordStore(tmp_path / "records")
    panel = store.put(unit_bringup.found.panel)
    store.put(unit_bringup.found.rows_resting_on(panel))
    return store.folder


def made(records, out, watcher=None, recipe="sample_moons", **settings):
    with open_rig("optical-unit", records=records) as opened:
        return run(load_protocol(recipe, {**SMALL, **settings}), opened, out=out, watcher=watcher)


def test_a_network_is_adapted_once_then_found_and_its_runs_are_replayed(records, unit_bringup, tmp_path):
    told = Trainings()
    first = made(records, tmp_path / "runs", told)
    assert set(told.seen) == {stage.what for stage in compensation.STAGES}
    (kept,) = records.glob("compensated-*.safetensors")
    before = kept.read_bytes()
    adapted, original = load_network(kept), load_network("moons-4bit")
    assert (adapted.sizes, adapted.bits) == (original.sizes, original.bits)
    assert not torch.equal(adapted.w3, original.w3)
    told = Trainings()
    made(records, tmp_path / "runs", told)
    assert told.seen == []
    assert kept.read_bytes() == before
    with RunReader(first.file) as file:
        assert file.header.numerics["records"] == " ".join(unit_bringup.ids)
        words = file.panel().forecast["words"]
    assert words.startswith("no forecast: rig optical-unit: the agreement of its fitted twin is not known")
    assert replay(first.file, out=tmp_path / "again", records=records).equal
    with pytest.raises(CalibrationMissing, match="has no calibration record"):
        replay(first.file, out=tmp_path / "again", records=tmp_path / "elsewhere")


@pytest.mark.slow
def test_a_run_is_replayed_by_the_records_it_names_whatever_was_measured_since(
    records, unit_bringup, tmp_path
):
    first = made(records, tmp_path / "runs")
    newer = RecordStore(records).put(replace(unit_bringup.found.panel, taken_at="2999-01-01T00:00:00+00:00"))
    assert newer not in unit_bringup.ids
    for network in records.glob("compensated-*"):
        network.unlink()  # adapted anew, and to the same bits
    assert replay(first.file, out=tmp_path / "again", records=records).equal


@pytest.mark.slow
def test_another_network_is_another_compensation(records, tmp_path):
    made(records, tmp_path / "runs")
    told = Trainings()
    made(records, tmp_path / "runs", told, "sample_checkerboard")
    assert "re-fit to the bench" in told.seen
    assert len(list(records.glob("compensated-*.safetensors"))) == 2


def test_a_bench_without_records_runs_as_it_is(tmp_path):
    told = Trainings()
    empty = tmp_path / "none"
    result = made(empty, tmp_path / "runs", told)
    assert told.seen == []
    assert not empty.exists()
    with RunReader(result.file) as file:
        assert "records" not in file.header.numerics


def test_records_of_another_machine_are_not_used(records):
    """Though both are twins of seed 1."""
    with open_rig("optical-twin", records=records) as rig:
        assert rig.bench is None
        assert rig.engine.trims is None


def test_rows_that_rest_on_another_panel_record_are_not_used(records, unit_bringup):
    with open_rig("optical-unit", records=records) as rig:
        assert rig.bench is not None
        assert rig.bench.record_ids == unit_bringup.ids
        assert rig.engine.trims is not None
    panel = unit_bringup.found.panel
    agreeing = RecordStore(records).put(replace(panel, taken_at="2998-01-01T00:00:00+00:00"))
    with open_rig("optical-unit", records=records) as rig:
        assert rig.bench.record_ids == (agreeing, unit_bringup.ids[1])
    brighter = {**panel.arrays, "span_units": 1.1 * panel.arrays["span_units"]}
    RecordStore(records).put(replace(panel, taken_at="2999-01-01T00:00:00+00:00", arrays=brighter))
    with open_rig("optical-unit", records=records) as rig:
        assert rig.bench is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stepping": "chain"}, "stepping is 'chain', and rig optical-unit is compensated; allowed: 'host'"),
        ({"readout": "camera"}, "readout is 'camera', and rig optical-unit is compensated; allowed: 'adc'"),
        (
            {"noise_credit": True, "steps": 8},
            "noise_credit is True, and rig optical-unit is compensated; allowed: False",
        ),
        ({"bits": "float"}, "bits is 'float'; compensation adapts coded networks; allowed: 1 to 9"),
    ],
)
def test_what_compensation_does_not_know_is_refused(records, tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        made(records, tmp_path / "runs", **settings)
    assert not list((tmp_path / "runs").glob("*.nxs"))


def test_machines_in_sequence_are_refused(records, tmp_path):
    protocol = load_protocol("sample_fashion_latent", {"model": "fashion_x4", "samples": 12, "reference": 50})
    with (
        open_rig("optical-unit", records=records) as rig,
        pytest.raises(ConfigError, match="4 machines in sequence, and rig optical-unit is compensated"),
    ):
        run(protocol, rig, out=tmp_path / "runs")
