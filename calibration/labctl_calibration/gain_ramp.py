"""How much gain the loop bears before it oscillates, measured without letting it.

The panel shows rings of three rows, each driving the next with the opposite sign: a ring oscillator, whose
gain at the onset of oscillation is known to be 2 for rows that do as asked and are not delayed. From presets
a few percent of full scale off their rest the rows ring down; their equation from sample to sample is fitted
to the trace, and its slowest eigenvalue gives decay rate and frequency of the ring. The gain is raised in
steps; the decay rate falls in proportion, and where it would reach zero is the onset.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import (
    CalibrationRecord,
    DeviceFault,
    Identity,
    LoopElectronics,
    Scalar,
    SettleCodes,
    WeightModulator,
)
from labctl.programs import encode_frame
from labctl_calibration.closed_loop import STEP_ID, Rows, loop_constant
from labctl_calibration.effective_map import measure_map
from labctl_calibration.open_loop import calibrate_steady
from labctl_calibration.rows_record import trims_of_rows

FloatArray = NDArray[np.float64]
KIND = "gain margin"
RING = 3
PROBES = 800
FIRST, FACTOR = 0.5, 1.25  # loop gain of the first step, and from step to step
STOP = 0.85  # of the onset, as it is foreseen: no step goes higher
SAFE = 2**-0.5  # of the onset: a margin of 3 dB
MARGIN_DB = 3.0
KICK_UNITS = 0.25  # of the presets
REPEATS = 24  # traces averaged
WAIT_TAU = 12.0
SKIP = 2  # samples after release: the delayed forcing is not there yet
LEFT = 0.5  # of the kick, in the trace's last quarter: more is an oscillation
LAST = 4  # steps that the onset is extrapolated from
QUIET_UNITS = 0.02  # of full scale: rest, after the gain has been turned off


@dataclass(frozen=True)
class Step:
    """One gain of the ramp: the rings' slowest decay rate (1/tau), its frequency, whether it decayed."""

    loop_gain: float
    decay: float
    frequency_mhz: float
    quiet: bool


@dataclass(frozen=True, eq=False)
class GainMargin:
    """onset: loop gain (as asked, times the measured weight) at which the first ring would oscillate, with
    its standard error; safe: the largest to use. reached: the highest that was tried. steps: the ramp.

    oscillated: the ramp met the oscillation itself, and ramped down at once. In a program, half of the onset
    is what gain times the real part of a weight matrix's eigenvalue may reach.
    """

    onset: float
    onset_error: float
    safe: float
    reached: float
    frequency_mhz: float
    oscillated: bool
    steps: tuple[Step, ...]

    @property
    def finding(self) -> str:
        """In words."""
        if self.oscillated:
            return (
                f"oscillation at {self.frequency_mhz:.2f} MHz at loop gain {self.reached:.2f}, not foreseen: "
                f"the gain was turned off at once and the rows are at rest; safe maximum {self.safe:.2f}, "
                f"{MARGIN_DB:g} dB below the last gain that decayed"
            )
        if self.safe >= self.reached:
            return (
                f"rings of three rows ring down at every loop gain up to {self.reached:.2f}, as far as the "
                f"rows' gains go: safe maximum {self.safe:.2f}"
            )
        return (
            f"rings of three rows would oscillate at loop gain {self.onset:.2f} ± {self.onset_error:.2f} "
            f"({self.frequency_mhz:.2f} MHz; 2 where rows do as asked, at once), by their ringing at up to "
            f"{self.reached:.2f}; safe maximum {self.safe:.2f}, {MARGIN_DB:g} dB below"
        )

    @property
    def arrays(self) -> dict[str, FloatArray]:
        """As a record holds it; `margin_of` reads it back."""
        return {
            "onset_loop_gain": np.array([self.onset]),
            "onset_error": np.array([self.onset_error]),
            "safe_loop_gain": np.array([self.safe]),
            "reached_loop_gain": np.array([self.reached]),
            "frequency_mhz": np.array([self.frequency_mhz]),
            "step_loop_gain": np.array([step.loop_gain for step in self.steps]),
            "step_decay_per_tau": np.array([step.decay for step in self.steps]),
            "step_frequency_mhz": np.array([step.frequency_mhz for step in self.steps]),
            "step_quiet": np.array([float(step.quiet) for step in self.steps]),
        }

    @property
    def settings(self) -> dict[str, Scalar]:
        """What goes with them."""
        return {"oscillated": self.oscillated, "margin_db": MARGIN_DB, "ring": RING}

    def record(self, electronics: Identity) -> CalibrationRecord:
        """As a record."""
        return CalibrationRecord(
            kind=KIND,
            device_serial=electronics.serial,
            taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            arrays=self.arrays,
            settings=self.settings,
        )


