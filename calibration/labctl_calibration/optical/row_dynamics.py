"""Rows in time: each row's time constant by its settle trace, and the spectrum of its noise at rest.

Model, with every gain off: z(t) = end + (start - end) exp(-t / T), T = tau / leak; at rest z is an
Ornstein-Uhlenbeck process of that T, sampled, with the ADC's rounding and mains in it. Estimator: traces from
one rail to the other and back, averaged over repeats, fitted row by row by Gauss-Newton in (end, amplitude,
T); long traces at rest, by periodograms averaged over repeats, less mean and slope. Uncertainty: scatter
between blocks of repeats.
"""

from __future__ import annotations

import numpy as np

from labctl.devices import DeviceFault, LoopElectronics
from labctl_calibration.optical.settles import DRAWS, gains_off
from labctl_calibration.procedure import (
    Devices,
    FloatArray,
    Measured,
    Plot,
    Procedure,
    Quantity,
    Tell,
    Upstream,
)
from labctl_calibration.repeats import standard_error

KIND = "row dynamics"
REACH = 0.8  # of the DAC: from -REACH to REACH and back
REPEATS, BLOCKS = 64, 8
WAIT_TAU = 10.0
REST_US, REST_REPEATS = 128.0, 16
ITERATIONS = 8
SLOWEST, FASTEST = 1.6, 0.6  # of the data sheet's time constant
DAY_S = 86400.0


