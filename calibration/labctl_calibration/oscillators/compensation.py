"""A program in the codes of one board: what the board then does is nearest to what the program means.

Along the phases that the program itself goes through (simulated by its ideal law), each oscillator's rate in
each segment is a sum of terms; on the board every coupling has the values its cell was measured to have at
its codes, with the cell's lag and offset, a dead one none. For each oscillator and segment, the codes and
the injection, second harmonic and trim are those whose rate differs least from the wanted one in the mean
square: the node parameters, finer by far, are eliminated; the codes are searched. Offsets, lags and dead
cells are so taken over by the others as far as these can. One scale a segment serves all its oscillators:
the best of some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import BoardImage, BoardSpec, CalibrationRecord, Coercion
from labctl.models.oscillators.board_law import edges_of, law_of
from labctl.physics import Stream
from labctl.physics.oscillators import OscillatorLaw, evolve
from labctl.programs import OscillatorProgram, board_image
from labctl.programs.table_search import search_tables
from labctl_calibration.oscillators.fitted import FittedBoard

FloatArray = NDArray[np.float64]
Codes = NDArray[np.int64]
SAMPLES = 768
POINTS = 3  # of each segment
STEPS = 12  # of a point's stretch
SCALES = (0.82, 0.88, 0.94, 1.0, 1.06, 1.12)
RIDGE = 1e-4
NODES = 4  # a, b, l, w
METHOD = f"1 {SAMPLES} {POINTS} {STEPS} {SCALES} {RIDGE}"


@dataclass(frozen=True, eq=False)
class Compensated:
    """A program for one board: its image; what the converters could not give; what is left.

    misfit [K, n]: rms difference of an oscillator's rate from the wanted, units; before: of plain codes.
    """

    image: BoardImage
    fitted: FittedBoard
    coercions: tuple[Coercion, ...]
    findings: tuple[str, ...]
    misfit: FloatArray
    before: FloatArray


def compensated(
    program: OscillatorProgram,
    spec: BoardSpec,
    records: Mapping[str, CalibrationRecord],
    *,
    beyond_averaging: bool = False,
) -> Compensated:
    """The program in the board's codes by its records (by kind).

    Raises what `board_image` does for a program that the board cannot hold, CalibrationMissing for a record
    that is not there.
    """
    fitted = FittedBoard.of(spec, records)
    plain, notes = board_image(_without(program, ~spec.usable), spec, beyond_averaging=beyond_averaging)
    wiring = spec.topology
    paths = _paths(program)
    k, n = program.segments, wiring.n
    image_codes, image_scale = np.zeros_like(plain.coupling), np.zeros_like(plain.scale)
    tables = {name: np.zeros((k, n), np.int64) for name in ("in_phase", "quadrature", "second", "detuning")}
    misfit, before = np.zeros((k, n)), np.zeros((k, n))
    clipped: dict[str, int] = {}
    weights = program.coupling.weights()
    wanted = {name: program.node_values(name) for name in tables}
    rows = _Rows.of(fitted)
    for segment in range(k):
        terms = rows.terms(paths[segment])
        target = rows.target(paths[segment], weights[segment], {t: wanted[t][segment] for t in tables})
        moments = _Moments.of(terms, target)
        base = float(plain.scale[segment])
        tried = []
        for share in SCALES:
            scale = int(min(max(round(base * share), 0), spec.max_scale_code))
            values, counts = rows.tables(fitted, scale * spec.scale_units_per_code)
            entries, costs = search_tables(moments.gram, moments.right, values, counts)
            tried.append((float(costs.sum()), scale, entries, values))
        _, scale, entries, values = min(tried, key=lambda one: one[0])
        chosen = np.take_along_axis(values, entries[:, :, None], axis=2)[:, :, 0]
        image_scale[segment] = scale
        image_codes[segment] = rows.codes(entries)
        strength = rows.by_edge(chosen)
        load = float(np.abs(strength).sum()) / n
        nodes = _nodes(fitted, moments, chosen, load, clipped)
        for at, name in enumerate(tables):
            tables[name][segment] = nodes.codes[:, at]
        misfit[segment] = moments.misfit(chosen, nodes.values)
        own, _ = rows.tables(fitted, base * spec.scale_units_per_code)
        first = np.take_along_axis(own, rows.entries(plain.coupling[segment])[:, :, None], axis=2)[:, :, 0]
        before[segment] = moments.misfit(first, _uncompensated(fitted, wanted, segment, first, rows))
    image = BoardImage(
        topology_hash=plain.topology_hash,
        coupling=image_codes,
        scale=image_scale,
        ticks=plain.ticks,
        start_phase=plain.start_phase,
        start_amplitude=plain.start_amplitude,
        **tables,
    )
    kept = tuple(note for note in notes if note.field not in (*tables, "scale"))
    return Compensated(image, fitted, kept, _findings(fitted, program, clipped), misfit, before)


def _without(program: OscillatorProgram, edges: NDArray[np.bool_]) -> OscillatorProgram:
    """The program without couplings on edges that carry none: the others take over what they can."""
    if not (program.coupling.codes[:, edges] != 0).any():
        return program
    codes = np.where(edges, 0, program.coupling.codes).astype(program.coupling.codes.dtype)
    return replace(program, coupling=replace(program.coupling, codes=codes))


def _findings(fitted: FittedBoard, program: OscillatorProgram, clipped: Mapping[str, int]) -> tuple[str, ...]:
    wiring = fitted.spec.topology
    lost = np.flatnonzero((fitted.dead | ~fitted.spec.usable) & (program.coupling.codes != 0).any(axis=0))
    found = [
        f"{wiring.name(e)} is dead: the others of oscillator {wiring.target[e]} stand in" for e in lost[:8]
    ]
    if len(lost) > 8:
        found.append(f"{len(lost)} cells that the program uses are dead")
    found += [
        f"{name} reaches the end of its range {count} times" for name, count in clipped.items() if count
    ]
    return tuple(found)


def _paths(program: OscillatorProgram) -> list[FloatArray]:
    """Phases [S, n] that the ideal program goes through in each segment."""
    ids = np.arange(SAMPLES, dtype=np.int64)
    start = Stream(0, "compensation", "start").normal(ids, program.topology.n)
    theta = (
        torch.as_tensor(program.start_rad, dtype=torch.float32)
        + torch.as_tensor(program.amplitude_rad, dtype=torch.float32) * start.float()
    )
    law, edges = law_of(program), edges_of(program.topology)
    out = []
    for k in range(program.segments):
        single = OscillatorLaw(*(getattr(law, name)[k : k + 1] for name in
                                 ("coupling", "in_phase", "quadrature", "second", "detuning")))  # fmt: skip
        seen = []
        # points in the middles of equal stretches
        lengths = np.full(2 * POINTS, program.duration[k] / (2 * POINTS))
        for at, length in enumerate(lengths):
            theta = evolve(edges, single, theta, duration=float(length), steps=STEPS // POINTS)
            if at % 2 == 0:
                seen.append(theta.double().numpy())
        out.append(np.concatenate(seen))
    return out


@dataclass(frozen=True, eq=False)
class _Rows:
    """Cells by the oscillator that hears them, padded: edges [n, m] with `real` where there is one."""

    edges: Codes
    real: NDArray[np.bool_]
    source: Codes
    lag_rad: FloatArray
    usable: NDArray[np.bool_]
    top: int
    n_edges: int

    @classmethod
    def of(cls, fitted: FittedBoard) -> _Rows:
        wiring = fitted.spec.topology
        counts = np.bincount(wiring.target, minlength=wiring.n)
        m = max(int(counts.max(initial=0)), 1)
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        real = np.arange(m)[None] < counts[:, None]
        edges = np.where(real, first[:, None] + np.arange(m)[None], 0)
        source = np.where(real, wiring.source[edges], 0) if wiring.n_edges else np.zeros_like(edges)
        lag = np.where(real, fitted.lag_rad[edges], 0.0) if wiring.n_edges else np.zeros(edges.shape)
        usable = np.where(real, fitted.spec.usable[edges], False) if wiring.n_edges else real
        return cls(edges, real, source, lag, usable, fitted.spec.max_coupling_code, wiring.n_edges)

    def terms(self, theta: FloatArray) -> FloatArray:
        """[n, S, m + 4]: what couplings, a, b, l and w multiply in an oscillator's rate on the board."""
        away = theta.T[self.source] - theta.T[:, None, :]  # [n, m, S]
        cells = np.where(self.real[:, :, None], np.sin(away - self.lag_rad[:, :, None]), 0.0)
        own = theta.T
        nodes = np.stack([np.cos(own), -np.sin(own), -np.sin(2 * own), np.ones_like(own)], axis=1)
        return np.concatenate([cells, nodes], axis=1).transpose(0, 2, 1)

    def target(self, theta: FloatArray, weights: FloatArray, nodes: Mapping[str, FloatArray]) -> FloatArray:
        """The wanted rate [n, S], by the ideal law."""
        away = theta.T[self.source] - theta.T[:, None, :]
        strength = (
            np.where(self.real, weights[self.edges], 0.0) if self.n_edges else np.zeros(self.real.shape)
        )
        own = theta.T
        rate = np.einsum("nm,nms->ns", strength, np.sin(away))
        rate += nodes["in_phase"][:, None] * np.cos(own) - nodes["quadrature"][:, None] * np.sin(own)
        return np.asarray(rate - nodes["second"][:, None] * np.sin(2 * own) + nodes["detuning"][:, None])

    def tables(self, fitted: FittedBoard, scale_units: float) -> tuple[FloatArray, Codes]:
        """(values [n, m, L], how many there are [n, m]) of each cell's codes; a masked cell has 0 alone."""
        values = fitted.values(scale_units)
        levels = 2 * self.top + 1
        if not self.n_edges:
            return np.zeros((*self.edges.shape, 1)), np.ones(self.edges.shape, np.int64)
        out = np.where(self.usable[:, :, None], values[self.edges], values[self.edges][:, :, [self.top]])
        out = np.where(self.real[:, :, None], out, 0.0)
        return out, np.where(self.usable, levels, 1).astype(np.int64)

    def codes(self, entries: Codes) -> Codes:
        """Codes [E] of table entries [n, m]."""
        codes = np.where(self.usable, entries - self.top, 0)
        return np.asarray(codes[self.real])

    def entries(self, codes: Codes) -> Codes:
        """Table entries [n, m] of codes [E]."""
        if not self.n_edges:
            return np.zeros(self.edges.shape, np.int64)
        return np.where(self.usable, codes[self.edges] + self.top, 0)

    def by_edge(self, values: FloatArray) -> FloatArray:
        """[E] of values [n, m]."""
        return np.asarray(values[self.real])


