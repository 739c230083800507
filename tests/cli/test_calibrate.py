"""`labctl calibrate` and `labctl calibrations`, on the records of a brought-up unit."""

from __future__ import annotations

import pytest
from labctl_calibration.optical import OPTICAL
from labctl_calibration.optical.loop_procedures import SETTLING
from labctl_calibration.store import RecordStore

from labctl.devices import FlatField
from labctl.rig import open_rig

RIG = "optical-unit"
POSSIBLE = sum(FlatField not in one.roles for one in OPTICAL)  # the rig has no flat field
BROUGHT_UP = 11


@pytest.fixture
def records(tmp_path, unit_bringup):
    """A folder with all that the bring-up measured: what a program rests on."""
    store = RecordStore(tmp_path / "found")
    unit_bringup.found.keep(store)
    return store


def test_a_dry_run_says_what_is_due_and_for_how_long(labctl, records) -> None:
    before = sorted(path.name for path in records.folder.iterdir())
    ended = labctl("calibrate", RIG, "--records", "found", "--dry-run")
    assert ended.code == 0, ended.err
    due, alone = ended.out.split("left alone")
    assert "to be measured, in this order, about" in due
    assert "settling" in due
    assert "spots" in due
    assert "rows" in alone
    assert sorted(path.name for path in records.folder.iterdir()) == before


def test_one_procedure_is_measured_shown_and_kept(labctl, records, tmp_path) -> None:
    ended = labctl("calibrate", RIG, "--records", "found", "--only", "settling", "--operator", "Ada")
    assert ended.code == 0, ended.err
    assert "measuring settling" in ended.err
    for words in ("settle time, p95", "± ", "what the rig can do today", "weight error", "LSB", "first"):
        assert words in ended.out
    (page,) = (tmp_path / "found" / "reports").glob("*/index.html")
    text = page.read_text()
    assert "by Ada" in text
    assert "http" not in text.replace("http-equiv", "")
    assert (page.parent / "settling_the_slowest_sample.png").is_file()
    (stored,) = [one for one in records.all() if one.record.kind == SETTLING]
    assert stored.about.operator == "Ada"
    assert stored.about.rig == RIG
    assert stored.about.identity.serial == stored.record.device_serial
    again = labctl("calibrate", RIG, "--records", "found", "--only", "settling")
    assert "nothing was measured" in again.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "rowss"], "did you mean 'rows'?"),
        (["--override", "rows"], 'allowed: "NAME: REASON"'),
        (["--override", "lid: I look"], "no such procedure, software limit or interlock"),
    ],
)
def test_a_wrong_name_is_one_line(labctl, arguments, words) -> None:
    ended = labctl("calibrate", RIG, *arguments)
    assert ended.code == 2
    assert words in " ".join(ended.err.split())


def test_a_rig_without_a_bench_has_nothing_to_calibrate(labctl) -> None:
    ended = labctl("calibrate", "digital")
    assert ended.code == 2
    assert "has nothing to calibrate" in ended.err


def test_a_value_out_of_range_is_kept_and_ends_with_an_error(labctl, records, monkeypatch) -> None:
    monkeypatch.setattr("labctl_calibration.optical.loop_procedures.WORST_ANSWER", 1e-6)
    ended = labctl("calibrate", RIG, "--records", "found", "--only", "answers", "--again", "answers")
    assert ended.code == 3
    assert "known answers missed by is 0." in ended.err
    assert "allowed: 0.0001 or less" in ended.err
    assert "out of range" in ended.out
    assert len(records.all()) == 12
    run = ("run", "sample_moons", "--rig", RIG, "--records", "found", "--no-report")
    refused = labctl(*run)
    assert refused.code == 2
    for words in ("known answers missed by is 0.", '--override "records: REASON", or no compensation'):
        assert words in " ".join(refused.err.split())
    with open_rig(RIG, records="found", overrides=["records: I look at the loop alone"]) as rig:
        rig.require_trusted()
        assert rig.overrides == {"records": "I look at the loop alone"}
    with open_rig(RIG, records="found", compensated=False) as rig:
        rig.require_trusted()


def test_records_are_listed_explained_compared_and_taken_elsewhere(labctl, records, tmp_path) -> None:
    listed = labctl("calibrations", "--records", "found")
    assert listed.out.count("in use") == 11
    assert "panel (measured)" in labctl("calibrations", RIG, "--records", "found").out
    explained = labctl("calibrations", "explain", RIG, "--records", "found").out
    assert explained.count("never measured") == POSSIBLE - BROUGHT_UP
    assert explained.count("in order") == 11
    first, second = (one.name for one in records.all()[:2])
    ended = labctl("calibrations", "compare", first, second, "--records", "found")
    assert ended.code == 2
    assert "allowed: two of a kind" in ended.err
    same = labctl("calibrations", "compare", first, first, "--records", "found")
    assert "its values agree within their uncertainty" in same.out
    assert "11 records in all.zip" in labctl("calibrations", "export", "all.zip", "--records", "found").out
    refused = labctl("calibrations", "import", "all.zip", "optical-twin", "--records", "other")
    assert refused.code == 2
    assert "allowed: devices of this rig" in refused.err
    ended = labctl("calibrations", "import", "all.zip", RIG, "--records", "other")
    assert "11 new records in other" in ended.out
    assert "11 records stay; 0 things" in labctl("calibrations", "gc", "--records", "other").out
    assert "no calibration records in none" in labctl("calibrations", "--records", "none").out


@pytest.mark.slow
def test_a_whole_calibration_and_one_thing_again(labctl, tmp_path) -> None:
    """Everything once; then nothing; then the rows again, which changes nothing that rests on them."""
    ended = labctl("calibrate", RIG, "--records", "found")
    assert ended.code == 0, ended.err
    assert ended.out.count("measured\n") == POSSIBLE
    assert "nothing was measured" in labctl("calibrate", RIG, "--records", "found").out
    again = labctl("calibrate", RIG, "--records", "found", "--again", "rows")
    assert again.code == 0, again.err
    assert again.out.count("its values agree within their uncertainty") == 6
    assert len(RecordStore(tmp_path / "found").all()) == POSSIBLE + 1
    assert "runs are compensated" in labctl("check", RIG, "--records", "found").out
