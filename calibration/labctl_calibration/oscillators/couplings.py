"""Couplings per code: gain, offset, integral nonlinearity and lag of every cell, and which are dead.

Every cell carries every code in some segment, at several scales, under random anchors and trims. Model of a
cell's pull at code k = share * top and a segment's scale s, by end points:

    K = s [(1 + gain) share + even (1 - share^2) + odd share (1 - share^2)] + offset
    pull on i = K cos(lag) sin(theta_j - theta_i) - K sin(lag) cos(theta_j - theta_i)

and the supply shifts each oscillator by - supply_i mean_i sum_j |K_ij|. Given the means of the stationary
phases' terms each row is linear in its cells' four numbers, a lag, a detuning and the supply (see
`stationary`); the anchors' gains and the trims are known from the records and their uncertainty is passed
on. Two passes: lag and supply multiply what the first one found. Uncertainty: White's, from the residuals.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import BoardSpec, OscillatorBoard
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
from labctl_calibration.oscillators.frequency import KIND as FREQUENCY_KIND
from labctl_calibration.oscillators.frequency import require_counted
from labctl_calibration.oscillators.probing import Codes, FloatArray
from labctl_calibration.oscillators.skew import KIND as SKEW_KIND
from labctl_calibration.oscillators.skew import ReadPaths
from labctl_calibration.oscillators.stationary import (
    Patterns,
    RowFit,
    Terms,
    check_alive,
    fit_row,
    stationary_terms,
)
from labctl_calibration.procedure import Devices, Measured, Plot, Procedure, Quantity, Tell, Upstream, require

KIND = "oscillator couplings"
STEP_ID = 0x5C000003
SEGMENTS, PER_SEGMENT = 32, 128
STRENGTH = (1.2, 3.0)
TRIM = 0.3
PULL_UNITS = 2.2  # rms pull on an oscillator that the largest scale aims at, all cells together
SCALE_STEPS = (0.4, 0.7, 1.0)
BASIS = 4
DEAD_GAIN = 0.3  # of the nominal: a live cell is beyond
DEAD_SIGMA = 4.0
GAIN_LIMIT = 0.6
WITHIN = "couplings within"


def measure_couplings(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    """Run random codes under random anchors, fit each oscillator's row."""
    board = devices.get(OscillatorBoard)
    spec, wiring = board.spec, board.spec.topology
    frequency, paths = require(upstream, FREQUENCY_KIND), ReadPaths(require(upstream, SKEW_KIND))
    require_counted(board, frequency, "measure_couplings")
    anchors = Anchors(require(upstream, ANCHOR_KIND))
    tell("measuring couplings", 0, 3)
    codes, scale = probe_codes(board, SEGMENTS)
    trims = random_trims(board, frequency, SEGMENTS, TRIM, STEP_ID)
    patterns = Patterns(codes, scale, trims, PER_SEGMENT, anchor_range(board, STRENGTH), STEP_ID)
    terms = stationary_terms(board, patterns, paths)
    require_counted(
        board, frequency, "measure_couplings"
    )  # it is the same board still, every oscillator alive
    rows = _Rows(board, terms, codes, scale, trim_units(board, frequency, trims), anchors)
    tell("measuring couplings", 1, 3)
    first = rows.fit(None)
    tell("measuring couplings", 2, 3)
    second = rows.fit(first)
    check_alive(board, second.fits, MISFIT_UNITS, "measure_couplings")
    e = wiring.n_edges
    lag, lag_sd = second.lag_rad, np.sqrt(second.lag_sd_rad**2 + paths.skew_sd_rad[wiring.source] ** 2
                                          + paths.skew_sd_rad[wiring.target] ** 2)  # fmt: skip
    dead = second.dead
    live = spec.usable & ~dead
    values = second.cells / np.cos(np.where(dead, 0.0, lag))[:, None]
    sd = np.sqrt(second.covariance.diagonal(axis1=1, axis2=2))
    findings = [f"{wiring.name(int(k))} is dead" for k in np.flatnonzero(dead)[:8]]
    if dead.sum() > 8:
        findings.append(f"{int(dead.sum())} cells are dead")
    far = np.flatnonzero(live & (np.abs(values[:, 0] - 1) > GAIN_LIMIT))
    findings += [f"{wiring.name(int(k))} is {values[k, 0]:.2f} times as strong as asked" for k in far[:8]]
    if terms.lost:
        findings.append(f"{terms.lost} of {2 * SEGMENTS * PER_SEGMENT} samples ran or lost their lock")
    shares = np.arange(-spec.max_coupling_code, spec.max_coupling_code + 1) / spec.max_coupling_code
    inl = values[live, 2:].mean(axis=0) if live.any() else np.zeros(2)
    rms = np.array([np.sqrt(np.mean(fit.residual**2)) for fit in second.fits])
    return Measured(
        kind=KIND,
        arrays={
            "gain": values[:, 0] - 1,
            "gain_sd": sd[:, 0],
            "offset_units": values[:, 1],
            "offset_units_sd": sd[:, 1],
            "bow_even": values[:, 2],
            "bow_even_sd": sd[:, 2],
            "bow_odd": values[:, 3],
            "bow_odd_sd": sd[:, 3],
            "cell_covariance": second.covariance,
            "dead": dead.astype(np.float64),
            "lag_rad": np.where(dead, 0.0, lag),
            "lag_rad_sd": lag_sd,
            "detuning_units": second.detuning,
            "detuning_units_sd": second.detuning_sd,
            "supply": second.supply,
            "supply_sd": second.supply_sd,
        },
        quantities=(
            _within(spec, values, sd, live),
            Quantity("coupling gain", float(np.abs(values[live, 0] - 1).max(initial=0.0)),
                     float(sd[live, 0].max(initial=0.0)), "", 0.0, GAIN_LIMIT,
                     "largest error of a live cell"),
            Quantity("coupling offset", float(np.sqrt(np.mean(values[live, 1] ** 2))) if live.any() else 0.0,
                     float(np.sqrt((sd[live, 1] ** 2).mean() / live.sum())) if live.any() else 0.0, "units",
                     words="rms of live cells"),
            Quantity("uncertainty of a gain", float(np.median(sd[:, 0])), 0.0, "", 0.0, 0.1, "median"),
            Quantity("dead cells", float(dead.sum()), 0.0, "of " + str(e)),
            Quantity("phase lag", float(lag[live].mean()) if live.any() else 0.0,
                     float(lag_sd[live].mean() / np.sqrt(max(live.sum(), 1))) if live.any() else 0.0, "rad",
                     -0.5, 0.5, "mean of live cells"),
        ),
        residuals={"misfit_units": rms},
        settings={"samples": 2 * SEGMENTS * PER_SEGMENT, "segments": SEGMENTS,
                  "temperature_c": board.temperature_c()},
        findings=tuple(findings),
        plots=(
            Plot("Coupling gains", np.arange(e, dtype=np.float64), values[:, 0] - 1, "edge", "gain error",
                 sd[:, 0]),
            Plot("Mean nonlinearity", shares, inl[0] * (1 - shares**2) + inl[1] * shares * (1 - shares**2),
                 "share of full scale", "of full scale"),
        ),
    )  # fmt: skip


