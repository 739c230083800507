"""Anchors: how strongly, and how turned, an injection reaches each oscillator.

Couplings are at code 0, where only their offsets pull. Random anchors, in 16 segments with random trims.
Model of each oscillator, in the mean over its stationary reads (see `stationary`):

    w + trim + g cos psi (a cos theta - b sin theta) + g sin psi (b cos theta + a sin theta)
      + sum_j [offset_j sin(theta_j - theta_i) + late_j cos(theta_j - theta_i)] = dtheta_i/dt

The trims, counted in units of frequency, are the scale of everything; in-phase and quadrature are one
converter each on these boards, so that their imbalance is told by the two coefficients apart: gain and turn
for the pair. Estimator: row-wise least squares with the pattern's second run as instrument. Uncertainty:
from the residuals.
"""

from __future__ import annotations

import numpy as np

from labctl.devices import CalibrationRecord, OscillatorBoard
from labctl_calibration.oscillators.frequency import KIND as FREQUENCY_KIND
from labctl_calibration.oscillators.frequency import require_counted
from labctl_calibration.oscillators.probing import Codes, FloatArray
from labctl_calibration.oscillators.skew import KIND as SKEW_KIND
from labctl_calibration.oscillators.skew import ReadPaths
from labctl_calibration.oscillators.stationary import (
    SETTLE_UNITS,
    SPACING_UNITS,
    Patterns,
    RowFit,
    Terms,
    check_alive,
    fit_row,
    stationary_terms,
)
from labctl_calibration.procedure import (
    Devices,
    Measured,
    Plot,
    Procedure,
    Quantity,
    Tell,
    Unidentifiable,
    Upstream,
    require,
)

KIND = "oscillator anchors"
STEP_ID = 0x5C000002
SEGMENTS, PER_SEGMENT = 16, 128
STRENGTH = (0.8, 2.5)  # units, of the injection's range where that is shorter
TRIM = 0.45  # units, largest; below the weakest anchor, so that every oscillator rests
LEAST_TRIM = 0.05  # units between the trims of an oscillator
GAIN_RANGE = (0.3, 3.0)
MISFIT_UNITS = 0.5


