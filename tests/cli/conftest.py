"""The command line as a user meets it: in this process (`labctl`) or in one of its own (`start`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labctl.cli import app

HERE = Path(__file__).parent


@dataclass
class Ended:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self):
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture(scope="session")
def quick() -> tuple[str, ...]:
    """Options that make a run small, and without settle times, which would take most of it."""
    return ("--set", "samples=12", "--set", "audit=0", "--set", "reference=50")


@pytest.fixture(scope="session")
def audited() -> tuple[str, ...]:
    """Options that make a run small and tell its settle times."""
    return ("--set", "samples=12", "--set", "audit=4", "--set", "reference=50")


@pytest.fixture
def labctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs one command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Ended:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        return Ended(result.exit_code, result.stdout, result.stderr)

    return call


def environment() -> dict[str, str]:
    """In which a process of its own imports the same labctl as the tests."""
    path = os.pathsep.join(p for p in sys.path if p)
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


class Served:
    """A process that runs commands one by one, as a shell would, but starts (slowly) only once."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "serving_process.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(),
        )  # fmt: skip
        self.seen: list[str] = []

    def begin(self, *arguments: object) -> None:
        """Start a command."""
        self.seen = []
        self.process.stdin.write(json.dumps([str(a) for a in arguments]) + "\n")
        self.process.stdin.flush()

    def until(self, words: str) -> None:
        """Wait until a line on stderr holds these words."""
        for line in self.process.stderr:
            self.seen.append(line.rstrip())
            if words in line:
                return
        raise AssertionError(f"ended before {words!r}: {self.seen}")

    def stop(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self) -> Ended:
        """Wait for the command's end."""
        self.until("ended ")
        out = list(iter(self.process.stdout.readline, self.seen[-1] + "\n"))
        return Ended(int(self.seen.pop().split()[1]), "".join(out), "\n".join(self.seen))


@pytest.fixture(scope="module")
def serving() -> Iterator[Served]:
    """One process for several commands."""
    served = Served()
    yield served
    served.process.kill()
    served.process.communicate()


@pytest.fixture
def run_file(labctl: Callable[..., Ended], quick: tuple[str, ...], tmp_path: Path) -> Path:
    """A small finished run."""
    ended = labctl("run", "sample_moons", *quick, "--quiet", "--no-report", "--out", tmp_path / "runs")
    assert ended.code == 0, ended.err
    return Path(ended.out.strip())
