"""Small simulated boards with every error of an untrimmed one, for the calibration of oscillators."""

from __future__ import annotations

from labctl_calibration.procedure import Devices, Measured, Procedure
from labctl_sim_devices.oscillator_bench import OscillatorBench
from labctl_sim_devices.oscillator_board import OscillatorBoardTwin
from labctl_sim_devices.oscillator_profile import load_oscillator_profile

from labctl.devices import CalibrationRecord, OscillatorBoard

TERMS = {"detuning": 2.5, "coupling_gain": 2.0, "coupling_offset": 2.5}
SMALL = {"rows": 3, "columns": 3, "radius": 1.0, "detuning_units": 3.0, "detuning_bits": 10}


def drawn(seed: int = 1, kind: type[OscillatorBoardTwin] = OscillatorBoardTwin, **overrides):
    """(bench, opened board) of 3 x 3 oscillators."""
    bench = OscillatorBench(
        load_oscillator_profile("unit50", {**SMALL, **overrides}), seed=seed, unit_seed=seed
    )
    bench.set_terms(TERMS)
    board = kind("board", bench)
    board.open()
    return bench, board


def taken(procedure: Procedure, board, records: dict[str, CalibrationRecord]) -> Measured:
    """Run a procedure and add its record."""
    found = procedure.measure(Devices({OscillatorBoard: board}), records, lambda what, done, total: None)
    records[found.kind] = CalibrationRecord(found.kind, "x", "", dict(found.arrays), dict(found.settings))
    return found