def measure_anchors(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    """Run random anchors, fit each oscillator's equation."""
    board = devices.get(OscillatorBoard)
    spec, n = board.spec, board.spec.n
    frequency, paths = require(upstream, FREQUENCY_KIND), ReadPaths(require(upstream, SKEW_KIND))
    require_counted(board, frequency, "measure_anchors")
    tell("anchoring", 0, 1)
    trims = random_trims(board, frequency, SEGMENTS, TRIM, STEP_ID)
    patterns = Patterns(
        coupling=np.zeros((SEGMENTS, spec.topology.n_edges), np.int64),
        scale=np.zeros(SEGMENTS, np.int64),
        detuning=trims,
        per_segment=PER_SEGMENT,
        strength=anchor_range(board, STRENGTH),
        step_id=STEP_ID,
    )
    terms = stationary_terms(board, patterns, paths)
    require_counted(board, frequency, "measure_anchors")  # it is the same board still, every oscillator alive
    applied = trim_units(board, frequency, trims)[terms.segment]
    fits = [_fit(board, terms, applied, i) for i in range(n)]
    check_alive(board, fits, MISFIT_UNITS, "measure_anchors")
    both = np.stack([fit.coefficients[:2] for fit in fits])
    covariance = np.stack([fit.covariance[:2, :2] for fit in fits])
    gain, phase = np.hypot(both[:, 0], both[:, 1]), np.arctan2(both[:, 1], both[:, 0])
    to_gain = both / gain[:, None]
    to_phase = np.stack([-both[:, 1], both[:, 0]], axis=1) / gain[:, None] ** 2
    gain_sd = np.sqrt(np.einsum("ni,nij,nj->n", to_gain, covariance, to_gain))
    phase_sd = np.sqrt(np.einsum("ni,nij,nj->n", to_phase, covariance, to_phase) + paths.skew_sd_rad**2)
    findings = [
        f"oscillator {i} hears its anchor {gain[i]:.2f} times as strongly as asked"
        for i in np.flatnonzero((gain < GAIN_RANGE[0]) | (gain > GAIN_RANGE[1]))[:8]
    ]
    if terms.lost:
        findings.append(f"{terms.lost} of {2 * SEGMENTS * PER_SEGMENT} samples ran or lost their lock")
    rms = np.array([np.sqrt(np.mean(fit.residual**2)) for fit in fits])
    return Measured(
        kind=KIND,
        arrays={
            "gain": gain,
            "gain_sd": gain_sd,
            "phase_rad": phase,
            "phase_rad_sd": phase_sd,
        },
        quantities=(
            Quantity("anchor gain", float(gain.mean()), float(np.sqrt((gain_sd**2).mean() / n)), "",
                     *GAIN_RANGE, "mean over oscillators"),
            Quantity("worst gain", float(gain[np.abs(gain - 1).argmax()]),
                     float(gain_sd[np.abs(gain - 1).argmax()]), "", *GAIN_RANGE),
            Quantity("anchor turn", float(np.abs(phase).max()), float(phase_sd.max()), "rad", 0.0, 1.0,
                     "largest"),
        ),
        residuals={"misfit_units": rms},
        settings={"samples": 2 * SEGMENTS * PER_SEGMENT, "temperature_c": board.temperature_c()},
        findings=tuple(findings),
        plots=(Plot("Anchor gain", np.arange(n, dtype=np.float64), gain, "oscillator", "gain", gain_sd),),
    )  # fmt: skip


def _fit(board: OscillatorBoard, terms: Terms, applied: FloatArray, i: int) -> RowFit:
    wiring = board.spec.topology
    row = np.flatnonzero(wiring.target == i)
    ones = np.ones_like(terms.pull[..., :1])
    columns = np.concatenate(
        [terms.pull[..., [i]], terms.turned[..., [i]], terms.sine[..., row], terms.cosine[..., row], ones],
        axis=2,
    )
    known = applied[:, i] - terms.rate[..., i]
    told = float(np.ptp(applied[:, i]))
    if told < LEAST_TRIM:  # nothing sets the equation's scale
        raise Unidentifiable(
            (f"anchor gain of oscillator {i}", "its detuning"), TRIM / max(told, 1e-12), TRIM / LEAST_TRIM,
            device=board.name, operation="measure_anchors",
        )  # fmt: skip
    names = (
        "in-phase gain", "quadrature gain", *(f"offset of {wiring.name(int(e))}" for e in row),
        *(f"lagging offset of {wiring.name(int(e))}" for e in row), "detuning",
    )  # fmt: skip
    return fit_row(columns, known, names, device=board.name)


def random_trims(
    board: OscillatorBoard, frequency: CalibrationRecord, segments: int, most: float, key: int
) -> Codes:
    """Trim codes [S, n] around those that null the detuning, up to `most` units away and within range."""
    spec = board.spec
    rng = np.random.Generator(np.random.Philox(key=key + 1))
    # half of the segments up, half down, in each oscillator's own order: the scale of its equation
    level = np.linspace(-most, most, segments)[:, None].repeat(spec.n, axis=1)
    away = rng.permuted(level, axis=0) / spec.detuning.units_per_code
    codes = np.rint(frequency.array("trim_codes") + away).astype(np.int64)
    return np.clip(codes, -spec.detuning.max_code, spec.detuning.max_code)


def trim_units(board: OscillatorBoard, frequency: CalibrationRecord, codes: Codes) -> FloatArray:
    """What trims [S, n] add to the frequencies, units, by the counted gain."""
    return np.asarray(codes * board.spec.detuning.units_per_code * frequency.array("trim_gain"))


def anchor_range(board: OscillatorBoard, wanted: tuple[float, float]) -> tuple[float, float]:
    """Anchor strengths within the converter's range."""
    top = board.spec.injection.range_units
    return min(wanted[0], 0.4 * top), min(wanted[1], top)


class Anchors:
    """Gains of the two quadratures by a record of this procedure, in the form of the equation."""

    def __init__(self, record: CalibrationRecord) -> None:
        self.gain, self.phase_rad = record.array("gain"), record.array("phase_rad")
        self.gain_sd, self.phase_sd = record.array("gain_sd"), record.array("phase_rad_sd")


def duration_s(board: OscillatorBoard, samples: int) -> float:
    """Device time of stationary samples."""
    spec = board.spec
    reads = min(spec.max_reads, 16)
    return samples * spec.queue_us((SETTLE_UNITS + SPACING_UNITS * reads) * spec.unit_us, reads) * 1e-6


def _duration_s(devices: Devices) -> float:
    return duration_s(devices.get(OscillatorBoard), 2 * SEGMENTS * PER_SEGMENT)


ANCHORS = Procedure(
    name="anchors",
    kind=KIND,
    title="Anchor gain and turn",
    needs=(FREQUENCY_KIND, SKEW_KIND),
    device=OscillatorBoard,
    roles=(OscillatorBoard,),
    validity_s=7 * 86_400.0,
    notices=("dead oscillator", "loss of lock", "a channel that dies mid-procedure", "another board"),
    duration_s=_duration_s,
    measure=measure_anchors,
)
