"""`labctl morning`: green, then what is wrong and what to do about it."""

from __future__ import annotations

import json

import pytest
from labctl_calibration.drift.morning import BASELINE, MORNING
from labctl_calibration.store import RecordStore

BOARD = """
name = "bench"
about = "a board that is still cold"
law = "oscillator"
engine = "oscillator"

[world]
kind = "oscillator-bench"
profile = "unit50"
unit_seed = 1
started_h = {hours}

[[device]]
name = "board"
driver = "twin.oscillator-board"
"""


def test_a_board_is_green_until_it_has_moved(labctl, tmp_path):
    rig = tmp_path / "bench.toml"
    rig.write_text(BOARD.format(hours=0))
    first = labctl("morning", rig, "--records", "found", "--operator", "Ada")
    assert first.code == 0, first.err
    assert "learnt what is usual" in first.out
    second = labctl("morning", rig, "--records", "found")
    assert second.code == 0
    assert "reading 2 since" in second.out
    assert "bench  green" in second.out
    rig.write_text(BOARD.format(hours=2))  # warm
    third = labctl("morning", rig, "--records", "found")
    assert third.code == 3
    assert "bench  not green" in third.out
    assert "free frequencies against the reference changed" in " ".join(third.out.split())
    assert "labctl calibrate bench --only frequencies" in third.out
    assert "not green" in third.err
    store = RecordStore(tmp_path / "found")
    kinds = [one.record.kind for one in store.all()]
    assert (kinds.count(BASELINE), kinds.count(MORNING)) == (1, 3)
    newest = [one for one in store.all() if one.record.kind == MORNING][-1]
    assert newest.record.array("readings").shape[0] == 3
    assert any("frequencies" in words for words in newest.about.findings)
    pages = sorted((tmp_path / "found" / "reports").glob("bench_morning_*/index.html"))
    text = pages[-1].read_text()
    assert "not green" in text
    assert "labctl calibrate bench --only frequencies" in text
    assert "http" not in text.replace("http-equiv", "")
    assert (pages[-1].parent / "frequency.png").is_file()
    again = labctl("morning", rig, "--records", "found", "--learn")
    assert again.code == 0
    assert "learnt what is usual" in again.out


def test_a_rig_without_a_bench_is_refused(labctl):
    ended = labctl("morning", "digital")
    assert ended.code == 2


@pytest.mark.slow
def test_an_optical_bench_learns_and_is_green_within_a_minute(labctl):
    first = labctl("morning", "optical-unit", "--records", "found")
    assert first.code == 0, first.err
    assert float(first.out.split(" s of device time")[0].split()[-1]) <= 60.0
    for probe in ("dark level", "light", "golden vector", "rest", "time constant", "golden sample"):
        assert f"✓  {probe}" in first.out
    assert labctl("morning", "optical-unit", "--records", "found").code == 0


OPTICAL = """
name = "bench"
about = "an optical bench with a part that breaks and is mended"
engine = "optical-loop"

[world]
kind = "optical-bench"
profile = "adm"
seed = 6
{fault}

[[device]]
name = "panel"
driver = "twin.lcos-panel"

[[device]]
name = "electronics"
driver = "twin.loop-electronics"
"""


@pytest.mark.slow
def test_a_broken_part_is_named_and_forgotten_once_it_is_mended(labctl, tmp_path):
    rig = tmp_path / "bench.toml"
    rig.write_text(OPTICAL.format(fault=""))
    first = labctl("morning", rig, "--records", "found")
    assert first.code == 0, first.err
    assert "nothing points to a physical fault" in first.out
    rig.write_text(OPTICAL.format(fault='fault = "detector-dead"\nfault_seed = 2'))
    second = labctl("morning", rig, "--records", "found")
    assert second.code == 3
    said = " ".join(second.out.split())
    assert "a photodiode is dead" in said
    assert "seen: row 47 sees nothing of the positive path" in said
    assert "→ check that photodiode's cable" in said
    assert "a photodiode is dead" in second.err
    newest = [one for one in RecordStore(tmp_path / "found").all() if one.record.kind == MORNING][-1]
    assert json.loads(newest.record.settings["diagnosis"])["detector-dead"] > 0.9
    assert newest.about.findings[0].startswith("a photodiode is dead: row 47")
    page = sorted((tmp_path / "found" / "reports").glob("bench_morning_*/index.html"))[-1].read_text()
    assert "row 47 sees nothing of the positive path" in page
    rig.write_text(OPTICAL.format(fault=""))
    third = labctl("morning", rig, "--records", "found")
    assert third.code == 0, third.out


def test_a_run_that_is_none_is_refused_before_the_bench_is_opened(labctl, tmp_path):
    (tmp_path / "notes.h5").write_text("not a run")
    ended = labctl("morning", "optical-twin", "--run", "notes.h5")
    assert ended.code != 0
    assert "notes.h5" in ended.err
    assert "measuring" not in ended.err
