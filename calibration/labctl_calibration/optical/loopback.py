"""Electronics loopback: what a row's DAC, integrator and ADC make of a bias, with every gain off.

Model: z = offset + slope b, at leak 1. Estimator: the same levels again and again, spread over cycles that
whole periods of 50 and of 60 Hz fit into, so that mains averages out of each; a line through each cycle's
levels, means over the cycles. Uncertainty: scatter between cycles. What is left of the line, averaged, is the
integral nonlinearity.
"""

from __future__ import annotations

import numpy as np

from labctl.devices import DeviceFault, LoopElectronics
from labctl_calibration.closed_loop import MAINS_US, WORST_LEAK
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

KIND = "loopback"
LEVELS, GROUPS, CYCLES = 8, 8, 8  # each group takes every level once; so many groups a cycle
REACH = 0.9  # of the DAC
WAIT_TAU = 20.0
MOST_CURVED = 0.5  # % of full scale
DAY_S = 86400.0


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    electronics = devices.get(LoopElectronics)
    spec, n = electronics.spec, electronics.spec.n_channels
    level = np.rint(np.linspace(-REACH, REACH, LEVELS) * spec.dac.max_code).astype(np.int64)
    b: FloatArray = np.asarray(level * spec.dac.units_per_code, np.float64)
    z = _settled(electronics, level)
    slopes = np.einsum("l,cln->cn", b, z) / (b**2).sum()
    offsets = z.mean(axis=1)
    slope, offset = slopes.mean(axis=0), offsets.mean(axis=0)
    slope_sd, offset_sd = standard_error(slopes), standard_error(offsets)
    low, high = WORST_LEAK
    wrong = np.flatnonzero(~((slope > 1 / high) & (slope < 1 / low)))
    if len(wrong):
        raise DeviceFault(
            f"row {wrong[0]} does not follow its bias: {slope[wrong[0]]:.3g} units a unit; allowed: "
            f"{1 / high:g} to {1 / low:g}",
            device=electronics.name, operation="loopback",
        )  # fmt: skip
    curve = (z - slope * b[:, None] - offsets[:, None]).mean(axis=0)
    left = z - slope * b[:, None] - offsets[:, None] - curve
    noise = np.sqrt((left**2).sum(axis=(0, 1)) / ((CYCLES - 1) * (LEVELS - 1)) * GROUPS)
    if not noise.min() > 0:
        raise DeviceFault(
            f"readings of row {int(noise.argmin())} are the same in every cycle, to the last bit; allowed: "
            "noise; is the ADC stuck?",
            device=electronics.name, operation="loopback",
        )  # fmt: skip
    inl = 100 * np.abs(curve).max(axis=0) / spec.adc.range_units
    inl_sd = 100 * noise / np.sqrt(GROUPS * CYCLES) / spec.adc.range_units
    worst, largest, usual = int(inl.argmax()), int(np.abs(offset).argmax()), float(np.median(noise))
    channels = np.arange(n, dtype=np.float64)
    return Measured(
        kind=KIND,
        arrays={
            "slope": slope,
            "slope_sd": slope_sd,
            "offset_units": offset,
            "offset_units_sd": offset_sd,
            "window_noise_units": noise,
            "curve_units": curve,
        },
        quantities=(
            Quantity("slope", float(slope.mean()), float(np.sqrt((slope_sd**2).mean() / n)), "",
                     words="state over bias at leak 1, mean of the rows"),
            Quantity("largest offset", float(np.abs(offset[largest])), float(offset_sd[largest]), "units",
                     words=f"row {largest}"),
            Quantity("window noise", usual, usual / float(np.sqrt(2 * n * (CYCLES - 1) * (LEVELS - 1))),
                     "units", words="median row, mains in it"),
            Quantity("nonlinearity", float(inl[worst]), float(inl_sd[worst]), "%", high=MOST_CURVED,
                     words=f"of full scale, integral, worst row, {worst}"),
        ),
        settings={"settles": LEVELS * GROUPS * CYCLES, "cycle_us": MAINS_US},
        findings=(
            f"loopback: slopes {slope.mean():.4f} (sd {slope.std():.4f}), offsets up to "
            f"{np.abs(offset).max():.3f} units, nonlinear by {inl[worst]:.2g}% of full scale at most",
        ),
        plots=(
            Plot("Loopback slopes", channels, slope, "row", "slope", sd=slope_sd),
            Plot("Loopback nonlinearity, worst row", b, curve[:, worst], "bias (units)",
                 "left of the line (units)"),
        ),
    )  # fmt: skip


def _settled(electronics: LoopElectronics, level: np.ndarray) -> FloatArray:
    """States [CYCLES, LEVELS, n] in units, each the mean of a cycle's groups."""
    spec, n = electronics.spec, electronics.spec.n_channels
    rng = np.random.Generator(np.random.Philox(key=16))
    wait_us = WAIT_TAU * spec.tau_us
    spare_us = MAINS_US / GROUPS - LEVELS * (wait_us + spec.window_us)
    dark = np.zeros((1, n), np.int64)
    found = np.zeros((CYCLES, LEVELS, n))
    for k in range(CYCLES * GROUPS):
        order = rng.permutation(LEVELS)
        bias = np.repeat(level[order][:, None], n, axis=1)
        read = electronics.settle(gains_off(spec, bias, bias, draw=DRAWS, first=k * LEVELS), wait_us=wait_us)
        found[k // GROUPS, order] += read.counts * spec.adc.units_per_code / GROUPS
        electronics.probe(dark, at="emitter", repeats=max(1, round(spare_us / spec.window_us)))  # time passes
    return found


def _duration_s(devices: Devices) -> float:
    spec = devices.get(LoopElectronics).spec
    return 1e-6 * CYCLES * max(MAINS_US, GROUPS * LEVELS * (WAIT_TAU * spec.tau_us + spec.window_us))


LOOPBACK = Procedure(
    name="loopback", kind=KIND, title="electronics loopback", needs=(), device=LoopElectronics,
    roles=(LoopElectronics,), validity_s=7 * DAY_S,
    notices=("a row that does not follow its bias", "a stuck ADC", "a DAC or an ADC that is not linear"),
    duration_s=_duration_s, measure=_measure, essential=False,
)  # fmt: skip
