"""What phases near rest say of an oscillator's equation: means of its terms, and row-wise least squares.

Over the time of the reads the mean of the right-hand side is what the phase moved by, over that time, but for
the diffusion, whose mean is 0: exactly and term by term, whatever state of rest a sample is at. Some patterns
of anchors hold an oscillator so weakly that it still creeps to its rest when it is read, alike in every run,
so that what it moved by is taken along and not taken for 0. So each oscillator's equation is
linear in its parameters given the means of its terms, sin(theta_j - theta_i), cos theta_i and so on. Phases
are read with noise, which shrinks the mean of a sine of them by exp(-variance / 2): undone by the read noise
that was measured. What is left is the noise of a mean of few reads: errors in variables. Each pattern of
anchors is therefore run twice, and the second run is the instrument of the first, and the first of the
second: what the two have in common is no noise, so that the estimate is consistent. Uncertainties are
White's, from the residuals, pattern by pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceFault, OscillatorBoard, Topology
from labctl_calibration.oscillators.probing import (
    Codes,
    FloatArray,
    Probe,
    probe_image,
    require_locked,
    seen_phases,
    wrapped,
)
from labctl_calibration.oscillators.skew import ReadPaths
from labctl_calibration.procedure import Unidentifiable

SETTLE_UNITS, SPACING_UNITS = 8.0, 0.6
MAX_DRIFT_RAD = 0.8  # between the first and the second half of a sample's reads: it runs, or still settles
MAX_RESTLESS = 0.4  # of a segment's samples in which an oscillator does so: it died, or nothing holds it
MAX_CONDITION = 1e7
CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Patterns:
    """What is run: segments with their codes, and for each of them `per_segment` anchor patterns.

    coupling [S, E], scale [S], detuning [S, n]: codes. strength: smallest and largest anchor, units.
    """

    coupling: Codes
    scale: Codes
    detuning: Codes
    per_segment: int
    strength: tuple[float, float]
    step_id: int


@dataclass(frozen=True, eq=False)
class Terms:
    """Means over a sample's reads of an equation's terms, for two runs of P patterns each.

    sine, cosine [2, P, E]: of theta_source - theta_target. pull, turned [2, P, n]: a cos theta - b sin theta,
    and b cos theta + a sin theta. rate [2, P, n]: mean dtheta/dt from the first read to the last, a unit.
    segment [P]: which was played. lost: samples left out.
    """

    sine: FloatArray
    cosine: FloatArray
    pull: FloatArray
    turned: FloatArray
    rate: FloatArray
    segment: Codes
    lost: int


def stationary_terms(board: OscillatorBoard, patterns: Patterns, paths: ReadPaths) -> Terms:
    """Run every pattern twice and average its terms. DeviceFault where most samples lost their lock."""
    spec = board.spec
    wiring = spec.topology
    reads = min(spec.max_reads, 16)
    times = (SETTLE_UNITS + SPACING_UNITS * np.arange(reads)) * spec.unit_us
    rng = np.random.Generator(np.random.Philox(key=patterns.step_id))
    parts: list[Terms] = []
    units = SETTLE_UNITS + SPACING_UNITS * reads
    segments = len(patterns.scale)
    for first in range(0, segments, spec.depth):
        held = slice(first, min(first + spec.depth, segments))
        board.load(
            probe_image(
                board, Probe(units, patterns.coupling[held], patterns.scale[held], patterns.detuning[held])
            )
        )
        for segment in range(held.start, held.stop):
            shape = (patterns.per_segment, spec.n)
            angle = rng.uniform(-np.pi, np.pi, shape)
            strength = rng.uniform(*patterns.strength, shape)
            step = spec.injection.units_per_code
            a, b = (np.rint(strength / step * of(angle)).astype(np.int64) for of in (np.sin, np.cos))
            start = spec.start_codes(np.concatenate([angle, angle]))
            seen, good, phases = seen_phases(
                board,
                first_id=2 * segment * patterns.per_segment,
                step_id=patterns.step_id,
                start=start,
                read_at_us=times,
                segment=segment - first,
                anchors=(np.concatenate([a, a]), np.concatenate([b, b])),
            )
            require_locked(board, good, "stationary_terms")
            theta = paths.phases(seen)
            _require_rest(board, theta[good])
            took = float(phases.read_at_us[-1] - phases.read_at_us[0]) / spec.unit_us
            applied = np.asarray(a * step), np.asarray(b * step)
            parts.append(_terms(theta, good, applied, wiring, paths, segment, took))
    return Terms(
        sine=np.concatenate([p.sine for p in parts], axis=1),
        cosine=np.concatenate([p.cosine for p in parts], axis=1),
        pull=np.concatenate([p.pull for p in parts], axis=1),
        turned=np.concatenate([p.turned for p in parts], axis=1),
        rate=np.concatenate([p.rate for p in parts], axis=1),
        segment=np.concatenate([p.segment for p in parts]),
        lost=sum(p.lost for p in parts),
    )


def _terms(
    theta: FloatArray,
    good: NDArray[np.bool_],
    anchors: tuple[FloatArray, FloatArray],
    wiring: Topology,
    paths: ReadPaths,
    segment: int,
    took: float,
) -> Terms:
    """Of phases [2 P, T, n] of two runs of P patterns, read over `took` units; patterns of which a run is no
    good are left out. Means over the reads are by the trapezoidal rule, so that they belong to the rate.
    """
    count = theta.shape[0] // 2
    fine = good & (_drift(theta).max(axis=1) < MAX_DRIFT_RAD)
    kept = np.flatnonzero(fine[:count] & fine[count:])
    own = paths.noise_rad**2
    of_pair = np.exp((own[wiring.source] + own[wiring.target]) / 2)
    of_one = np.exp((own + paths.common_rad**2) / 2)
    sine, cosine = (np.empty((2, len(kept), wiring.n_edges)) for _ in range(2))
    pull, turned, rate = (np.empty((2, len(kept), theta.shape[2])) for _ in range(3))
    share = np.ones(theta.shape[1])
    share[[0, -1]] = 0.5 if len(share) > 1 else 1.0
    share /= share.sum()
    a, b = anchors[0][kept], anchors[1][kept]
    for run in range(2):
        own_theta = theta[kept + run * count]
        for begin in range(0, len(kept), CHUNK):
            part = slice(begin, begin + CHUNK)
            s, c = np.sin(own_theta[part]), np.cos(own_theta[part])
            # mean over reads of products of two oscillators, edge by edge
            sj, si = s[..., wiring.source], s[..., wiring.target]
            cj, ci = c[..., wiring.source], c[..., wiring.target]
            sine[run, part] = np.einsum("t,pte->pe", share, sj * ci - cj * si) * of_pair
            cosine[run, part] = np.einsum("t,pte->pe", share, cj * ci + sj * si) * of_pair
            mean_s = np.einsum("t,ptn->pn", share, s) * of_one
            mean_c = np.einsum("t,ptn->pn", share, c) * of_one
            pull[run, part] = a[part] * mean_c - b[part] * mean_s
            turned[run, part] = b[part] * mean_c + a[part] * mean_s
        rate[run] = wrapped(own_theta[:, -1] - own_theta[:, 0]) / took if took > 0 else 0.0
    return Terms(sine, cosine, pull, turned, rate, np.full(len(kept), segment), 2 * (count - len(kept)))


def _drift(theta: FloatArray) -> FloatArray:
    """How far each phase [B, T, n] turns from the first half of the reads to the second [B, n]."""
    half = theta.shape[1] // 2
    return np.asarray(np.abs(wrapped(_middle(theta[:, half:]) - _middle(theta[:, : max(half, 1)]))))


def _require_rest(board: OscillatorBoard, theta: FloatArray) -> None:
    """DeviceFault naming oscillators that do not rest in much of a segment."""
    restless = (_drift(theta) > MAX_DRIFT_RAD).mean(axis=0)
    bad = np.flatnonzero(restless > MAX_RESTLESS)
    if len(bad):
        raise DeviceFault(
            f"oscillators {', '.join(map(str, bad[:8]))} do not come to rest in {restless[bad[0]]:.0%} of a "
            f"segment's samples; allowed: {MAX_RESTLESS:.0%}: they died, or nothing holds them",
            device=board.name, operation="stationary_terms",
        )  # fmt: skip


def _middle(theta: FloatArray) -> FloatArray:
    """Mean direction [B, n] of some reads [B, T, n]."""
    return np.asarray(np.angle(np.exp(1j * theta).mean(axis=1)))


@dataclass(frozen=True, eq=False)
class RowFit:
    """Coefficients [m] with their covariance [m, m]; residual [P]: mean of the two runs' misfits.

    shift [m, h]: what the coefficients move by where a quantity that was taken as known moves by 1.
    """

    coefficients: FloatArray
    covariance: FloatArray
    residual: FloatArray
    shift: FloatArray

    @property
    def sd(self) -> FloatArray:
        """Standard uncertainties [m]."""
        return np.asarray(np.sqrt(self.covariance.diagonal()))


def fit_row(
    columns: FloatArray,
    known: FloatArray,
    names: Sequence[str],
    *,
    device: str,
    given: FloatArray | None = None,
    given_sd: FloatArray | None = None,
) -> RowFit:
    """Coefficients b with columns b + known = 0 in the mean, of two runs: columns [2, P, m], known [2, P].

    given [2, P, h]: derivatives of `known` by quantities of uncertainty given_sd [h], which the covariance
    then contains. Raises Unidentifiable where the columns do not tell their coefficients apart.
    """
    one, other = columns
    size = np.sqrt(np.maximum(np.mean(one * other, axis=0), 1e-30))
    one, other = one / size, other / size
    gram = one.T @ other + other.T @ one
    values, vectors = np.linalg.eigh(gram)
    patterns = one.shape[0]
    if values[0] <= 0 or values[-1] > MAX_CONDITION * values[0] or patterns <= one.shape[1]:
        weak = np.argsort(-np.abs(vectors[:, 0]))[:3]
        condition = float(values[-1] / values[0]) if values[0] > 0 else float("inf")
        raise Unidentifiable(
            tuple(names[k] for k in weak), condition, MAX_CONDITION, device=device, operation="fit_row"
        )
    inverse = (vectors / values) @ vectors.T
    found = -inverse @ (other.T @ known[0] + one.T @ known[1])
    left = np.stack([one @ found + known[0], other @ found + known[1]])
    scores = other * left[0][:, None] + one * left[1][:, None]
    freedom = patterns / (patterns - one.shape[1])
    covariance = inverse @ (scores.T @ scores) @ inverse * freedom
    shift = np.zeros((len(found), 0))
    if given is not None and given_sd is not None:
        shift = -inverse @ (other.T @ given[0] + one.T @ given[1])
        covariance = covariance + (shift * given_sd**2) @ shift.T
    scale = 1 / size
    return RowFit(
        coefficients=found * scale,
        covariance=covariance * np.outer(scale, scale),
        residual=left.mean(axis=0),
        shift=shift * scale[:, None],
    )


def check_alive(board: OscillatorBoard, fits: Sequence[RowFit], limit: float, operation: str) -> None:
    """DeviceFault naming the oscillators whose equation does not hold: they died, or run."""
    rms = np.array([np.sqrt(np.mean(fit.residual**2)) for fit in fits])
    bad = np.flatnonzero(~(rms < limit))
    if len(bad):
        raise DeviceFault(
            f"oscillators {', '.join(map(str, bad[:8]))} do not obey any equation of rest: residual "
            f"{rms[bad[0]]:.3g} units; allowed: {limit:g}",
            device=board.name, operation=operation,
        )  # fmt: skip