def fit_traces(time_us: FloatArray, trace: FloatArray, guess_us: float) -> FloatArray:
    """(end, amplitude, T us) [3, m] of traces [S, m] = end + amplitude exp(-t / T), by Gauss-Newton."""
    count = trace.shape[1]
    found = np.stack([trace[-1], trace[0] - trace[-1], np.full(count, guess_us)])
    for _ in range(ITERATIONS):
        decay = np.exp(-time_us[:, None] / found[2])
        design = np.stack([np.ones_like(decay), decay, found[1] * decay * time_us[:, None] / found[2] ** 2])
        design = design.transpose(2, 1, 0)  # [m, S, 3]
        left = (trace - found[0] - found[1] * decay).T[:, :, None]
        turned = design.transpose(0, 2, 1)
        step = np.linalg.solve(turned @ design, turned @ left)[:, :, 0].T
        found = found + step
        found[2] = np.clip(found[2], 0.05 * guess_us, 20 * guess_us)
    return found


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    electronics = devices.get(LoopElectronics)
    spec, n = electronics.spec, electronics.spec.n_channels
    high = round(REACH * spec.dac.max_code)
    sign = np.tile([1, -1], REPEATS // 2)[:, None].repeat(n, axis=1)
    time_us, seen = _traces(electronics, high * sign, -high * sign, WAIT_TAU * spec.tau_us, DRAWS + 1)
    folded = seen * sign  # [S, REPEATS, n]: every one rises
    average = folded.mean(axis=1)
    swing = average[-1] - average[0]
    still = np.flatnonzero(swing < 0.25 * np.median(swing))
    if len(still) or not np.median(swing) > 0.5 * REACH * spec.dac.range_units:
        row = int(still[0]) if len(still) else int(swing.argmin())
        raise DeviceFault(
            f"row {row} moves by {swing[row]:.3g} units between its rails; allowed: a quarter of the "
            f"median's {np.median(swing):.3g} or more; has it died?",
            device=electronics.name, operation="row dynamics",
        )  # fmt: skip
    blocks = folded.reshape(len(seen), BLOCKS, -1, n).mean(axis=2)
    parts = fit_traces(time_us, blocks.reshape(len(seen), -1), spec.tau_us).reshape(3, BLOCKS, n)
    whole = fit_traces(time_us, average, spec.tau_us)
    row_us, row_sd = whole[2], standard_error(parts[2])
    quiet = np.zeros((REST_REPEATS, n), np.int64)
    rest_us, rest = _traces(electronics, quiet, quiet, REST_US, DRAWS + 2)
    keep = rest_us > WAIT_TAU * spec.tau_us
    spacing_us = float(np.median(np.diff(rest_us[keep])))
    frequency_mhz, density, variance = _spectrum(rest[keep], spacing_us)
    noise = np.sqrt(variance.mean(axis=0))
    noise_sd = standard_error(variance) / (2 * np.maximum(noise, 1e-12))
    full = spec.adc.range_units
    worst = int(row_us.argmax())
    channels = np.arange(n, dtype=np.float64)
    return Measured(
        kind=KIND,
        arrays={
            "row_time_us": row_us,
            "row_time_us_sd": row_sd,
            "rest_noise_units": noise,
            "rest_noise_units_sd": noise_sd,
            "trace_time_us": time_us,
            "trace_units": average,
            "frequency_mhz": frequency_mhz,
            "noise_density_units2_per_mhz": density,
        },
        quantities=(
            Quantity("time constant", float(np.median(row_us)),
                     float(1.2533 * row_us.std(ddof=1) / np.sqrt(n)), "us",
                     low=FASTEST * spec.tau_us, high=SLOWEST * spec.tau_us, words="median row, at leak 1"),
            Quantity("slowest row", float(row_us[worst]), float(row_sd[worst]), "us",
                     high=SLOWEST * spec.tau_us, words=f"row {worst}"),
            Quantity("fastest row", float(row_us.min()), float(row_sd[row_us.argmin()]), "us",
                     low=FASTEST * spec.tau_us),
            Quantity("noise at rest", 100 * float(np.median(noise)) / full,
                     100 * float(np.sqrt((noise_sd**2).mean() / n)) / full, "%", words="of full scale, rms"),
        ),
        settings={"repeats": REPEATS, "rest_us": REST_US},
        findings=(
            f"time constants are {np.median(row_us):.3f} us ({row_us.min():.3f} to {row_us.max():.3f}); rows "
            f"scatter at rest by {100 * np.median(noise) / full:.3f}% of full scale",
        ),
        plots=(
            Plot("Settle trace of the slowest row", time_us, average[:, worst], "time (us)",
                 "state (units)",
                 fit=whole[0, worst] + whole[1, worst] * np.exp(-time_us / whole[2, worst])),
            Plot("Time constants", channels, row_us, "row", "time constant (us)", sd=row_sd),
            Plot("Noise at rest", frequency_mhz, density.mean(axis=1), "frequency (MHz)",
                 "density (units2/MHz)"),
        ),
    )  # fmt: skip


def _traces(
    electronics: LoopElectronics, bias: np.ndarray, start: np.ndarray, wait_us: float, draws: int
) -> tuple[FloatArray, FloatArray]:
    """(times [S], states [S, B, n] in units) with every gain off and leak 1. DeviceFault without a trace."""
    spec = electronics.spec
    read = electronics.settle(gains_off(spec, bias, start, draw=draws), wait_us=wait_us, trace=True)
    if read.trace_counts is None or read.trace_time_us is None:
        raise DeviceFault(
            "gave no trace; allowed: electronics that sample during the wait",
            device=electronics.name, operation="row dynamics",
        )  # fmt: skip
    return np.asarray(read.trace_time_us, np.float64), read.trace_counts * spec.adc.units_per_code


def _spectrum(rest: FloatArray, spacing_us: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(frequencies MHz [F], density [F, n] one-sided, variances [B, n]) of series [S, B, n], each less its
    mean and slope.
    """
    count = len(rest)
    along = np.stack([np.ones(count), np.linspace(-1, 1, count)], axis=1)
    flat = rest.reshape(count, -1)
    left = (flat - along @ np.linalg.lstsq(along, flat, rcond=None)[0]).reshape(rest.shape)
    power = (np.abs(np.fft.rfft(left, axis=0)) ** 2).mean(axis=1) * 2 * spacing_us / count
    variance = (left**2).sum(axis=0) / (count - 2)
    return np.asarray(np.fft.rfftfreq(count, spacing_us)[1:], np.float64), power[1:], variance


def _duration_s(devices: Devices) -> float:
    spec = devices.get(LoopElectronics).spec
    first = REPEATS * (WAIT_TAU * spec.tau_us + spec.window_us)
    return 1e-6 * (first + REST_REPEATS * (REST_US + spec.window_us))


ROW_DYNAMICS = Procedure(
    name="row-dynamics", kind=KIND, title="time constants and noise spectra", needs=(),
    device=LoopElectronics, roles=(LoopElectronics,), validity_s=30 * DAY_S,
    notices=("a row that died", "a row that is slower than its data sheet", "electronics without a trace"),
    duration_s=_duration_s, measure=_measure, essential=False,
)  # fmt: skip
