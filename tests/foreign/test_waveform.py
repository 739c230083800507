"""The waveform board against analysis, and the averaged law against the waveform board."""

from __future__ import annotations

import ast
from pathlib import Path

import averaging
import foreign_board
import numpy as np
import pytest
from foreign_board import WaveformBoard, WaveformWorld, Wiring, played

from labctl.devices import RunCodes

EPS = 0.005
UNIT = 1 / EPS  # of time, in radians of the carrier


def wiring(n, *, gains=None, length=3 * UNIT, **tables):
    zero = np.zeros((1, n))
    parts = {name: np.asarray(tables.get(name, zero)) for name in ("cosine", "sine", "double", "offset")}
    return Wiring(np.zeros((n, n)) if gains is None else gains, **parts, length=length)


def test_it_imports_the_interfaces_alone():
    names = set()
    for path in Path(foreign_board.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
    assert {name for name in names if name.startswith("labctl")} == {"labctl.devices"}


def test_a_free_oscillator_keeps_its_detuning():
    start, stop = np.array([[0.3, -1.0]]), 2 * UNIT
    seen = played(start, [wiring(2, offset=np.array([[0.5, -0.25]]))], EPS, [0.0, stop])
    np.testing.assert_allclose(seen[0], start)
    np.testing.assert_allclose(seen[1], start + np.array([[1.0, -0.5]]), atol=1e-9)


def test_two_oscillators_lock_where_adlers_equation_says():
    """theta' = dw - 2 K sin(theta) between two that pull each other: rest at asin(dw / 2 K)."""
    gains = np.array([[0.0, 1.0], [1.0, 0.0]])
    for dw in (0.5, 1.5):
        seen = played(
            np.zeros((1, 2)), [wiring(2, gains=gains, offset=np.array([[0, dw]]), length=12 * UNIT)], EPS,
            [12 * UNIT],
        )[0]  # fmt: skip
        assert seen[0, 1] - seen[0, 0] == pytest.approx(np.arcsin(dw / 2), abs=0.02)


@pytest.mark.slow
def test_an_injection_pulls_to_its_phase():
    """a cos(theta) - b sin(theta) rests at atan2(a, b); the second harmonic at 0 or pi."""
    angle = 0.8
    held = wiring(1, cosine=2 * np.sin([[angle]]), sine=2 * np.cos([[angle]]), length=8 * UNIT)
    assert played(np.zeros((1, 1)), [held], EPS, [8 * UNIT])[0, 0, 0] == pytest.approx(angle, abs=0.02)
    halves = wiring(1, double=np.array([[1.0]]), length=8 * UNIT)
    seen = played(np.array([[0.4], [2.6]]), [halves], EPS, [8 * UNIT])[0, :, 0]
    np.testing.assert_allclose(seen, [0, np.pi], atol=0.02)


@pytest.mark.slow
def test_half_the_step_changes_nothing():
    rng = np.random.default_rng(0)
    parts = [wiring(9, gains=rng.normal(0, 0.5, (9, 9)), cosine=rng.normal(0, 1, (1, 9)))] * 2
    start = rng.uniform(-3, 3, (4, 9))
    usual, fine = (played(start, parts, EPS, [6 * UNIT], steps_a_period=k) for k in (24, 48))
    assert np.sqrt(((usual - fine) ** 2).mean()) < 1e-5


def test_the_device_adds_nothing_of_its_own():
    world = WaveformWorld(offsets=np.full(64, 0.25))
    with WaveformBoard("wave", world) as board:
        gate_us = 1e5
        counted = board.count_frequency(gate_us)
        np.testing.assert_allclose((counted.hz / 50e6 - 1) / EPS, 0.25, atol=1e-3)
        image = averaging.image_for(board.spec, averaging.program_of(1.0, segments=1))
        board.load(image)
        start = np.zeros((1, 64), np.int64)
        phases = board.run(RunCodes(np.arange(1), start_phase=start), read_at_us=[0.0])
        assert (phases.codes == 0).all()


@pytest.mark.parametrize("pull", [pytest.param(2.5, marks=pytest.mark.slow), 5.0])
def test_the_averaged_law_is_within_the_bar(pull):
    """Same start phases, no noise: at most 0.05 rad rms at the end of a program of 3 units (eps 0.5%)."""
    rms = averaging.phase_error(averaging.program_of(pull), samples=12).rms
    assert 1e-4 < rms <= 0.05


@pytest.mark.slow
def test_the_averaging_error_goes_with_eps():
    program = averaging.program_of(5.0)
    errors = [averaging.phase_error(program, samples=12, eps=eps).median for eps in (0.005, 0.00125)]
    assert 3 < errors[0] / errors[1] < 5.5  # of first order; the rms hangs on a few that go another way
