"""Killed, read while written, out of disk: what was reported done is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labctl.devices import Aborted, RunLogError
from labctl.runlog import RunPlan, RunReader, RunWriter, list_runs, recover

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and limits")


def read_until(process: subprocess.Popen[str], line: str) -> list[str]:
    seen = []
    for got in process.stdout:
        seen.append(got.strip())
        if seen[-1] == line:
            return seen
    raise AssertionError(f"the writer ended before {line!r}: {seen}\n{process.stderr.read()}")


def assert_steps(panel, synthetic, samples: int, steps: int, count: int) -> None:
    plan = synthetic.plan(samples, steps)
    assert panel.n_steps >= count
    for index in range(panel.n_steps):
        wrote = synthetic.step(index, plan)
        np.testing.assert_array_equal(panel.x(index), wrote.x)
        np.testing.assert_array_equal(panel.state(index), np.float32(wrote.state))
        np.testing.assert_array_equal(panel.outcome(index), wrote.outcome)
        np.testing.assert_array_equal(panel.injection_codes(index), wrote.injection_codes)
        np.testing.assert_array_equal(panel.step_norm[index], np.float32(wrote.step_norm))
        assert panel.outcome_counts[index].sum() == samples


@POSIX
@pytest.mark.parametrize(
    "line",
    [
        pytest.param("created", marks=pytest.mark.slow),
        "done 1",
        pytest.param("waiting", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_keeps_every_step_reported_done(tmp_path: Path, synthetic, start_writer, line) -> None:
    process = start_writer(tmp_path / "run", 6, 120)
    seen = read_until(process, line)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    reported = sum(text.startswith("done") for text in seen)
    assert not (tmp_path / "run.nxs").exists()
    with RunReader(tmp_path / "run.nxs.part") as run:
        assert run.status == "killed"
        assert run.header.seed == 7
        assert_steps(run.panel(), synthetic, 120, 6, reported)
    assert [run.status for run in list_runs(tmp_path)] == ["killed"]

    whole = recover(tmp_path / "run")
    assert whole == tmp_path / "run.nxs"
    assert not (tmp_path / "run.nxs.part").exists()
    with RunReader(whole) as run:
        assert (run.status, run.panel().finished) == ("killed", False)
        assert_steps(run.panel(), synthetic, 120, 6, reported)
        if reported:
            np.testing.assert_array_equal(run.panel().samples, run.panel().x(-1))


@POSIX
def test_a_kill_at_any_moment_leaves_a_readable_file(tmp_path: Path, synthetic, start_writer) -> None:
    """Kills that fall into the middle of a write, not only between steps."""
    for attempt in range(3):
        process = start_writer(tmp_path / f"run{attempt}", 400, 300)
        read_until(process, f"done {2 + attempt}")
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split("\n")
        reported = 2 + attempt + sum(line.startswith("done") for line in rest)
        with RunReader(tmp_path / f"run{attempt}") as run:
            assert_steps(run.panel(), synthetic, 300, 400, reported)


@POSIX
def test_a_second_process_reads_while_the_first_writes(tmp_path: Path, synthetic, start_writer) -> None:
    process = start_writer(tmp_path / "run", 6, 80)
    read_until(process, "done 1")
    with RunReader(tmp_path / "run") as run:
        assert run.partial
        assert run.status == "running"
        first = run.panel().n_steps
        assert first >= 1
        assert run.panel().samples is not None
        with pytest.raises(RunLogError, match="still writing"):
            recover(tmp_path / "run")
        read_until(process, "waiting")
        run.refresh()
        assert run.panel().n_steps == 6
        assert_steps(run.panel(), synthetic, 80, 6, 6)
        process.stdin.write("\n")
        process.stdin.flush()
        read_until(process, "finished")
        run.refresh()
        assert run.status == "success"  # the open reader outlives the change of name
        assert run.panel().finished
    assert process.wait() == 0
    with RunReader(tmp_path / "run") as run:
        assert not run.partial


def test_the_writing_process_may_read_its_own_run(tmp_path: Path, synthetic) -> None:
    plan = synthetic.plan(20, 4)
    with RunWriter.create(tmp_path / "a", synthetic.header(20), RunPlan([plan])) as run:
        for done in range(1, 5):
            run.step(synthetic.step(done - 1, plan))
            with RunReader(run.part_path) as reader:
                assert reader.panel().n_steps == done
                assert_steps(reader.panel(), synthetic, 20, 4, done)
        run.finish(np.zeros((20, 2)))
    with RunReader(tmp_path / "a") as reader:
        assert_steps(reader.panel(), synthetic, 20, 4, 4)


FULL = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import synthetic_run
from labctl.devices import RunLogError
from labctl.runlog import RunPlan, RunReader, RunWriter

plan = synthetic_run.plan(200, 30)
run = RunWriter.create(sys.argv[2], synthetic_run.header(200), RunPlan([plan]))
done = 0
try:
    with run:
        for index in range(30):
            if index == int(sys.argv[3]):
                size = run.part_path.stat().st_size + int(sys.argv[4])
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            done = run.step(synthetic_run.step(index, plan))
        run.finish(synthetic_run.step(29, plan).x)
except RunLogError as error:
    print(done, error)
    with RunReader(run.part_path) as reader:
        print(reader.panel().n_steps)
"""


