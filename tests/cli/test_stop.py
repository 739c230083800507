"""Ctrl-C, SIGTERM and a second Ctrl-C, in a real process at several moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from labctl_calibration.oscillators import ESSENTIAL
from labctl_calibration.store import RecordStore

from labctl.cli.session import new_session
from labctl.cli.signals import orderly_stop
from labctl.runlog import RunReader

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
LONG = ("--set", "samples=40", "--set", "steps=200", "--set", "audit=2", "--no-report")


def run_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    assert file.suffix == ".nxs"
    return file


@pytest.mark.parametrize(
    ("number", "settles", "code"),
    [
        (signal.SIGINT, 1, 130),
        (signal.SIGTERM, 4, 143),
        (signal.SIGHUP, 2, 129),
        pytest.param(signal.SIGINT, 20, 130, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_leaves_a_whole_file_marked_aborted(serving, tmp_path, number, settles, code) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this signal is ignored here (nohup), and so in what is started")
    serving.begin("run", "sample_moons", *LONG, "--out", tmp_path)
    serving.until(f"settle {settles}/201")
    serving.stop(number)
    ended = serving.end()
    assert ended.code == code
    file = run_file(tmp_path)
    lines = ended.err.splitlines()
    (told,) = [line for line in lines if line.startswith("stopped: ")]
    assert str(file) in told
    assert "the rig is safe" in told
    assert "Traceback" not in ended.err
    reported = sum("settle " in line for line in lines)
    with RunReader(file) as run:
        assert run.status == "aborted"
        assert reported <= run.panel().n_steps < 201
        assert not run.panel().finished
        last = run.panel().in_own_units(run.panel().x(-1))
        np.testing.assert_array_equal(run.panel().samples, last)


@pytest.mark.parametrize(
    "pause_s", [0.0, *(pytest.param(pause_s, marks=pytest.mark.slow) for pause_s in (0.003, 0.02))]
)
def test_impatient_signals_do_not_spoil_the_file(serving, tmp_path, pause_s) -> None:
    serving.begin("run", "sample_moons", *LONG, "--out", tmp_path)
    serving.until("settle 2/201")
    for _ in range(4):
        serving.stop(signal.SIGINT)
        time.sleep(pause_s)
    assert serving.end().code == 130
    with RunReader(run_file(tmp_path)) as run:
        assert run.status == "aborted"


def test_stopping_a_training_writes_nothing(serving, tmp_path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(100, 2)))
    serving.begin("run", "sample_points", "--set", f"data={tmp_path}/points.npy", "--out", tmp_path / "runs")
    serving.until("training: 4,000 iterations")
    serving.stop(signal.SIGINT)
    ended = serving.end()
    assert ended.code == 130
    assert "stopped: before the first step" in ended.err
    assert not (tmp_path / "runs").exists()


SMALL_BOARD = """
name = "small-board"
about = "A board of 3 x 3 oscillators"
law = "oscillator"
engine = "oscillator"
[world]
kind = "oscillator-bench"
profile = "unit50"
seed = 1
[world.overrides]
rows = 3
columns = 3
radius = 1.0
detuning_units = 3.0
detuning_bits = 10
[[device]]
name = "board"
driver = "twin.oscillator-board"
"""


@pytest.mark.slow
def test_a_stopped_calibration_keeps_what_was_measured(serving, tmp_path) -> None:
    rig = tmp_path / "small-board.toml"
    rig.write_text(SMALL_BOARD)
    serving.begin("calibrate", rig, "--records", tmp_path / "found")
    serving.until("measuring Couplings")
    serving.stop(signal.SIGINT)
    ended = serving.end()
    assert ended.code == 130, ended.err
    assert "3 records were measured and are kept in" in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
    store = RecordStore(tmp_path / "found")
    assert [one.record.kind for one in store.all()] == [one.kind for one in ESSENTIAL[:3]]
    assert (store.raw(store.all()[0].id) or {})["counts"].shape[1] == 9
    with store.turn(0.0, what="calibrating-small-board"):
        pass  # nobody holds it
    assert not list(store.folder.glob("*.part"))


def test_stopped_json_is_still_one_document(serving, tmp_path) -> None:
    serving.begin("run", "sample_moons", *LONG, "--json", "--out", tmp_path)
    serving.until("settle 1/201")
    serving.stop(signal.SIGTERM)
    ended = serving.end()
    found = ended.document
    assert (ended.code, found["exit_code"], found["status"]) == (143, 143, "aborted")
    assert found["file"] == str(run_file(tmp_path))


@pytest.mark.slow  # a process of its own; the one that serves the others is one, too
def test_a_process_of_its_own_ends_with_the_code(tmp_path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from labctl.cli import main; main()", "run", "sample_moons", *LONG],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    with process:
        for line in process.stderr:
            if "settle 3/201" in line:
                process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
    assert process.returncode == 143
    with RunReader(run_file(tmp_path / "runs")) as run:
        assert run.status == "aborted"


def test_a_signal_told_to_be_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_stop(new_session()):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), orderly_stop(session := new_session()):
        signal.raise_signal(signal.SIGTERM)
    assert session.stopped_by == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    seen = []

    def work() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with orderly_stop(new_session()):
            seen.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
