"""Help that teaches, and starts at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from labctl.cli.endings import EXIT_CODES

HEAVY = ("torch", "numba", "h5py", "matplotlib", "scipy", "numpy", "labctl.devices")
COMMANDS = (
    "demo", "run", "protocols", "rigs", "validate", "check", "align", "bringup", "calibrate", "morning",
    "calibrations list", "calibrations explain", "calibrations compare", "calibrations gc",
    "calibrations export", "calibrations import", "runs", "show", "report", "train",
    "data list", "data fetch", "twin profile import",
)  # fmt: skip


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = f"import sys, labctl.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    path = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path, check=True)
    assert done.stdout.strip() == "[]"


def test_the_top_help_goes_in_the_order_a_newcomer_needs(labctl) -> None:
    text = labctl("--help").out
    panels = ["Start here", "What there is", "Before a run", "After a run", "Networks and data of your own"]
    found = [text.index(panel) for panel in panels]
    assert found == sorted(found)
    for command in COMMANDS:
        assert f" {command.split()[0]} " in text
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning.split()[0]}" in " ".join(text.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(labctl, command) -> None:
    ended = labctl(*command.split(), "--help")
    assert ended.code == 0
    assert f"Example: labctl {command}" in " ".join(ended.out.split())


def test_without_a_command_the_help_is_shown(labctl) -> None:
    assert "Start here" in labctl().out


def test_version(labctl) -> None:
    assert labctl("--version").out.startswith("labctl 0")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runn"], ["No such command", "run"]),
        (["run"], ["PROTOCOL"]),
        (["run", "sample_moons", "--ouut", "x"], ["--ouut", "--out"]),
    ],
)
def test_a_slip_on_the_command_line_is_one_line_and_code_2(labctl, arguments, words) -> None:
    ended = labctl(*arguments)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert all(word in ended.err for word in words)