@POSIX
@pytest.mark.parametrize(
    ("at", "room"),
    [
        pytest.param(0, 0, marks=pytest.mark.slow),
        (3, 30_000),
        pytest.param(5, -60_000, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_ends_with_one_clear_line_and_keeps_the_steps(
    tmp_path, synthetic, child_environment, at, room
) -> None:
    here = str(Path(__file__).parent)
    process = subprocess.run(
        [sys.executable, "-c", FULL, here, str(tmp_path / "run"), str(at), str(room)],
        capture_output=True,
        text=True,
        env=child_environment,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    said, reread = process.stdout.strip().split("\n")
    done = int(said.split()[0])
    assert done >= at
    assert "run.nxs.part: writing step" in said
    assert "File too large" in said
    assert int(reread) == done
    with RunReader(tmp_path / "run") as run:
        assert run.status == "killed"
        assert_steps(run.panel(), synthetic, 200, 30, done)


def test_a_failed_write_closes_the_run_for_good(tmp_path: Path, synthetic, monkeypatch) -> None:
    plan = synthetic.plan(20, 4)
    run = RunWriter.create(tmp_path / "a", synthetic.header(20), RunPlan([plan]))
    run.step(synthetic.step(0, plan))

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run._file, "flush", full)
    with pytest.raises(
        RunLogError, match=r"writing step 2 failed: disk full \(No space left on device\); 1 step"
    ):
        run.step(synthetic.step(1, plan))
    assert not run.open
    for attempt in (
        lambda: run.step(synthetic.step(1, plan)),
        run.abort,
        lambda: run.finish(np.zeros((20, 2))),
    ):
        with pytest.raises(RunLogError, match="an earlier write failed"):
            attempt()
    with RunReader(run.part_path) as reader:
        assert reader.panel().n_steps == 1


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Aborted("Ctrl-C"), "aborted", "Ctrl-C"),
        (KeyboardInterrupt(), "aborted", "interrupted from the keyboard"),
        (ValueError("lamp out"), "failed", "ValueError: lamp out"),
        (None, "failed", "the run was left without finish()"),
    ],
)
def test_leaving_early_closes_the_file_whole_and_says_why(tmp_path, synthetic, error, status, reason) -> None:
    plan = synthetic.plan(20, 4)

    def attempt() -> None:
        with RunWriter.create(tmp_path / "a", synthetic.header(20), RunPlan([plan])) as run:
            run.step(synthetic.step(0, plan))
            if error is not None:
                raise error

    if error is None:
        attempt()
    else:
        with pytest.raises(type(error)):
            attempt()
    assert not (tmp_path / "a.nxs.part").exists()
    with RunReader(tmp_path / "a") as run:
        assert (run.status, run.exit_reason) == (status, reason)
        assert run.end_time is not None
        assert not run.panel().finished
        np.testing.assert_array_equal(run.panel().samples, synthetic.step(0, plan).x)
