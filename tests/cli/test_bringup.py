"""`labctl bringup`, and runs that find its records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from labctl_calibration.store import RecordStore
from labctl_recipes import __file__ as recipes
from labctl_sim_devices import PanelTwin

from labctl.rig import open_rig


def test_a_rig_is_measured_and_runs_work_by_it_from_then_on(labctl, tmp_path) -> None:
    ended = labctl("bringup", "optical-twin", "--records", "found")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("optical-twin")
    for words in (
        "no dead input channel",
        "256 known answers: missed by",
        "% of full scale",
        "found",
        "camera: 96 spots every",
    ):
        assert words in ended.out
    assert "labctl run sample_moons --rig optical-twin --records found" in ended.out
    assert "measuring registration" in ended.err
    with open_rig("optical-twin", records=tmp_path / "found") as rig:
        assert rig.bench is not None
        camera = rig.identities["camera"].serial
        assert RecordStore(tmp_path / "found").newest("spots (measured)", camera) is not None
        store = RecordStore(tmp_path / "found")
        assert [store.get(name).id for name in rig.bench.record_ids] == list(rig.bench.record_ids)


def test_a_rig_without_a_bench_has_nothing_to_measure(labctl, tmp_path) -> None:
    ended = labctl("bringup", "digital", "--records", "found")
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("error: ")
    assert "WeightModulator" in ended.err
    assert not (tmp_path / "found").exists()


def rig_file(folder, overrides):
    """The drawn unit with other values in its profile."""
    text = (Path(recipes).parent / "rigs" / "optical-unit.toml").read_text("utf-8")
    (folder / "bench.toml").write_text(text.replace("unit_seed = 1", f"unit_seed = 1\n{overrides}"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (f"overrides.truth = {{input_efficiency = {[[0.0] * 48] * 2}}}", "no light"),
        (f"overrides.truth = {{input_efficiency = {[[0.01] * 48] * 2}}}", "not enough light"),
    ],
)  # fmt: skip
def test_a_bench_in_the_dark_is_one_error(labctl, tmp_path, overrides, words) -> None:
    rig_file(tmp_path, overrides)
    ended = labctl("bringup", "bench.toml", "--records", "found")
    assert ended.code == 3, ended.err
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert words in line
    assert "allowed" in line
    assert not (tmp_path / "found").exists()


def test_a_blank_panel_is_one_error(labctl, monkeypatch) -> None:
    show = PanelTwin._do_show
    monkeypatch.setattr(PanelTwin, "_do_show", lambda self, levels, wait: show(self, 0 * levels, wait))
    ended = labctl("bringup", "optical-unit", "--records", "found")
    assert ended.code == 3
    assert "panel blank: light arrives, and 0 of 48 outputs change" in ended.err
    assert ended.err.count("error: ") == 1


@pytest.mark.slow  # measures a panel; the ramp itself: tests/calibration/test_gain_ramp.py
def test_a_loop_that_oscillates_is_one_error_and_nothing_is_damaged(labctl, monkeypatch, tmp_path) -> None:
    """The autouse check for damage looks at the twin; the gain is off before the error."""
    monkeypatch.setattr("labctl_calibration.gain_ramp.FIRST", 3.5)
    ended = labctl("bringup", "optical-twin", "--records", "found")
    assert ended.code == 3
    assert "oscillates at" in ended.err
    assert "the gain was turned off at once and the rows are at rest; allowed" in ended.err
    assert not (tmp_path / "found").exists()


@pytest.mark.slow  # brings a whole bench up
def test_a_camera_that_is_saturated_is_one_finding_and_the_rest_is_kept(labctl, tmp_path) -> None:
    rig_file(tmp_path, "overrides.camera_light_percent = 60.0")
    ended = labctl("bringup", "bench.toml", "--records", "found")
    assert ended.code == 0, ended.err
    assert ended.out.count("the camera's spots are not registered: camera: saturated: ") == 1
    kinds = {json.loads(path.read_text())["kind"] for path in (tmp_path / "found").glob("*.json")}
    assert {"panel (measured)", "rows (measured)", "noise budget", "gain margin"} < kinds
    assert "spots (measured)" not in kinds


def test_a_folder_that_is_a_file_is_named(labctl, tmp_path, unit_bringup, monkeypatch) -> None:
    monkeypatch.setattr("labctl.cli.bringing_up.bring_up", lambda *_, **__: unit_bringup.found)
    (tmp_path / "found").write_text("")
    ended = labctl("bringup", "optical-unit", "--records", "found")
    assert ended.code != 0
    assert "found: cannot be written" in ended.err


def test_a_changed_record_is_one_line(labctl, tmp_path, unit_bringup, quick) -> None:
    store = RecordStore(tmp_path / "found")
    name = store.put(unit_bringup.found.panel)
    path = next(store.folder.glob("*.npz"))
    path.write_bytes(path.read_bytes()[:-1])
    ended = labctl("run", "sample_moons", "--rig", "optical-unit", "--records", "found", *quick)
    assert ended.code == 2
    assert name[:16] in ended.err
    assert "sha256 differs" in ended.err


def kept(unit_bringup, folder):
    unit_bringup.found.keep(RecordStore(folder))


def test_check_says_whether_a_rig_was_brought_up(labctl, tmp_path, unit_bringup) -> None:
    ended = labctl("check", "optical-twin")
    assert "· optical-twin" in ended.out
    assert "not brought up: no records of it in calibrations; runs work by its design" in ended.out
    kept(unit_bringup, tmp_path / "calibrations")
    ended = labctl("check", "optical-unit")
    assert f"brought up {unit_bringup.found.rows.taken_at[:10]}" in ended.out
    assert "runs are compensated" in ended.out
    # records of one machine say nothing of another
    assert "not brought up" in labctl("check", "optical-twin").out


def test_validate_says_whether_a_run_would_be_compensated(labctl, tmp_path, unit_bringup) -> None:
    plan = ("validate", "sample_moons", "--rig", "optical-unit")
    assert "not brought up: no records of it in calibrations" in labctl(*plan).out
    kept(unit_bringup, tmp_path / "calibrations")
    assert "optical-unit was brought up" in labctl(*plan).out
    assert "runs are compensated" in labctl(*plan).out
    assert "not used: runs work by the design" in labctl(*plan, "--no-compensation").out
    refused = labctl(*plan, "--set", "stepping=chain")
    assert refused.code == 2
    assert "stepping is 'chain', and rig optical-unit is compensated" in refused.err
    assert labctl(*plan, "--set", "stepping=chain", "--no-compensation").code == 0


def test_records_that_do_not_belong_together_are_said(labctl, tmp_path, unit_bringup) -> None:
    store = RecordStore(tmp_path / "calibrations")
    store.put(unit_bringup.found.panel)
    store.put(unit_bringup.found.rows_resting_on("another"))
    ended = labctl("validate", "sample_moons", "--rig", "optical-unit")
    assert "do not belong together" in ended.out
    assert "brought up again" in ended.out


@pytest.mark.slow
def test_from_an_unknown_bench_to_samples(labctl) -> None:
    """Bring-up, a compensated run, one more that finds it, and the same run without."""
    assert labctl("bringup", "optical-unit", "--records", "found").code == 0
    command = (
        "run", "sample_moons", "--rig", "optical-unit", "--records", "found", "--set", "samples=2000",
        "--no-report", "--json",
    )  # fmt: skip
    first, again, without = labctl(*command), labctl(*command), labctl(*command, "--no-compensation")
    assert "re-fit to the bench" in first.err
    assert "re-fit to the bench" not in again.err
    assert "adapting" not in again.err

    def distance(ended) -> float:
        assert ended.code == 0, ended.err
        (panel,) = ended.document["panels"]
        return panel["metrics"]["energy_distance"]

    assert 10 * max(distance(first), distance(again)) < distance(without)
