"""The main process dies, and the bench becomes safe all the same. The lamp stays in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from labctl_drivers.link.watchdog import Ward, Watchdog
from lamp_driver import LampDriver

from labctl.devices import DeviceUnavailable

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
HERE = Path(__file__).parent


@pytest.fixture
def lit(tmp_path, environment) -> Iterator:
    """Factory: a lamp in a process, and a process that has lit it and then sleeps or closes it."""
    started = []

    def start(*arguments: object) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    def make(then: str) -> SimpleNamespace:
        state = tmp_path / "state.json"
        address = start(HERE / "lamp_server.py", state).stdout.readline().strip()
        user = start(HERE / "bench_user.py", address, then)
        watchdog = int(user.stdout.readline())
        return SimpleNamespace(address=address, state=state, user=user, watchdog=watchdog)

    yield make
    for process in started:
        process.kill()
        process.communicate()


def current_ma(state: Path) -> float:
    for _ in range(3):
        try:
            return sum(json.loads(state.read_text()))
        except ValueError:  # being written
            time.sleep(0.01)
    raise AssertionError(f"{state} cannot be read")


def until_dark(state: Path, seconds: float) -> float:
    began = time.monotonic()
    while current_ma(state):
        assert time.monotonic() - began < seconds, "still on"
        time.sleep(0.01)
    return time.monotonic() - began


def gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize(
    ("then", "whole_group"),
    [
        pytest.param("sleep", False, marks=pytest.mark.slow),
        ("sleep", True),
        pytest.param("talk", False, marks=pytest.mark.slow),
    ],
)
def test_a_killed_process_leaves_a_dark_bench(lit, then, whole_group) -> None:
    bench = lit(then)
    assert current_ma(bench.state) == pytest.approx(40)
    if whole_group:
        os.killpg(bench.user.pid, signal.SIGKILL)
    else:
        bench.user.kill()
    print(f"dark after {until_dark(bench.state, 10):.2f} s")
    _, told = bench.user.communicate()
    assert f"process {bench.user.pid} went without a word: making safe lamp" in told
    assert gone(bench.watchdog)
    lamp = LampDriver("lamp", bench.address)  # and it is free
    lamp.open()
    lamp.close()


@pytest.mark.slow
def test_after_a_proper_end_the_watchdog_goes_quietly(lit) -> None:
    bench = lit("close")
    _, told = bench.user.communicate(timeout=30)
    assert bench.user.returncode == 0
    assert told == ""
    assert gone(bench.watchdog)
    assert current_ma(bench.state) == 0


def test_ctrl_c_in_the_terminal_does_not_reach_it(lit) -> None:
    bench = lit("sleep")
    os.killpg(bench.user.pid, signal.SIGINT)
    bench.user.communicate(timeout=30)
    assert current_ma(bench.state) == 0
    assert gone(bench.watchdog)


def test_its_own_death_is_noticed() -> None:
    watchdog = Watchdog([])
    watchdog.start()
    assert watchdog.trouble == ""
    os.kill(watchdog._process.pid, signal.SIGKILL)
    watchdog._process.wait()
    assert watchdog.trouble == "the watchdog process has ended (exit code -9)"
    watchdog.stop()
    watchdog.stop()


def test_a_watchdog_that_cannot_start_is_told(capfd) -> None:
    with pytest.raises(DeviceUnavailable, match="watchdog: start: it did not start"):
        Watchdog([Ward("x", "labctl_drivers.nothing:Nothing", "a")]).start()
    assert "No module named 'labctl_drivers.nothing'" in capfd.readouterr().err