def _within(spec: BoardSpec, values: FloatArray, sd: FloatArray, live: NDArray[np.bool_]) -> Quantity:
    """How far live cells' couplings are from those asked for, each at the code that is nearest to it."""
    top = spec.max_coupling_code
    share = np.arange(-top, top + 1) / top
    scale = float(spec.max_scale_units)
    given = (
        values[live, :1] * share + values[live, 1:2] / scale
        + values[live, 2:3] * (1 - share**2) + values[live, 3:] * share * (1 - share**2)
    )  # fmt: skip
    missed = top * np.abs(given[:, :, None] - share).min(axis=1)  # [cells, wanted]
    rms = float(np.sqrt(np.mean(missed**2))) if missed.size else 0.0
    own = np.sqrt((sd[live, 0] ** 2).mean() / max(live.sum(), 1)) if live.any() else 0.0
    return Quantity(
        WITHIN, rms, float(top * own), "LSB",
        words=f"of {spec.coupling_bits} bits at full scale, rms of live cells, each at its nearest code",
    )  # fmt: skip


def probe_codes(board: OscillatorBoard, segments: int) -> tuple[Codes, Codes]:
    """(codes [S, E], scales [S]): each cell takes every code about equally often, in an order of its own."""
    spec, wiring = board.spec, board.spec.topology
    rng = np.random.Generator(np.random.Philox(key=STEP_ID + 7))
    top = spec.max_coupling_code
    if spec.coupling_bits == 1:
        levels = np.resize(np.array([-1, 1]), segments)
    else:
        count = min(2 * top + 1, segments)
        levels = np.resize(np.rint(np.linspace(-top, top, count)).astype(np.int64), segments)
        # what is left over goes to the ends, which tell most of gain
        whole = segments // count * count
        levels[whole:] = np.resize(np.array([-top, top]), segments - whole)
    codes = rng.permuted(np.broadcast_to(levels[:, None], (segments, wiring.n_edges)), axis=0)
    heard = np.bincount(wiring.target, minlength=spec.n).max(initial=1)
    rms = np.sqrt(heard * np.mean((levels / top) ** 2) / 2)
    most = min(PULL_UNITS / rms / 2, spec.max_scale_units)
    scale = np.rint(np.resize(SCALE_STEPS, segments) * most / spec.scale_units_per_code)
    return codes * spec.usable, rng.permutation(np.maximum(scale, 1)).astype(np.int64)