@dataclass(frozen=True, eq=False)
class _Moments:
    """Second moments of an oscillator's terms and its wanted rate; gram, right: node terms eliminated."""

    whole: FloatArray
    wanted: FloatArray
    power: FloatArray
    gram: FloatArray
    right: FloatArray

    @classmethod
    def of(cls, terms: FloatArray, target: FloatArray) -> _Moments:
        s = terms.shape[1]
        whole = terms.transpose(0, 2, 1) @ terms / s
        wanted = (terms.transpose(0, 2, 1) @ target[:, :, None])[:, :, 0] / s
        m = whole.shape[1] - NODES
        nodes = whole[:, m:, m:] + RIDGE * np.eye(NODES)
        cross = whole[:, :m, m:]
        solved = np.linalg.solve(
            nodes, np.concatenate([cross.transpose(0, 2, 1), wanted[:, m:, None]], axis=2)
        )
        gram = whole[:, :m, :m] - cross @ solved[:, :, :m]
        right = wanted[:, :m] - (cross @ solved[:, :, m:])[:, :, 0]
        return cls(whole, wanted, (target**2).mean(axis=1), gram, right)

    def nodes(self, couplings: FloatArray, fixed: Mapping[int, FloatArray]) -> FloatArray:
        """Best node values [n, 4] beside couplings [n, m], some of them fixed."""
        m = couplings.shape[1]
        out = np.zeros((len(couplings), NODES))
        free = [k for k in range(NODES) if k not in fixed]
        left = self.wanted[:, m:] - np.einsum("nkm,nm->nk", self.whole[:, m:, :m], couplings)
        for k, value in fixed.items():
            out[:, k] = value
        if free:
            left = left - np.einsum("nkj,nj->nk", self.whole[:, m:, m:], out)
            part = self.whole[:, m:, m:][:, free][:, :, free] + RIDGE * np.eye(len(free))
            out[:, free] = np.linalg.solve(part, left[:, free][:, :, None])[:, :, 0]
        return out

    def misfit(self, couplings: FloatArray, nodes: FloatArray) -> FloatArray:
        """Root mean square [n] of the rate's difference from the wanted one."""
        v = np.concatenate([couplings, nodes], axis=1)
        square = np.einsum("nk,nkj,nj->n", v, self.whole, v) - 2 * (v * self.wanted).sum(axis=1) + self.power
        return np.asarray(np.sqrt(np.maximum(square, 0.0)))


