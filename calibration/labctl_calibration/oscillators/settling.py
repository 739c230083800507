"""Settling: how fast each oscillator returns to its anchor, and so the slowest of the array.

The board is made quiet, all anchors point one way at the same strength, and every oscillator starts at a
random small angle from there, known by design. Model: the part of its phase that follows its own start
decays as exp(-m t); the others' starts are independent of it. Estimator: regression on the start at every
read, then weighted least squares of the exponential. Uncertainty: from the scatter over samples. The
amplitude is small enough for the sine: a tenth of a radian bends the rate by less than a thousandth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import OscillatorBoard
from labctl_calibration.oscillators.anchors import Anchors, anchor_range
from labctl_calibration.oscillators.fitted import KINDS
from labctl_calibration.oscillators.probing import probe_image, require_locked, seen_phases, wrapped
from labctl_calibration.oscillators.quiet import quiet_probe
from labctl_calibration.oscillators.skew import KIND as SKEW_KIND
from labctl_calibration.oscillators.skew import ReadPaths
from labctl_calibration.procedure import Devices, Measured, Plot, Procedure, Quantity, Tell, Upstream, require

KIND = "oscillator settling"
STEP_ID = 0x5C000006
SAMPLES = 4096
ANCHOR_UNITS = 1.0
AMPLITUDE_RAD = 0.12
TIMES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5)  # in time constants of a nominal anchor
SETTLED = 0.01  # of the start, left: settled
SETTLE_TIME = "settle time"
BLOCKS = 32  # of samples, whose scatter is the uncertainty

FloatArray = NDArray[np.float64]


def measure_settling(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    """Start near rest, read on the way, fit each oscillator's return."""
    board = devices.get(OscillatorBoard)
    spec, n = board.spec, board.spec.n
    paths = ReadPaths(require(upstream, SKEW_KIND))
    anchors = Anchors(require(upstream, KINDS[2]))
    tell("measuring settling", 0, 1)
    strength = anchor_range(board, (ANCHOR_UNITS, ANCHOR_UNITS))[1]
    times = np.array(TIMES[: spec.max_reads]) / strength
    board.load(probe_image(board, quiet_probe(board, upstream, float(times[-1]) * 1.1)))
    rng = np.random.Generator(np.random.Philox(key=STEP_ID))
    away = AMPLITUDE_RAD * rng.uniform(-1, 1, (SAMPLES, n))
    start = spec.start_codes(anchors.phase_rad + away)
    away = wrapped(spec.start_rad(start) - anchors.phase_rad)
    full = round(strength / spec.injection.units_per_code)
    both = np.zeros((SAMPLES, n), np.int64), np.full((SAMPLES, n), full)
    seen, good, phases = seen_phases(
        board, first_id=0, step_id=STEP_ID, start=start, read_at_us=times * spec.unit_us, anchors=both
    )
    require_locked(board, good, "measure_settling")
    theta, away = wrapped(paths.phases(seen[good]) - anchors.phase_rad), away[good]
    t = phases.read_at_us / spec.unit_us
    own = away - away.mean(axis=0)
    about = theta - theta.mean(axis=0)
    # each block over its own starts' squares: how large these happened to be is no error of a share
    along = np.stack([(about[k::BLOCKS] * own[k::BLOCKS, None, :]).sum(axis=0) for k in range(BLOCKS)])
    square = np.stack([(own[k::BLOCKS] ** 2).sum(axis=0) for k in range(BLOCKS)])[:, None, :]
    mean = along.sum(axis=0) / square.sum(axis=0)  # [T, n]
    noise = (along / square).std(axis=0, ddof=1).mean(axis=1) / np.sqrt(BLOCKS)
    rate = _rates(t, mean, noise)
    # leave one block out at a time: the blocks hold different samples
    left_out = np.stack(
        [_rates(t, one, noise) for one in (along.sum(axis=0) - along) / (square.sum(axis=0) - square)]
    )
    sd = np.sqrt((BLOCKS - 1) * left_out.var(axis=0))
    slowest = int(rate.argmin())
    expected = anchors.gain * full * spec.injection.units_per_code
    fit = np.exp(-rate[slowest] * t)
    settled_us = float(-np.log(SETTLED) / rate[slowest]) * spec.unit_us
    return Measured(
        kind=KIND,
        arrays={
            "rate_per_unit": rate,
            "rate_per_unit_sd": sd,
            "expected_rate_per_unit": expected,
        },
        quantities=(
            Quantity(SETTLE_TIME, settled_us, settled_us * float(sd[slowest] / rate[slowest]), "us",
                     words=f"to {SETTLED:.0%} of the start, the slowest, anchor of {strength:g} units"),
            Quantity("slowest rate", float(rate[slowest]), float(sd[slowest]), "a unit", 0.2 * strength, None,
                     f"oscillator {slowest}, anchor of {strength:g} units"),
            Quantity("against the anchor's gain", float((rate / expected).mean()),
                     float((sd / expected).mean() / np.sqrt(n)), "", 0.8, 1.2, "mean ratio"),
        ),
        residuals={"share": mean - np.exp(-np.outer(t, rate))},
        settings={"samples": SAMPLES, "anchor_units": strength, "temperature_c": phases.temperature_c},
        findings=tuple(
            f"oscillator {i} returns at {rate[i]:.2f} a unit, its anchor pulls with {expected[i]:.2f}"
            for i in np.flatnonzero(np.abs(rate - expected) > 0.2 * expected + 4 * sd)[:8]
        ),
        plots=(
            Plot("Return of the slowest", t, mean[:, slowest], "units", "share of the start", noise, fit),
        ),
    )  # fmt: skip


def _rates(t: FloatArray, share: FloatArray, noise: FloatArray) -> FloatArray:
    """Rates m [n] of exp(-m t) in shares [T, n] of noise [T], by Newton's method."""
    weight = 1 / np.maximum(noise, 1e-9)[:, None] ** 2
    rate = np.full(share.shape[1], 1.0 / float(np.mean(t)))
    early = np.clip(share[0], 1e-3, 0.999)
    rate = np.clip(-np.log(early) / t[0], 0.05 * rate, 20 * rate)
    for _ in range(12):
        model = np.exp(-np.outer(t, rate))
        slope = -t[:, None] * model
        step = (weight * slope * (share - model)).sum(axis=0) / (weight * slope**2).sum(axis=0)
        rate = np.clip(rate + np.clip(step, -0.5 * rate, rate), 1e-3, None)
    return np.asarray(rate)


def _duration_s(devices: Devices) -> float:
    spec = devices.get(OscillatorBoard).spec
    return SAMPLES * spec.queue_us(TIMES[-1] / ANCHOR_UNITS * 1.1 * spec.unit_us, len(TIMES)) * 1e-6


SETTLING = Procedure(
    name="settling",
    kind=KIND,
    title="Settling rate",
    needs=KINDS,
    device=OscillatorBoard,
    roles=(OscillatorBoard,),
    validity_s=30 * 86_400.0,
    notices=("an oscillator that does not follow its anchor", "loss of lock"),
    duration_s=_duration_s,
    measure=measure_settling,
    essential=False,
)
