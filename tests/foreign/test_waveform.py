"""The waveform board against analysis, and the averaged law against the waveform board."""

from __future__ import annotations

import ast
from pathlib import Path

import averaging
import foreign_board
import numpy as np
import pytest
from foreign_board import Spread, WaveformBoard, WaveformWorld, Wiring, drawn_board, perfect_board, played
from labctl_calibration.oscillators.probing import Probe, probe_image

from labctl.devices import RunCodes, grid

EPS = 0.005
UNIT = 1 / EPS  # of time, in radians of the carrier


def wiring(n, *, gains=None, length=3 * UNIT, harmonic=0.0, delay=None, **tables):
    zero = np.zeros((1, n))
    parts = {name: np.asarray(tables.get(name, zero)) for name in ("cosine", "sine", "double", "offset")}
    return Wiring(
        np.zeros((n, n)) if gains is None else gains, **parts, length=length, harmonic=harmonic, delay=delay
    )


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
    world = WaveformWorld(unit=perfect_board(grid(8, 8, 2), offsets=np.full(64, 0.25)))
    with WaveformBoard("wave", world) as board:
        gate_us = 1e5
        counted = board.count_frequency(gate_us)
        np.testing.assert_allclose((counted.hz / 50e6 - 1) / EPS, 0.25, atol=1e-3)
        image = averaging.image_for(board.spec, averaging.program_of(1.0, segments=1))
        board.load(image)
        start = np.zeros((1, 64), np.int64)
        phases = board.run(RunCodes(np.arange(1), start_phase=start), read_at_us=[0.0])
        assert (phases.codes == 0).all()


def test_a_driver_that_is_late_is_followed_late():
    """Oscillator 1 hears 0, passed on late by d: it rests that far behind, what 0 does not feel."""
    gains, late = np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([0.3, 0.0])
    held = wiring(2, gains=gains, length=8 * UNIT, delay=late)
    seen = played(np.array([[0.5, 1.5]]), [held], EPS, [8 * UNIT])[0, 0]
    np.testing.assert_allclose(seen, [0.5, 0.2], atol=0.01)


def test_harmonics_on_both_sides_beat_at_three_times_the_angle():
    """K [sin(theta_j - theta_i) + h^2 sin 3(theta_j - theta_i)] in the mean over a period."""
    h, gap = 0.2, 0.6
    units = 16 * 2 * np.pi / UNIT  # whole periods
    one = wiring(2, gains=np.array([[0.0, 1.0], [0.0, 0.0]]), length=units * UNIT, harmonic=h)
    moved = played(np.array([[0.0, gap]]), [one], EPS, [units * UNIT])[0, 0, 0]
    left = {}
    for share in (0.0, h):
        left[share] = gap
        for _ in range(1000):
            left[share] -= units / 1000 * (np.sin(left[share]) + share**2 * np.sin(3 * left[share]))
    assert moved == pytest.approx(gap - left[h], abs=2e-3)
    assert abs(left[h] - left[0.0]) > 8e-3  # what the harmonics add is told


def noisy_board():
    topology = grid(3, 3, 1.0)
    unit = perfect_board(topology, diffusion=0.02)
    return WaveformBoard("wave", WaveformWorld(topology, unit=unit, steps_a_period=8, dtype=np.float32))


def still_image(board, units):
    return probe_image(board, Probe(units=units))


def test_phase_noise_spreads_as_it_should_whatever_a_sample_is_run_with():
    units, count = 2.0, 400
    with noisy_board() as board:
        board.load(still_image(board, units))
        start, ends = np.zeros((count, 9), np.int64), [units * board.spec.unit_us]
        every = board.run(RunCodes(np.arange(count), start_phase=start), read_at_us=ends)
        some = board.run(RunCodes(np.arange(250, 270), start_phase=start[:20]), read_at_us=ends)
    phases = np.angle(np.exp(1j * board.spec.read_rad(every.codes[:, 0])))
    assert phases.var() == pytest.approx(2 * 0.02 * units, rel=4 * np.sqrt(2 / phases.size))
    np.testing.assert_array_equal(every.codes[250:270], some.codes)


def test_a_drawn_board_reads_and_counts_as_it_was_drawn():
    topology = grid(3, 3, 1.0)
    unit = drawn_board(topology, 7, Spread(detuning_units=0.5, gain=0.1, offset_units=0.05))
    again = drawn_board(topology, 7, Spread(detuning_units=0.5, gain=0.1, offset_units=0.05))
    np.testing.assert_array_equal(unit.codes, again.codes)
    with WaveformBoard("wave", WaveformWorld(topology, unit=unit)) as board:
        counted = board.count_frequency(1e5)
        np.testing.assert_allclose((counted.hz / 50e6 - 1) / EPS, unit.offsets, atol=1e-3)
        board.load(still_image(board, 1.0))
        start = np.zeros((200, 9), np.int64)
        seen = board.run(RunCodes(np.arange(200), start_phase=start), read_at_us=[0.0]).codes[:, 0]
    angle = np.angle(np.exp(1j * board.spec.read_rad(seen)).mean(axis=0))
    np.testing.assert_allclose(angle, unit.skew_rad, atol=5 * unit.read_noise_rad / np.sqrt(200))


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
