"""The fixed probes of an optical bench: dark, flat, golden vector, settle trace; through its electronics.

Whatever frame is on display stays, and so does the offset null: a look costs a fraction of a millisecond and
may stand between two batches of a run. Patterns come round after round, so that a panel's slow flicker is the
same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labctl.devices import DeviceFault, LoopElectronics, LoopReadout, SettleCodes, WeightModulator
from labctl_calibration.drift.look import FloatArray, Group, Look, Reading
from labctl_calibration.optical.loop_procedures import SETTLING, WEIGHTS
from labctl_calibration.optical.panel_procedures import DARKS as DARKS_KIND
from labctl_calibration.optical.panel_procedures import EMITTERS, REGISTRATION
from labctl_calibration.rows_record import KIND as ROWS_KIND

STEP_ID = 0x0D000000
PATTERNS, ROUNDS = 6, 8  # golden vectors; a round has the flat too
DARKS = 32  # windows
SETTLES = 8  # of each sign
BIAS_UNITS, GAIN = 1.0, 0.08
DRIVE = 0.8  # of phi's range

DARK = Group(
    "dark level", DARKS_KIND, "darks", LoopElectronics, "units", "what the detectors read in the dark"
)
LIGHT = Group("light", EMITTERS, "emitters", LoopElectronics, "", "the light of all emitters")
ROW_LIGHT = Group(
    "golden vector", WEIGHTS, "weights", LoopElectronics, "", "what outputs make of a fixed pattern"
)
SHAPE = Group(
    "shape of the golden vector", REGISTRATION, "registration", WeightModulator, "units",
    "how the light is shared out: by single emitters, or by where cells lie",
)  # fmt: skip
REST = Group(
    "rest", ROWS_KIND, "rows", LoopElectronics, "units", "where the closed loop rests without a bias",
    ("light", "dark level", "golden vector"),
)  # fmt: skip
ANSWER = Group(
    "answer", ROWS_KIND, "rows", LoopElectronics, "", "how far the closed loop follows its bias",
    ("light", "golden vector"),
)  # fmt: skip
TAU = Group(
    "time constant", SETTLING, "settling", LoopElectronics, "us", "how fast the loop settles", ("light",)
)


class OpticalProber:
    """See `labctl_calibration.drift.look.Prober`. Electronics in the order of the device's own channels.

    `null` gives the codes [n] of the offset null in force; dark and flat are told without it.
    """

    title = "dark, flat, golden vector, settle trace"

    def __init__(self, electronics: LoopElectronics, null: Callable[[], FloatArray]) -> None:
        self.electronics, self._null = electronics, null
        self._looks = 0
        n, top = electronics.spec.n_channels, electronics.spec.probe_dac.max_code
        rng = np.random.Generator(np.random.Philox(key=7711))
        signs = rng.choice([-1.0, 1.0], size=(PATTERNS, n)) * DRIVE
        self._round = np.rint(np.concatenate([np.zeros((1, n)), signs]) * top).astype(np.int64)

    @property
    def device_us(self) -> float:
        """By the data sheet."""
        spec = self.electronics.spec
        windows = DARKS + ROUNDS * len(self._round)
        return windows * spec.window_us + 2 * SETTLES * (spec.wait_us + spec.window_us)

    @property
    def patterns(self) -> FloatArray:
        """phi [P, n] of the golden vectors."""
        return np.asarray(self._round[1:] * self.electronics.spec.probe_dac.units_per_code)

    def look(self) -> Look:
        """Read once: DeviceFault where detectors clip."""
        spec, n = self.electronics.spec, self.electronics.spec.n_channels
        unit, null = spec.offset_dac.units_per_code, self._null()
        dark = self.electronics.probe(np.zeros((DARKS, n), np.int64), at="emitter")
        lit = self.electronics.probe(np.tile(self._round, (ROUNDS, 1)))
        if lit.clipped.any():
            rows = np.flatnonzero(lit.clipped.any(axis=0))
            raise DeviceFault(
                f"the detectors of rows {', '.join(map(str, rows[:8]))} clip; allowed: "
                f"{spec.offset_dac.range_units:g} full-scale weights",
                device=self.electronics.name, operation="probe for drift",
            )  # fmt: skip
        seen = (lit.counts * unit).reshape(ROUNDS, len(self._round), n).mean(axis=0)
        settled = self._settle()
        z = settled.counts.reshape(2, SETTLES, n).mean(axis=1) * spec.adc.units_per_code
        windows = len(dark.counts) + len(lit.counts)
        return Look(
            {
                "dark_units": (dark.counts.mean(axis=0) + null) * unit,
                "flat_units": seen[0] + null * unit,
                "golden_units": seen[1:] - seen[0],
                "rest_units": z.mean(axis=0),
                "answer_units": (z[0] - z[1]) / 2,
                "time_constant_us": np.atleast_1d(_time_constant(settled)),
            },
            windows * dark.duration_us + len(settled.counts) * (settled.wait_us + settled.window_us),
        )

    def reading(self, look: Look, reference: Look) -> Reading:
        """Series: dark and rest of each row; light and answers as shares of the reference's, and rows against
        what all rows changed by.
        """
        n = self.electronics.spec.n_channels
        seen, before = look.arrays["golden_units"], reference.arrays["golden_units"]
        light = _share(seen, before)
        left = seen - light * before
        shape = np.sqrt(np.mean(left**2))
        rows = [f"of row {row}" for row in range(n)]
        dark = look.arrays["dark_units"]
        parts: list[tuple[Group, list[str], FloatArray]] = [
            (DARK, ["mean of the rows"], np.atleast_1d(dark.mean())),
            (DARK, rows, dark),
            (LIGHT, ["of all emitters"], np.atleast_1d(light)),
            (SHAPE, [""], np.atleast_1d(shape)),
            (ROW_LIGHT, rows, _row_shares(seen, before) / light),
            (REST, ["mean of the rows"], np.atleast_1d(look.arrays["rest_units"].mean())),
            (REST, rows, look.arrays["rest_units"]),
            (ANSWER, ["mean of the rows"], np.atleast_1d(
                _share(look.arrays["answer_units"], reference.arrays["answer_units"])
            )),
            (TAU, [""], look.arrays["time_constant_us"]),
        ]  # fmt: skip
        return Reading(
            tuple(f"{group.name} {word}".strip() for group, words, _ in parts for word in words),
            np.concatenate([values for _, _, values in parts]),
            tuple(group for group, words, _ in parts for _ in words),
            np.zeros(sum(len(words) for _, words, _ in parts)),
        )

    def _settle(self) -> LoopReadout:
        """One bias and its negative, from rest, little gain: the loop settles on any frame."""
        spec, n = self.electronics.spec, self.electronics.spec.n_channels
        rng = np.random.Generator(np.random.Philox(key=7712))
        bias = np.rint(rng.choice([-1.0, 1.0], size=n) * BIAS_UNITS / spec.dac.units_per_code)
        both = np.repeat(np.stack([bias, -bias]), SETTLES, axis=0).astype(np.int64)
        self._looks += 1
        codes = SettleCodes(
            bias=both,
            gain=np.asarray(spec.hidden_gain.code(np.full((1, n), GAIN))),
            leak=np.full((1, n), spec.max_leak_code),
            gain_range=np.ones(n, np.int64),
            start=np.zeros((2 * SETTLES, n), np.int64),
            step_id=STEP_ID + self._looks % 2**20,
            sample_id=np.arange(2 * SETTLES),
        )
        return self.electronics.settle(codes, trace=True)


def _share(seen: FloatArray, before: FloatArray) -> float:
    """By how much `before` is to be multiplied to come nearest to what is seen; NaN where it is all dark."""
    power = float((before**2).sum())
    return float((seen * before).sum() / power) if power > 0 else float("nan")


def _row_shares(seen: FloatArray, before: FloatArray) -> FloatArray:
    """`_share` of each row [n] over patterns [P, n]; NaN for rows that see nothing."""
    power = (before**2).sum(axis=0)
    lit = power > 1e-3 * power.max(initial=1e-30)
    return np.where(lit, (seen * before).sum(axis=0) / np.where(lit, power, 1.0), np.nan)


def _time_constant(settled: LoopReadout) -> float:
    """Area above the mean approach from rest to the end, us; NaN where the electronics give no trace."""
    if settled.trace_counts is None or settled.trace_time_us is None or len(settled.trace_time_us) < 3:
        return float("nan")
    end = settled.counts
    begun = settled.trace_time_us >= 0
    reached = (settled.trace_counts[begun] * end).sum(axis=(1, 2)) / (end**2).sum()
    return float(np.trapezoid(1 - reached, settled.trace_time_us[begun]))