@dataclass(frozen=True, eq=False)
class _NodeCodes:
    """codes [n, 4] of in-phase, quadrature, second, detuning; values [n, 4] they have on the board."""

    codes: Codes
    values: FloatArray


def _nodes(
    fitted: FittedBoard, moments: _Moments, couplings: FloatArray, load: float, clipped: dict[str, int]
) -> _NodeCodes:
    """Trim first, then the second harmonic, then injection: each fixed before the next is chosen anew."""
    spec = fitted.spec
    codes = np.zeros((len(couplings), NODES), np.int64)
    shift = fitted.detuning - fitted.supply * load

    def coded(name: str, units: FloatArray, step: float, top: int) -> Codes:
        exact = np.rint(units / step)
        clipped[name] = clipped.get(name, 0) + int((np.abs(exact) > top).sum())
        return np.clip(exact, -top, top).astype(np.int64)

    best = moments.nodes(couplings, {})
    gain = np.where(np.abs(fitted.trim_gain) > 0.1, fitted.trim_gain, np.inf)
    codes[:, 3] = coded(
        "detuning", (best[:, 3] - shift) / gain, spec.detuning.units_per_code, spec.detuning.max_code
    )
    w = shift + codes[:, 3] * spec.detuning.units_per_code * fitted.trim_gain
    best = moments.nodes(couplings, {3: w})
    g = fitted.anchor_gain
    codes[:, 2] = coded("second", best[:, 2] / g, spec.second.units_per_code, spec.second.max_code)
    second = codes[:, 2] * spec.second.units_per_code * g
    best = moments.nodes(couplings, {3: w, 2: second})
    turn = np.exp(-1j * fitted.anchor_phase_rad)
    # b + i a turns by the anchor's phase on its way: a' = a cos + b sin
    asked = (best[:, 1] + 1j * best[:, 0]) * turn / g
    step, top = spec.injection.units_per_code, spec.injection.max_code
    codes[:, 0] = coded("in_phase", asked.imag, step, top)
    codes[:, 1] = coded("quadrature", asked.real, step, top)
    given = (codes[:, 1] + 1j * codes[:, 0]) * step * g / turn
    return _NodeCodes(codes, np.stack([given.imag, given.real, second, w], axis=1))


def _uncompensated(
    fitted: FittedBoard, wanted: Mapping[str, FloatArray], segment: int, couplings: FloatArray, rows: _Rows
) -> FloatArray:
    """What the program's own node values [n, 4] would be on the board."""
    load = float(np.abs(rows.by_edge(couplings)).sum()) / len(couplings)
    turned = (wanted["quadrature"][segment] + 1j * wanted["in_phase"][segment]) * fitted.anchor_gain
    turned = turned * np.exp(1j * fitted.anchor_phase_rad)
    second = wanted["second"][segment] * fitted.anchor_gain
    w = wanted["detuning"][segment] * fitted.trim_gain + fitted.detuning - fitted.supply * load
    return np.stack([turned.imag, turned.real, second, w], axis=1)
