"""The oscillator engine on the twin and on a board of other equations."""

from __future__ import annotations

import numpy as np
import pytest
from foreign_board import WaveformBoard, WaveformWorld
from labctl_sim_devices import OscillatorBench, OscillatorBoardTwin, load_oscillator_profile

from labctl.devices import DeviceFault, DeviceValueError, Outcome, ProgramError
from labctl.engines import OscillatorEngine
from labctl.programs import code_program


def engine_on(profile="board50", *, noise_scale=1.0, **overrides):
    values = {"rows": 3, "columns": 3, "radius": 1.0, **overrides}
    bench = OscillatorBench(load_oscillator_profile(profile, values), noise_scale=noise_scale)
    board = OscillatorBoardTwin("board", bench)
    board.open()
    return OscillatorEngine(board, name="rig"), bench


def program_for(topology, segments=3, **options):
    rng = np.random.default_rng(1)
    tables = {
        "coupling": rng.normal(0, 0.4, (segments, topology.n_edges)),
        "in_phase": rng.uniform(-1, 1, (segments, topology.n)),
        "amplitude_rad": np.full(topology.n, 2.0),
        "duration": 0.75,
    }
    return code_program(topology, **{**tables, **options})[0]


def test_a_run_gives_phases_outcomes_and_a_ledger():
    engine, bench = engine_on()
    program = program_for(engine.spec.topology)
    receipt = engine.load(program)
    assert receipt.read_back
    result = engine.run(np.arange(50), read_at=[1.0, 2.25])
    assert result.phases.shape == (50, 2, 9)
    assert np.abs(result.phases).max() <= np.pi
    assert (result.outcome == Outcome.TIME_ELAPSED).all()
    np.testing.assert_allclose(result.read_at, [1.0, 2.25], atol=0.02)
    pixels = engine.pixels(result)
    np.testing.assert_allclose(pixels, (1 - np.cos(result.phases[:, 1])) / 2)
    assert {note.field for note in result.coercions} == {"scale", "duration"}
    spec, ledger = engine.spec, result.ledger
    evolution_us = engine.board.run_us()
    assert ledger.wait_us == pytest.approx(50 * (spec.setup_us + evolution_us))
    assert ledger.read_us == pytest.approx(50 * 2 * spec.read_us + spec.link.latency_us)
    assert ledger.upload_us == pytest.approx(receipt.duration_us + spec.link.latency_us)
    assert ledger.settles == 50
    assert ledger.host_s > 0
    assert bench.now_us == pytest.approx(receipt.duration_us + 50 * spec.queue_us(evolution_us, 2))


def test_a_program_is_loaded_once():
    engine, bench = engine_on()
    program = program_for(engine.spec.topology)
    first = engine.load(program)
    now_us = bench.now_us
    assert engine.load(program_for(engine.spec.topology)) == first
    assert bench.now_us == now_us
    assert engine.run(np.arange(2)).ledger.upload_us > engine.run(np.arange(2)).ledger.upload_us
    engine.load(program_for(engine.spec.topology, duration=1.0))
    assert bench.now_us > now_us + 50


def test_queues_longer_than_the_boards_are_split_and_the_same():
    whole, _ = engine_on()
    split, _ = engine_on(max_queue=7)
    program = program_for(whole.spec.topology)
    for engine in (whole, split):
        engine.load(program)
    one, many = whole.run(np.arange(30)), split.run(np.arange(30))
    off = np.angle(np.exp(1j * (one.phases - many.phases)))
    assert np.abs(off).max() <= 2 * np.pi / 256 + 1e-9  # the clock, and with it the temperature, differ
    assert many.ledger.read_us > one.ledger.read_us


def test_nothing_can_be_run_before_a_load_or_after_a_failed_one():
    engine, _ = engine_on()
    for ask in (lambda: engine.run(np.arange(1)), lambda: engine.program):
        with pytest.raises(ProgramError, match=r"rig: no program is loaded; allowed: after load\(program\)"):
            ask()
    engine.load(program_for(engine.spec.topology))
    engine.board.flip_bit = True
    with pytest.raises(DeviceFault, match="board: load: the board's memory has CRC-32"):
        engine.load(program_for(engine.spec.topology, duration=1.0))
    with pytest.raises(ProgramError, match="no program is loaded"):
        engine.run(np.arange(1))


def test_refusals_reach_the_caller():
    engine, _ = engine_on()
    wrong = engine_on(radius=2.0)[0].spec.topology
    with pytest.raises(ProgramError, match="wired as grid"):
        engine.load(program_for(wrong))
    engine.load(program_for(engine.spec.topology))
    with pytest.raises(ProgramError, match=r"anchor a is 3\.5; allowed: -3 to 3 units"):
        engine.run(np.arange(1), anchors=(np.full((1, 9), 3.5), np.zeros((1, 9))))
    with pytest.raises(ProgramError, match=r"anchor b has shape \(1, 8\)"):
        engine.run(np.arange(1), anchors=(np.zeros((1, 9)), np.zeros((1, 8))))
    with pytest.raises(DeviceValueError, match="play is 9"):
        engine.run(np.arange(1), segments=[9])
    with pytest.raises(DeviceValueError, match="read_at_us has"):
        engine.run(np.arange(1), read_at=[100.0])


def test_anchors_starts_and_single_segments():
    """A diffusion step's use: hold the phases at an image, let one segment settle, read."""
    engine, _ = engine_on("ideal")
    topology = engine.spec.topology
    engine.load(program_for(topology, coupling=np.zeros((2, topology.n_edges)), in_phase=None, duration=6.0))
    angle = np.random.default_rng(0).uniform(-2, 2, (5, 9))
    result = engine.run(
        np.arange(5), segments=[1], start_rad=angle + 0.3, anchors=(2 * np.sin(angle), 2 * np.cos(angle))
    )
    np.testing.assert_allclose(result.phases[:, 0], angle, atol=0.02)
    assert result.read_at[0] == pytest.approx(6.0, abs=1e-4)


def test_a_lost_lock_is_a_samples_outcome():
    engine, _ = engine_on(unit={"lock_loss": {"probability": 0.5}})
    engine.load(program_for(engine.spec.topology))
    outcome = engine.run(np.arange(200)).outcome
    assert set(outcome) == {Outcome.TIME_ELAPSED, Outcome.DIVERGED}
    assert (outcome == Outcome.DIVERGED).mean() == pytest.approx(0.5, abs=0.12)


def test_one_class_serves_a_board_of_other_equations():
    ideal, _ = engine_on("ideal")
    board = WaveformBoard("wave", WaveformWorld(ideal.spec.topology))
    board.open()
    other = OscillatorEngine(board, name="wave")
    program = program_for(ideal.spec.topology)
    start = np.random.default_rng(3).uniform(-np.pi, np.pi, (8, 9))
    results = []
    for engine in (ideal, other):
        engine.load(program)
        results.append(engine.run(np.arange(8), start_rad=start).phases)
    off = np.angle(np.exp(1j * (results[0] - results[1])))
    assert np.sqrt((off**2).mean()) < 0.02
