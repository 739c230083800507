"""A run over wires is killed; the world on the other side becomes safe all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.devices import InputDrive, LoopElectronics, WeightModulator
from labctl.rig import Rig, load_rig

pytest.importorskip("pyvisa", reason="needs the extra scpi")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")]


@pytest.fixture
def labctl_process(tmp_path) -> Iterator:
    """Factory of processes that run a command in an empty folder, and are gone after the test."""
    started = []

    def start(*arguments: object) -> subprocess.Popen:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-c", "from labctl.cli import main; main()", *map(str, arguments)],
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(process: subprocess.Popen, words: str) -> None:
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return
    raise AssertionError(f"ended before {words!r}: {seen}")


@pytest.mark.parametrize("settle", [2, 9])
def test_a_killed_run_leaves_the_served_bench_dark(labctl_process, tmp_path, settle) -> None:
    bench = labctl_process("twin", "serve", "optical-twin")
    until(bench, "Ctrl-C here ends it")
    wired: Path = tmp_path / "optical-twin-wired.toml"
    running = labctl_process(
        "run", "sample_moons", "--rig", wired, "--set", "samples=20", "--set", "steps=200", "--no-report"
    )
    until(running, f"settle {settle}/201")
    running.send_signal(signal.SIGKILL)
    told = running.stderr.read()  # its end is the watchdog's
    assert "went without a word: making safe emitters, electronics, panel" in told
    assert len(told.splitlines()) <= 2, told  # no device that could not be made safe
    rig = Rig(load_rig(wired))
    rig.build()
    with rig.device(InputDrive) as drive:
        assert drive.snapshot()["total_current_ma"] == 0
    with rig.device(LoopElectronics) as electronics:
        assert electronics.snapshot()["offset_null_rms_units"] == 0
    with rig.device(WeightModulator) as panel:
        height, width = panel.spec.shape_px
        assert panel.snapshot()["frame_crc32"] == f"{zlib.crc32(bytes(2 * height * width)):08x}", "dark"