def margin_of(record: CalibrationRecord) -> GainMargin:
    """Back."""
    names = ("step_loop_gain", "step_decay_per_tau", "step_frequency_mhz", "step_quiet")
    columns = zip(*(record.array(name).tolist() for name in names), strict=True)
    return GainMargin(
        onset=float(record.array("onset_loop_gain")[0]),
        onset_error=float(record.array("onset_error")[0]),
        safe=float(record.array("safe_loop_gain")[0]),
        reached=float(record.array("reached_loop_gain")[0]),
        frequency_mhz=float(record.array("frequency_mhz")[0]),
        oscillated=bool(record.settings["oscillated"]),
        steps=tuple(Step(gain, decay, mhz, bool(quiet)) for gain, decay, mhz, quiet in columns),
    )


def ramp_gain(
    modulator: WeightModulator,
    electronics: LoopElectronics,
    panel_record: CalibrationRecord,
    rows: Rows,
    *,
    factor: float = FACTOR,
) -> GainMargin:
    """Raise the gain towards oscillation and stop before; the frame that was on display is again in the end.

    Every step's gain is at most `factor` times the last. Raises DeviceFault where already the first gain
    oscillates (gain off then), or where fewer than one ring of live channels can be shown.
    """
    frame = modulator.shown()
    try:
        rings = _Rings.shown(modulator, electronics, panel_record, rows)
        return _ramp(rings, factor)
    finally:
        modulator.show(frame)
        calibrate_steady(electronics)


def _ramp(rings: _Rings, factor: float) -> GainMargin:
    steps: list[Step] = []
    decays: list[FloatArray] = []
    loop_gain, highest = FIRST, rings.highest
    onset, error = np.inf, np.inf
    while True:
        decay, frequency, quiet = rings.ring_down(loop_gain)
        worst = int(decay.argmin())
        steps.append(Step(loop_gain, float(decay[worst]), float(frequency[worst]), quiet))
        if not quiet or decay[worst] <= 0:
            return _met(rings, steps)
        decays.append(decay)
        onset, error = _foreseen([s.loop_gain for s in steps], decays)
        if len(steps) > 1 and loop_gain >= 0.99 * min(STOP * onset, highest):
            break
        ceiling = STOP * onset if np.isfinite(onset) else np.inf
        loop_gain = min(loop_gain * factor, max(ceiling, loop_gain), highest)
    safe = min(SAFE * onset, highest)
    # a ring's frequency is in proportion to its gain
    frequency_mhz = steps[-1].frequency_mhz * (onset / loop_gain if np.isfinite(onset) else 1.0)
    return GainMargin(onset, error, safe, loop_gain, frequency_mhz, False, tuple(steps))


def _met(rings: _Rings, steps: list[Step]) -> GainMargin:
    """The loop oscillates: gain off, and rest; then what is known of it."""
    rings.turn_off()
    last = steps[-1]
    if len(steps) == 1:
        raise DeviceFault(
            f"oscillates at {last.frequency_mhz:.2f} MHz at the first loop gain of the ramp, "
            f"{last.loop_gain:g}; the gain was turned off at once and the rows are at rest; allowed: a loop "
            f"that is quiet at {last.loop_gain:g}",
            device=rings.electronics.name, operation="ramp_gain",
        )  # fmt: skip
    quiet = steps[-2].loop_gain
    return GainMargin(
        onset=last.loop_gain,
        onset_error=last.loop_gain - quiet,
        safe=SAFE * quiet,
        reached=last.loop_gain,
        frequency_mhz=last.frequency_mhz,
        oscillated=True,
        steps=tuple(steps),
    )


def _foreseen(gains: list[float], decays: list[FloatArray]) -> tuple[float, float]:
    """The lowest gain at which a ring's decay rate reaches zero on its straight line over gain; its error.

    Infinity from a single gain, or where no rate falls.
    """
    if len(gains) < 2:
        return np.inf, np.inf
    x, y = np.array(gains[-LAST:]), np.stack(decays[-LAST:])
    design = np.stack([np.ones_like(x), x], axis=1)
    found = np.linalg.lstsq(design, y, rcond=None)[0]
    falls = found[1] < 0
    if not falls.any():
        return np.inf, np.inf
    crossing = np.where(falls, -found[0] / np.where(falls, found[1], -1.0), np.inf)
    ring = int(crossing.argmin())
    if len(x) < 3:
        return float(crossing[ring]), np.inf
    left = y[:, ring] - design @ found[:, ring]
    covariance = np.linalg.inv(design.T @ design) * (left**2).sum() / (len(x) - 2)
    toward = np.array([1.0, crossing[ring]]) / found[1, ring]
    return float(crossing[ring]), float(np.sqrt(toward @ covariance @ toward))


