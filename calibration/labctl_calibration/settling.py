"""How long states take to settle, by traces of random biases on the frame on display.

A sample has settled when all its rows stay within 1% of full scale of where they end. Traces are averaged
over repeats, so that noise does not count as movement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceFault, LoopElectronics, LoopSpec, SettleCodes
from labctl_calibration.closed_loop import BIAS_UNITS, LOOP_GAIN, STEP_ID
from labctl_calibration.effective_map import EffectiveMap

FloatArray = NDArray[np.float64]
PATTERNS, REPEATS = 96, 16
SEED = 606
BAND = 0.01  # of full scale
WAIT_TAU = 40.0
MOST_UNSETTLED = 0.05  # of the patterns
REDRAWS = 200  # of the patterns, for the error of the percentile


@dataclass(frozen=True, eq=False)
class Settling:
    """settle_us [PATTERNS], from release to the last entry into the band (infinite: not settled at the end);
    the slowest pattern's largest distance to its end over time, and p95 with its standard error.
    """

    settle_us: FloatArray
    time_us: FloatArray
    distance: FloatArray
    p95_us: float
    p95_error_us: float

    @property
    def unsettled(self) -> float:
        """Share of patterns that still moved."""
        return float(np.isinf(self.settle_us).mean())


def measure_settling(electronics: LoopElectronics, light: EffectiveMap) -> Settling:
    """Settle `PATTERNS` random biases from rest at half the gain of oscillation, with traces.

    Raises DeviceFault for electronics that give no trace, or where more than 5% of the patterns never settle.
    """
    spec = electronics.spec
    bias, code = settling_patterns(spec, light.powers[0])
    return settling_of(electronics, bias, code, STEP_ID + 6)


def settling_patterns(
    spec: LoopSpec, weights: FloatArray, *, seed: int = SEED, count: int = PATTERNS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes of random biases [count, n] and of the gain [1, n], for effective weights [n, n] as probed."""
    n = spec.n_channels
    slowest = float(np.abs(np.linalg.eigvals(weights)).max())
    code = spec.hidden_gain.code(np.full((1, n), LOOP_GAIN / max(slowest, 1e-3)))
    rng = np.random.Generator(np.random.Philox(key=seed))
    units = rng.uniform(-BIAS_UNITS, BIAS_UNITS, (count, n)) * rng.uniform(0.1, 1.0, (count, 1))
    return np.rint(units / spec.dac.units_per_code).astype(np.int64), code


def settling_of(
    electronics: LoopElectronics, bias: NDArray[np.int64], code: NDArray[np.int64], step_id: int
) -> Settling:
    """Settle these biases [P, n] at this gain [1, n], each REPEATS times. Raises as `measure_settling`."""
    spec = electronics.spec
    patterns, n = bias.shape
    batch = patterns * REPEATS
    codes = SettleCodes(
        bias=np.tile(bias, (REPEATS, 1)),
        gain=code,
        leak=np.full((1, n), spec.max_leak_code),
        gain_range=np.ones(n, np.int64),
        start=np.zeros((batch, n), np.int64),
        step_id=step_id,
        sample_id=np.arange(batch),
    )
    read = electronics.settle(codes, wait_us=WAIT_TAU * spec.tau_us, trace=True)
    if read.trace_counts is None or read.trace_time_us is None:
        raise DeviceFault(
            "gave no trace; allowed: electronics that sample during the wait",
            device=electronics.name, operation="measure_settling",
        )  # fmt: skip
    seen = read.trace_counts * spec.adc.units_per_code
    trace = seen.reshape(len(seen), REPEATS, patterns, n).mean(axis=1)
    quarter = max(1, len(trace) // 4)
    away = np.abs(trace - trace[-quarter:].mean(axis=0)).max(axis=2) / spec.adc.range_units  # [S, patterns]
    time_us = read.trace_time_us
    settle = _last_entry(away > BAND, time_us, quarter)
    if np.isinf(settle).mean() > MOST_UNSETTLED:
        raise DeviceFault(
            f"{100 * np.isinf(settle).mean():.0f}% of the samples still move by more than {100 * BAND:g}% of "
            f"full scale after {time_us[-1]:.3g} us; allowed: {100 * MOST_UNSETTLED:g}%",
            device=electronics.name, operation="measure_settling",
        )  # fmt: skip
    rng = np.random.Generator(np.random.Philox(key=SEED + 1))
    drawn = settle[rng.integers(0, patterns, (REDRAWS, patterns))]
    p95 = np.quantile(drawn, 0.95, axis=1, method="higher")
    worst = int(np.where(np.isinf(settle), -1.0, settle).argmax())
    return Settling(
        settle,
        time_us,
        away[:, worst],
        float(np.quantile(settle, 0.95, method="higher")),
        float(np.std(p95, ddof=1)) if np.isfinite(p95).all() else np.nan,
    )


def _last_entry(outside: NDArray[np.bool_], time_us: FloatArray, quarter: int) -> FloatArray:
    """Time of the first sample after which a column stays inside; infinite where it does not."""
    last = len(outside) - 1 - outside[::-1].argmax(axis=0)
    ever = outside.any(axis=0)
    first_inside = np.where(ever, last + 1, 0)
    late = first_inside >= len(outside) - quarter + 1
    return np.where(late, np.inf, time_us[np.minimum(first_inside, len(outside) - 1)])
