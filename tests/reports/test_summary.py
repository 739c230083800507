"""What a run gives to `--json`, and how its numbers read."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labctl import reports
from labctl.reports import summary, words
from labctl.runlog import RunPlan, RunReader, RunWriter


def test_the_summary_is_strict_json(moons_run: Path) -> None:
    with RunReader(moons_run) as run:
        found = json.loads(json.dumps(summary(run), allow_nan=False))
    assert (found["status"], found["seed"], found["simulated"]) == ("success", 7, True)
    assert found["metrics"]["passed"] is True
    (panel,) = found["panels"]
    assert (panel["steps_done"], panel["steps_planned"], panel["finished"]) == (5, 5, True)
    assert sum(panel["outcomes"].values()) == 5 * 300
    assert panel["ledger"]["device_measured_us"] is None
    assert panel["ledger"]["device_modelled_us"] == pytest.approx(5 * 300 * 15.3 + 16_748)
    assert len(panel["steps"]) == 5


def test_an_aborted_run_gives_its_reason(tmp_path: Path, synthetic) -> None:
    plan = synthetic.plan(20, 3)
    with RunWriter.create(tmp_path / "a", synthetic.header(20), RunPlan([plan])) as run:
        run.abort("Ctrl-C")
    with RunReader(tmp_path / "a") as reader:
        assert summary(reader)["exit_reason"] == "Ctrl-C"


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0.5, "0.5 µs"),
        (93.24, "93.2 µs"),
        (950.4, "950 µs"),
        (1234.0, "1.23 ms"),
        (2.5e6, "2.5 s"),
        (math.nan, "–"),
    ],
)
def test_durations(us: float, text: str) -> None:
    assert words.duration(us) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0%"), (1.0, "100%"), (0.9999, ">99.9%"), (0.0004, "<0.1%"), (0.5, "50.0%")]
)
def test_shares_are_never_rounded_into_a_claim(value: float, text: str) -> None:
    assert words.share(value) == text


def test_showing_a_run_does_not_wait_for_matplotlib() -> None:
    code = "import sys; from labctl.reports import summary; summary; sys.exit('matplotlib' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_every_public_name_is_there() -> None:
    for name in reports.__all__:
        assert getattr(reports, name) is not None