@dataclass(frozen=True, eq=False)
class _Rings:
    """The rings on display: rows [R, 3], each driven by the one before; weight [n] with which, in units of a
    full-scale weight; held_units and per_gain_units [n]: the bias that holds a row at zero, and its part in
    proportion to the row's gain.
    """

    electronics: LoopElectronics
    members: NDArray[np.int64]
    weight: FloatArray
    held_units: FloatArray
    per_gain_units: FloatArray

    @classmethod
    def shown(
        cls,
        modulator: WeightModulator,
        electronics: LoopElectronics,
        panel_record: CalibrationRecord,
        rows: Rows,
    ) -> _Rings:
        """Show rings of the live channels, best first, and measure what they are."""
        n = electronics.spec.n_channels
        order = panel_record.array("channel_order").astype(np.int64)
        lives = order[panel_record.array("dead_channels")[order] == 0]
        members = lives[: len(lives) // RING * RING].reshape(-1, RING)
        if not len(members):
            raise DeviceFault(
                f"{len(lives)} live channels; allowed: {RING} or more, for a ring",
                device=electronics.name, operation="ramp_gain",
            )  # fmt: skip
        fractions = np.zeros((n, n))
        fractions[members, np.roll(members, 1, axis=1)] = -1.0
        modulator.show(encode_frame(fractions, modulator.spec, panel_record).levels)
        calibrate_steady(electronics)
        light = measure_map(electronics, probes=PROBES)
        constant = loop_constant(electronics, light, rows.curve, trims_of_rows(rows))
        weight = np.zeros(n)
        weight[members] = -light.powers[0][members, np.roll(members, 1, axis=1)]
        return cls(electronics, members, weight, -rows.offset_units, -rows.gain_scale * constant)

    @property
    def highest(self) -> float:
        """Loop gain that every row can be set to."""
        return float(self.electronics.spec.hidden_gain.high * self.weight[self.members].min())

    def ring_down(self, loop_gain: float) -> tuple[FloatArray, FloatArray, bool]:
        """Decay rate (1/tau) and frequency (MHz) of every ring [R], and whether all traces died down."""
        spec = self.electronics.spec
        trace = self._traces(loop_gain)
        rest = trace[-len(trace) // 4 :].mean(axis=0)
        swing = trace[-len(trace) // 4 :].std(axis=0)
        quiet = bool((swing[:, self.members] < LEFT * KICK_UNITS).all())
        step_us = 1 / spec.sample_rate_mhz
        decay, frequency = [], []
        for ring in self.members:
            z = (trace[:, :, ring] - (rest[:, ring] if quiet else 0.0))[SKIP:]
            now, then = z[:-1].reshape(-1, RING), z[1:].reshape(-1, RING)
            design = np.concatenate([now, np.ones((len(now), 1))], axis=1)
            fitted = np.linalg.lstsq(design, then, rcond=None)[0][:RING].T
            roots = np.linalg.eigvals(fitted)
            slow = roots[int(np.abs(np.where(roots.imag >= 0, roots, 0)).argmax())]
            decay.append(-np.log(max(abs(slow), 1e-12)) * spec.tau_us / step_us)
            frequency.append(abs(np.angle(slow)) / (2 * np.pi * step_us))
        return np.array(decay), np.array(frequency), quiet

    def turn_off(self) -> None:
        """Gain off. Raises DeviceFault where the rows do not come to rest without it."""
        trace = self._traces(0.0)
        limit = QUIET_UNITS * self.electronics.spec.adc.range_units
        moving = trace[-len(trace) // 4 :].std(axis=0).max(axis=0)
        if moving.max() > limit:
            raise DeviceFault(
                f"row {int(moving.argmax())} moves by {moving.max():.2g} units with the gain off; allowed: "
                f"{limit:.2g}",
                device=self.electronics.name, operation="ramp_gain",
            )  # fmt: skip

    def _traces(self, loop_gain: float) -> FloatArray:
        """States [S, kicks, n] in units after presets that kick each member of the rings in turn."""
        spec = self.electronics.spec
        n, kicks = spec.n_channels, 2 * RING
        code, gain = np.zeros(n, np.int64), np.zeros(n)
        if loop_gain > 0:
            rows = self.members.reshape(-1)
            code[rows] = spec.hidden_gain.code(loop_gain / self.weight[rows])
            gain = spec.hidden_gain.value(code)
        top, unit = spec.dac.max_code, spec.dac.units_per_code
        held = self.held_units + gain * self.per_gain_units
        bias = np.clip(np.rint(held / unit), -top, top).astype(np.int64)
        start = np.zeros((kicks, n))
        for k in range(RING):
            start[2 * k, self.members[:, k]] = KICK_UNITS
            start[2 * k + 1, self.members[:, k]] = -KICK_UNITS
        batch = kicks * REPEATS
        codes = SettleCodes(
            bias=np.tile(bias, (batch, 1)),
            gain=code[None],
            leak=np.full((1, n), spec.max_leak_code),
            gain_range=np.ones(n, np.int64),
            start=np.tile(np.rint(start / unit).astype(np.int64), (REPEATS, 1)),
            step_id=STEP_ID + 5,
            sample_id=np.arange(batch),
        )
        read = self.electronics.settle(codes, wait_us=WAIT_TAU * spec.tau_us, trace=True)
        if read.trace_counts is None:
            raise DeviceFault(
                "gave no trace; allowed: electronics that sample during the wait",
                device=self.electronics.name, operation="ramp_gain",
            )  # fmt: skip
        seen = read.trace_counts * spec.adc.units_per_code
        return np.asarray(seen.reshape(len(seen), REPEATS, kicks, n).mean(axis=1))
