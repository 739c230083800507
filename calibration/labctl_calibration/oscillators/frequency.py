"""Frequencies counted and trimmed: every oscillator's detuning from the reference, and what nulls it.

Model: f_i = f0 (1 + eps (w_i + g_i trim)), in one gate counted to whole periods; where in a period the gate
opens is random, so that a count of p periods is p in the mean and off by a variance of 1/6 in the mean over
fractions. Estimator: means of counts at trim 0, taken first and last, and at +-half range.
The trims are the nearest codes to -w / g, counted again and corrected until nothing changes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, DeviceFault, OscillatorBoard
from labctl_calibration.oscillators.probing import Codes, FloatArray
from labctl_calibration.procedure import Devices, Measured, Plot, Procedure, Quantity, Tell, Upstream

KIND = "oscillator frequencies"
COUNT_VARIANCE = 1 / 6  # of a count, periods^2: mean of f (1 - f) over fractions f of a period
RESOLUTION = 2e-4  # units that one gate resolves, where the board's gates reach so far
GATES = 4
ROUNDS = 3
LEFT = "left after trim"
MOVED_UNITS, LOST_UNITS = 0.05, 0.3  # off the record: what warmth explains, and what it does not
RESPONDS = (0.5, 1.5)  # units a unit of trim: outside, it is stuck or not what the data sheet says
DEAD_SHARE = 0.5  # of the reference's count: an oscillator below does not oscillate
STILL_PERIODS = 4.0  # standard deviations between the first and the last count of the same trims


def measure_frequencies(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    """Count, trim, count again. DeviceFault where all oscillators are dead or the reference miscounts."""
    del upstream
    board = devices.get(OscillatorBoard)
    spec = board.spec
    gate_us = gate_of(board)
    half = spec.detuning.max_code // 2
    counter = _Counter(board, gate_us)
    tell("counting frequencies", 0, ROUNDS + 3)
    free = counter.units(np.zeros(spec.n, np.int64))
    up, down = (counter.units(np.full(spec.n, sign * half)) for sign in (1, -1))
    dead = counter.dead
    if dead.all():
        raise DeviceFault(
            "no oscillator gives more than half of the reference's periods",
            device=board.name, operation="measure_frequencies",
        )  # fmt: skip
    trim_units = 2 * half * spec.detuning.units_per_code
    gain = (up - down) / trim_units
    gain_sd = math.sqrt(2) * counter.sd / trim_units
    stuck = ~dead & ~((gain > RESPONDS[0]) & (gain < RESPONDS[1]))
    alive = ~dead & ~stuck
    slope = np.where(alive, gain, 1.0) * spec.detuning.units_per_code
    codes, left = _trimmed(counter, free, np.where(alive, slope, np.inf), spec.detuning.max_code, tell)
    again = counter.units(np.zeros(spec.n, np.int64))
    dead = counter.dead  # who died meanwhile is dead
    alive, stuck = alive & ~dead, stuck & ~dead
    beyond = np.abs(left) > np.abs(slope) / 2 + 4 * counter.sd
    findings = [
        *_named("do not oscillate", dead),
        *_named("do not follow their trim", stuck),
        *_named("are beyond their trim's range", alive & beyond & (np.abs(codes) == spec.detuning.max_code)),
    ]
    moved = float(np.abs(again - free)[~dead].max(initial=0.0))
    if moved > STILL_PERIODS * math.sqrt(2) * counter.sd + RESOLUTION:
        findings.append(f"frequencies moved by up to {moved:.2g} units while they were counted")
    free = (free + again) / 2  # of the middle of the procedure, were they to move evenly
    free_sd = counter.sd / math.sqrt(2)
    rms = float(np.sqrt(np.mean(free[~dead] ** 2))) if not dead.all() else math.nan
    live = float(np.abs(left[alive]).max()) if alive.any() else math.nan
    return Measured(
        kind=KIND,
        arrays={
            "detuning_units": free,
            "detuning_units_sd": np.where(dead, np.nan, free_sd),
            "trim_gain": gain,
            "trim_gain_sd": np.full(spec.n, gain_sd),
            "trim_codes": codes.astype(np.float64),
            "trimmed_units": left,
            "trimmed_units_sd": np.full(spec.n, counter.sd),
            "alive": alive.astype(np.float64),
        },
        quantities=(
            Quantity("detuning", rms, free_sd, "units",
                     words="rms over oscillators, untrimmed"),
            Quantity(LEFT, live, counter.sd, "units", 0.0,
                     float(np.abs(slope[alive]).max()) if alive.any() else 0.0, "largest detuning"),
            Quantity("dead or stuck", float((~alive).sum()), 0.0, "oscillators", 0.0, 0.0),
            Quantity("moved", moved, counter.sd, "units", 0.0, 0.05, "between the first and the last count"),
        ),
        residuals={"trimmed_units": left},
        raw={"trim_codes": np.stack(counter.trims), "counts": np.stack(counter.counts)},
        settings={"gate_us": gate_us, "gates": GATES, "temperature_c": board.temperature_c()},
        findings=tuple(findings),
        plots=(
            Plot("Detuning", np.arange(spec.n, dtype=np.float64), free, "oscillator", "units",
                 np.full(spec.n, free_sd)),
        ),
    )  # fmt: skip


def _trimmed(
    counter: _Counter, free: FloatArray, slope: FloatArray, most: int, tell: Tell
) -> tuple[Codes, FloatArray]:
    """Trims [n] that null the detunings `free`, corrected until none changes, and what they leave, units;
    slope: units a code, infinite for oscillators that are left alone.
    """
    codes, left = np.zeros(len(free), np.int64), free
    for done in range(ROUNDS):
        tell("counting frequencies", 3 + done, ROUNDS + 3)
        wanted = np.where(np.isinf(slope), 0.0, codes - left / slope)
        nearest = np.clip(np.rint(wanted), -most, most).astype(np.int64)
        if (nearest == codes).all():
            break
        codes, left = nearest, counter.units(nearest)
    return codes, left


def require_counted(board: OscillatorBoard, record: CalibrationRecord, operation: str) -> None:
    """DeviceFault where the trimmed frequencies are not those of the record: another board's."""
    codes, alive = record.array("trim_codes").astype(np.int64), record.array("alive") > 0.5
    if len(codes) != board.spec.n:
        raise DeviceFault(
            f"the frequencies on record are of {len(codes)} oscillators, this board has {board.spec.n}: "
            "another board answers",
            device=board.name, operation=operation,
        )  # fmt: skip
    counter = _Counter(board, gate_of(board), gates=1)
    off = np.abs(counter.units(codes) - record.array("trimmed_units"))[alive]
    if not off.size:
        return
    middle = float(np.median(off))
    if middle > MOVED_UNITS:
        raise DeviceFault(
            f"trimmed frequencies are off those on record by {middle:.3g} units in the median; allowed: "
            f"{MOVED_UNITS:g}: another board answers, or it has to be counted again",
            device=board.name, operation=operation,
        )  # fmt: skip
    lost = np.flatnonzero(alive)[off > LOST_UNITS]
    if len(lost):
        raise DeviceFault(
            f"oscillators {', '.join(map(str, lost[:8]))} are off their frequencies on record by "
            f"{off.max():.3g} units; allowed: {LOST_UNITS:g}: they died, or have to be counted again",
            device=board.name, operation=operation,
        )  # fmt: skip


