"""Phase lag: how late each cell passes on what it hears.

Every cell carries full scale of either sign, in 16 segments. Model, in the mean over stationary reads:

    w + trim + anchor + sum_j [(s sign_j K_j + offset_j) cos lag_j sin(theta_j - theta_i)
                               - (s sign_j K_j + offset_j) sin lag_j cos(theta_j - theta_i)] = dtheta_i/dt

Estimator: row-wise least squares with the pattern's second run as instrument (see `stationary`), the ratio
of a cell's offset to its full scale taken from the couplings' record in the late part; the lag is the angle
of a cell's two coefficients. Uncertainty: White's, with those of the anchors, and of the read skews, which no
equation of rest tells from a lag. A dead cell has no lag.
"""

from __future__ import annotations

import numpy as np

from labctl.devices import OscillatorBoard
from labctl_calibration.oscillators.anchors import (
    KIND as ANCHOR_KIND,
)
from labctl_calibration.oscillators.anchors import (
    MISFIT_UNITS,
    Anchors,
    anchor_range,
    duration_s,
    random_trims,
    trim_units,
)
from labctl_calibration.oscillators.couplings import KIND as COUPLING_KIND
from labctl_calibration.oscillators.couplings import PULL_UNITS, STRENGTH, TRIM
from labctl_calibration.oscillators.frequency import KIND as FREQUENCY_KIND
from labctl_calibration.oscillators.frequency import require_counted
from labctl_calibration.oscillators.skew import KIND as SKEW_KIND
from labctl_calibration.oscillators.skew import ReadPaths
from labctl_calibration.oscillators.stationary import Patterns, RowFit, check_alive, fit_row, stationary_terms
from labctl_calibration.procedure import Devices, Measured, Plot, Procedure, Quantity, Tell, Upstream, require

KIND = "oscillator phase lag"
STEP_ID = 0x5C000004
SEGMENTS, PER_SEGMENT = 16, 192
MAX_LAG_RAD = 0.5