class _Fitted:
    """All rows of one pass."""

    def __init__(self, n: int, e: int) -> None:
        self.cells, self.covariance = np.zeros((e, BASIS)), np.zeros((e, BASIS, BASIS))
        self.lag_rad, self.lag_sd_rad = np.zeros(e), np.full(e, np.nan)
        self.detuning, self.detuning_sd = np.zeros(n), np.zeros(n)
        self.supply, self.supply_sd = np.zeros(n), np.zeros(n)
        self.dead: NDArray[np.bool_] = np.zeros(e, np.bool_)
        self.fits: list[RowFit] = []


class _Rows:
    """The rows' equations, made of terms that were measured once."""

    def __init__(
        self,
        board: OscillatorBoard,
        terms: Terms,
        codes: Codes,
        scale: Codes,
        trims: FloatArray,
        anchors: Anchors,
    ) -> None:
        self._board, self._terms, self._anchors = board, terms, anchors
        spec = board.spec
        self.share = codes / spec.max_coupling_code
        self.scale = (scale * spec.scale_units_per_code)[:, None]
        self._trims = trims
        self._wiring = spec.topology

    def basis(self) -> FloatArray:
        """What a cell's four numbers multiply [S, E, 4]: gain, offset, even, odd."""
        share, scale = self.share, np.broadcast_to(self.scale, self.share.shape)
        bow = 1 - share**2
        return np.stack([scale * share, np.ones_like(share), scale * bow, scale * share * bow], axis=2)

    def fit(self, before: _Fitted | None) -> _Fitted:
        """One pass over the rows; `before` is the pass whose couplings lag and load are taken of."""
        wiring, terms, anchors = self._wiring, self._terms, self._anchors
        n, e = wiring.n, wiring.n_edges
        out = _Fitted(n, e)
        basis = self.basis()
        if before is None:
            strength = np.asarray(self.scale * self.share)
        else:
            strength = np.einsum("sek,ek->se", basis, before.cells)
        load = np.abs(strength).sum(axis=1) / n
        seg, usable = terms.segment, self._board.spec.usable
        cos, sin = np.cos(anchors.phase_rad), np.sin(anchors.phase_rad)
        for i in range(n):
            row = np.flatnonzero(wiring.target == i)
            lagging = row[usable[row]] if before is None else row[usable[row] & ~before.dead[row]]
            m = len(row)
            cells = (terms.sine[:, :, row, None] * basis[seg][None, :, row]).reshape(2, len(seg), m * BASIS)
            active = np.flatnonzero(basis[:, row].any(axis=0).ravel())  # masked cells and few bits have fewer
            cells = cells[:, :, active]
            lags = -terms.cosine[:, :, lagging] * strength[seg][None, :, lagging]
            free = np.ones((2, len(seg), 1))
            loads = np.broadcast_to(-load[seg, None] + load.mean(), free.shape)
            columns = np.concatenate([cells, lags, free, loads], axis=2)
            gain = anchors.gain[i]
            pull, turned = terms.pull[..., i], terms.turned[..., i]
            known = self._trims[seg, i] + gain * (cos[i] * pull + sin[i] * turned) - terms.rate[..., i]
            given = np.stack(
                [cos[i] * pull + sin[i] * turned, gain * (cos[i] * turned - sin[i] * pull)], axis=2
            )
            each = [
                f"{what} of {wiring.name(int(k))}"
                for k in row
                for what in ("gain", "offset", "even bow", "odd bow")
            ]
            names = (
                *(each[k] for k in active),
                *(f"lag of {wiring.name(int(k))}" for k in lagging), "detuning", "supply",
            )  # fmt: skip
            fit = fit_row(
                columns, known, names, device=self._board.name, given=given,
                given_sd=np.array([anchors.gain_sd[i], anchors.phase_sd[i]]),
            )  # fmt: skip
            out.fits.append(fit)
            at = len(active)
            b, whole = np.zeros(m * BASIS), np.zeros((m * BASIS, m * BASIS))
            b[active], whole[np.ix_(active, active)] = fit.coefficients[:at], fit.covariance[:at, :at]
            out.cells[row] = b.reshape(m, BASIS)
            for k, edge in enumerate(row):
                part = slice(k * BASIS, (k + 1) * BASIS)
                out.covariance[edge] = whole[part, part]
            b, cov = fit.coefficients, fit.covariance
            tangent = b[at : at + len(lagging)]
            out.lag_rad[lagging] = np.arctan(tangent)
            out.lag_sd_rad[lagging] = fit.sd[at : at + len(lagging)] / (1 + tangent**2)
            out.supply[i], out.supply_sd[i] = b[-1], fit.sd[-1]
            out.detuning[i] = b[-2] + b[-1] * load.mean()
            mean = np.array([1.0, load.mean()])
            out.detuning_sd[i] = np.sqrt(mean @ cov[-2:, -2:] @ mean)
        gain_sd = np.sqrt(out.covariance[:, 0, 0])
        out.dead = usable & (out.cells[:, 0] < DEAD_GAIN) & (out.cells[:, 0] < 1 - DEAD_SIGMA * gain_sd)
        return out


def _duration_s(devices: Devices) -> float:
    return duration_s(devices.get(OscillatorBoard), 2 * SEGMENTS * PER_SEGMENT)


COUPLINGS = Procedure(
    name="couplings",
    kind=KIND,
    title="Couplings per code",
    needs=(FREQUENCY_KIND, SKEW_KIND, ANCHOR_KIND),
    device=OscillatorBoard,
    roles=(OscillatorBoard,),
    validity_s=30 * 86_400.0,
    notices=(
        "dead cell", "cell of another gain", "dead oscillator", "loss of lock",
        "a channel that dies mid-procedure", "another board", "a fit that is not identifiable",
    ),
    duration_s=_duration_s,
    measure=measure_couplings,
)  # fmt: skip