def gate_of(board: OscillatorBoard) -> float:
    """A gate of whole reference periods that resolves 2e-4 units, or the board's longest."""
    spec = board.spec
    low, high = spec.gate_range_us
    wanted_us = 1e6 / (spec.f0_hz * spec.eps * RESOLUTION)
    periods = max(1.0, round(min(max(wanted_us, low), high) * 1e-6 * spec.f0_hz))
    return float(min(max(periods * 1e6 / spec.f0_hz, low), high))


class _Counter:
    """Mean detunings of several gates."""

    def __init__(self, board: OscillatorBoard, gate_us: float, gates: int = GATES) -> None:
        self._board, self._gate_us, self._gates = board, gate_us, gates
        spec = board.spec
        self._per_count = 1 / (spec.f0_hz * gate_us * 1e-6 * spec.eps)
        self.sd = math.sqrt(COUNT_VARIANCE / gates) * self._per_count
        self.dead: NDArray[np.bool_] = np.zeros(spec.n, np.bool_)
        self.trims: list[Codes] = []
        self.counts: list[Codes] = []

    def units(self, codes: Codes) -> FloatArray:
        """Detuning [n] at these trims, units. DeviceFault where the reference's count is not the gate's."""
        spec = self._board.spec
        total = np.zeros(spec.n)
        for _ in range(self._gates):
            counted = self._board.count_frequency(self._gate_us, codes)
            expected = spec.f0_hz * self._gate_us * 1e-6
            if abs(counted.reference_count - expected) > 1 + 1e-3 * expected:
                raise DeviceFault(
                    f"the reference counts {counted.reference_count} periods in a gate of "
                    f"{self._gate_us:g} us; allowed: {expected:.0f} within 0.1%",
                    device=self._board.name, operation="measure_frequencies",
                )  # fmt: skip
            if len(counted.counts) != len(total):
                raise DeviceFault(
                    f"{len(counted.counts)} oscillators were counted, {len(total)} before: another "
                    "board answers",
                    device=self._board.name, operation="measure_frequencies",
                )  # fmt: skip
            self.dead = self.dead | (counted.counts < DEAD_SHARE * expected)
            self.trims.append(codes)
            self.counts.append(counted.counts)
            total += counted.counts - expected
        return total / self._gates * self._per_count


def _named(what: str, which: NDArray[np.bool_]) -> list[str]:
    """A finding that names oscillators; none where there are none."""
    found = np.flatnonzero(which)
    if not len(found):
        return []
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return [f"oscillators {', '.join(map(str, found[:8]))}{more} {what}"]


def _duration_s(devices: Devices) -> float:
    return (ROUNDS + 4) * GATES * gate_of(devices.get(OscillatorBoard)) * 1e-6


FREQUENCIES = Procedure(
    name="frequencies",
    kind=KIND,
    title="Frequencies counted and trimmed",
    needs=(),
    device=OscillatorBoard,
    roles=(OscillatorBoard,),
    validity_s=86_400.0,
    notices=("dead oscillator", "stuck trim", "detuning beyond the trim", "frequencies that drift"),
    duration_s=_duration_s,
    measure=measure_frequencies,
)