def measure_lag(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    """Run couplings of either sign at full scale, fit each oscillator's row."""
    board = devices.get(OscillatorBoard)
    spec, wiring = board.spec, board.spec.topology
    frequency, paths = require(upstream, FREQUENCY_KIND), ReadPaths(require(upstream, SKEW_KIND))
    require_counted(board, frequency, "measure_lag")
    anchors = Anchors(require(upstream, ANCHOR_KIND))
    cells = require(upstream, COUPLING_KIND)
    carries = spec.usable & (cells.array("dead") < 0.5)
    # a cell's offset lags as all that it passes on does; in units of its own full scale
    aside = cells.array("offset_units") / np.where(carries, 1 + cells.array("gain"), 1.0)
    tell("measuring lags", 0, 1)
    rng = np.random.Generator(np.random.Philox(key=STEP_ID + 7))
    half = np.repeat([-1, 1], SEGMENTS // 2)[:, None]
    signs = rng.permuted(np.broadcast_to(half, (SEGMENTS, wiring.n_edges)), axis=0) * carries
    heard = np.bincount(wiring.target, minlength=spec.n).max(initial=1)
    most = min(PULL_UNITS / np.sqrt(heard / 2) / 2, spec.max_scale_units)
    scale = np.full(SEGMENTS, max(1, round(most / spec.scale_units_per_code)))
    trims = random_trims(board, frequency, SEGMENTS, TRIM, STEP_ID)
    patterns = Patterns(
        signs * spec.max_coupling_code, scale, trims, PER_SEGMENT, anchor_range(board, STRENGTH), STEP_ID
    )
    terms = stationary_terms(board, patterns, paths)
    require_counted(board, frequency, "measure_lag")  # it is the same board still, every oscillator alive
    seg, units = terms.segment, signs * float(scale[0] * spec.scale_units_per_code)
    applied = trim_units(board, frequency, trims)[seg]
    lag, sd = np.zeros(wiring.n_edges), np.full(wiring.n_edges, np.nan)
    fits: list[RowFit] = []
    for i in range(spec.n):
        row = np.flatnonzero(wiring.target == i)
        live = row[carries[row]]
        m = len(live)
        direct = terms.sine[:, :, live] * units[seg][None, :, live]
        late = -terms.cosine[:, :, live] * (units[seg][None, :, live] + aside[live])
        free = np.ones((2, len(seg), 1))
        cos, sin = np.cos(anchors.phase_rad[i]), np.sin(anchors.phase_rad[i])
        pull, turned = terms.pull[..., i], terms.turned[..., i]
        along, across = cos * pull + sin * turned, cos * turned - sin * pull
        fit = fit_row(
            np.concatenate([direct, late, terms.sine[:, :, row], free], axis=2),
            applied[:, i] + anchors.gain[i] * along - terms.rate[..., i],
            (*(f"{what} of {wiring.name(int(e))}" for what in ("coupling", "lag") for e in live),
             *(f"offset of {wiring.name(int(e))}" for e in row), "detuning"),
            device=board.name,
            given=np.stack([along, anchors.gain[i] * across], axis=2),
            given_sd=np.array([anchors.gain_sd[i], anchors.phase_sd[i]]),
        )  # fmt: skip
        fits.append(fit)
        b, cov = fit.coefficients, fit.covariance
        p, q = b[:m], b[m : 2 * m]
        lag[live] = np.arctan2(q, p)
        square = p**2 + q**2
        at = np.arange(m)
        variance = (q**2 * cov[at, at] + p**2 * cov[m + at, m + at] - 2 * p * q * cov[at, m + at]) / square**2
        sd[live] = np.sqrt(variance)
    check_alive(board, fits, MISFIT_UNITS, "measure_lag")
    sd = np.sqrt(sd**2 + paths.skew_sd_rad[wiring.source] ** 2 + paths.skew_sd_rad[wiring.target] ** 2)
    weight = 1 / sd[carries] ** 2
    mean = float((lag[carries] * weight).sum() / weight.sum()) if carries.any() else 0.0
    mean_sd = float(1 / np.sqrt(weight.sum())) if carries.any() else 0.0
    far = np.flatnonzero(carries & (np.abs(lag) > MAX_LAG_RAD))
    return Measured(
        kind=KIND,
        arrays={"lag_rad": lag, "lag_rad_sd": sd},
        quantities=(
            Quantity("phase lag", mean, mean_sd, "rad", -MAX_LAG_RAD, MAX_LAG_RAD, "mean over live cells"),
            Quantity("spread", float(lag[carries].std()) if carries.any() else 0.0, mean_sd, "rad"),
        ),
        residuals={"misfit_units": np.array([np.sqrt(np.mean(fit.residual**2)) for fit in fits])},
        settings={"samples": 2 * SEGMENTS * PER_SEGMENT, "temperature_c": board.temperature_c()},
        findings=tuple(f"{wiring.name(int(e))} lags by {lag[e]:.2f} rad" for e in far[:8]),
        plots=(Plot("Phase lag", np.arange(wiring.n_edges, dtype=np.float64), lag, "edge", "rad", sd),),
    )


def _duration_s(devices: Devices) -> float:
    return duration_s(devices.get(OscillatorBoard), 2 * SEGMENTS * PER_SEGMENT)


LAG = Procedure(
    name="phase-lag",
    kind=KIND,
    title="Phase lag of the couplings",
    needs=(FREQUENCY_KIND, SKEW_KIND, ANCHOR_KIND, COUPLING_KIND),
    device=OscillatorBoard,
    roles=(OscillatorBoard,),
    validity_s=30 * 86_400.0,
    notices=("a lag beyond a radian's half", "loss of lock", "a channel that dies mid-procedure"),
    duration_s=_duration_s,
    measure=measure_lag,
    essential=False,
)
