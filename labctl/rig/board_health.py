"""An oscillator board's self-test: memory, frequencies, and whether its phases follow their anchors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from labctl.devices import BoardImage, OscillatorBoard, RunCodes
from labctl.rig.checking import require

MAX_PHASE_ERROR_RAD = 0.5  # anchored against read, at the worst oscillator
MAX_READ_NOISE_RAD = 0.2  # standard deviation of one read, at the worst oscillator
ANCHORED_UNITS = 6.0  # at full injection, 3 units: 18 time constants
ANCHORS, REPEATS = 8, 32
GATE_PERIODS = 1e6  # of an oscillator in a gate: resolves 2e-4 units at eps 0.005

Codes = NDArray[np.int64]


def _memory(board: OscillatorBoard) -> str:
    """Fill the memory with random codes and read all of it back."""
    spec = board.spec
    rng = np.random.Generator(np.random.Philox(key=0))
    segments = spec.depth

    def random(low: int, high: int, *shape: int) -> Codes:
        return rng.integers(low, high + 1, shape)

    top, inject = spec.max_coupling_code, spec.injection.max_code
    image = BoardImage(
        topology_hash=spec.topology.hash,
        coupling=random(-top, top, segments, spec.topology.n_edges) * spec.usable,
        scale=random(0, spec.max_scale_code, segments),
        in_phase=random(-inject, inject, segments, spec.n),
        quadrature=random(-inject, inject, segments, spec.n),
        second=random(-spec.second.max_code, spec.second.max_code, segments, spec.n),
        detuning=random(-spec.detuning.max_code, spec.detuning.max_code, segments, spec.n),
        ticks=random(1, spec.max_ticks, segments),
        start_phase=random(0, spec.max_start_code, spec.n),
        start_amplitude=random(0, spec.max_amplitude_code, spec.n),
    )
    receipt = board.load(image)
    held = board.loaded().crc
    require(held == image.crc, f"memory reads back as {held}, sent was {image.crc}", board, "memory")
    how = "read back" if receipt.read_back else "as the board says"
    return (
        f"{spec.topology.summary}; {segments} segments, {receipt.n_bytes:,} bytes in "
        f"{receipt.duration_us:.4g} us, {how} as sent (CRC-32 {receipt.crc})"
    )


def _counted(board: OscillatorBoard) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Every oscillator's frequency (Hz) and detuning (units), and the gate of the count (us)."""
    spec = board.spec
    low, high = spec.gate_range_us
    gate_us = min(max(GATE_PERIODS * spec.period_us, low), high)
    hz = board.count_frequency(gate_us).hz
    return hz, (hz / spec.f0_hz - 1) / spec.eps, gate_us


def _frequencies(board: OscillatorBoard) -> str:
    """Count every oscillator: its detuning must be within what the trim can take back."""
    spec = board.spec
    hz, units, gate_us = _counted(board)
    worst, limit = int(np.abs(units).argmax()), spec.detuning.range_units
    require(
        bool(np.abs(units[worst]) <= limit),
        f"oscillator {worst} is detuned by {units[worst]:.3f} units; allowed: {limit:g}, the trim's range",
        board,
        "frequencies",
    )
    return (
        f"{hz.mean() * 1e-6:.6g} MHz in a gate of {gate_us:.4g} us, detuned by "
        f"{np.sqrt(np.mean(units**2)):.3f} units rms, at most {abs(units[worst]):.3f}; a unit of time is "
        f"{spec.unit_us:.4g} us, "
        f"{board.temperature_c():.1f} °C"
    )


def _anchors(board: OscillatorBoard) -> str:
    """Hold all phases at known angles with the couplings off and the counted detuning trimmed, and read
    them.
    """
    spec, n = board.spec, board.spec.n
    trim = spec.detuning
    _, units, _ = _counted(board)
    # as far as the trim reaches: what lies beyond is the frequencies' finding
    trims = np.clip(np.rint(-units * trim.max_code / trim.range_units), -trim.max_code, trim.max_code)
    zeros = np.zeros((1, n), np.int64)
    board.load(
        BoardImage(
            topology_hash=spec.topology.hash,
            coupling=np.zeros((1, spec.topology.n_edges), np.int64),
            scale=np.zeros(1, np.int64),
            in_phase=zeros,
            quadrature=zeros,
            second=zeros,
            detuning=trims[None].astype(np.int64),
            ticks=np.array([min(spec.max_ticks, math.ceil(ANCHORED_UNITS * spec.unit_us / spec.tick_us))]),
            start_phase=np.zeros(n, np.int64),
            start_amplitude=np.zeros(n, np.int64),
        )
    )
    angle = np.repeat(2 * np.pi * (np.arange(ANCHORS) + 0.5) / ANCHORS - np.pi, REPEATS)
    full = spec.injection.max_code
    # started at the anchor: from opposite it the pull would be nothing
    readout = board.run(
        RunCodes(
            sample_id=np.arange(len(angle)),
            step_id=2**31 - 1,
            anchor_in_phase=_row(full * np.sin(angle), n),
            anchor_quadrature=_row(full * np.cos(angle), n),
            start_phase=np.repeat(spec.start_codes(angle)[:, None], n, axis=1),
        )
    )
    off = spec.read_rad(readout.codes[:, 0]) - angle[:, None]
    off = (np.arctan2(np.sin(off), np.cos(off))).reshape(ANCHORS, REPEATS, n)
    error, noise = np.abs(off.mean(axis=1)).max(axis=0), off.std(axis=1, ddof=1).max(axis=0)
    lost = int((~readout.locked).sum())
    for what, values, limit in (
        ("is off its anchor by", error, MAX_PHASE_ERROR_RAD),
        ("has read noise of", noise, MAX_READ_NOISE_RAD),
    ):
        worst = int(values.argmax())
        require(
            float(values[worst]) <= limit,
            f"oscillator {worst} {what} {values[worst]:.3f} rad; allowed: {limit:g}",
            board,
            "anchors",
        )
    return (
        f"{n} oscillators within {error.max():.3f} rad of their anchors, read noise at most "
        f"{noise.max():.3f} rad, {lost} of {len(angle)} runs lost lock"
    )


def _row(values: NDArray[np.float64], n: int) -> Codes:
    return np.repeat(np.rint(values).astype(np.int64)[:, None], n, axis=1)


BOARD_TESTS: dict[str, Callable[[OscillatorBoard], str]] = {
    "memory": _memory,
    "frequencies": _frequencies,
    "anchors": _anchors,
}
