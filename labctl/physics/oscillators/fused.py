"""The compiled kernels: each stage of a step in one pass, and the exact adjoint of the discrete steps.

Samples run in blocks of 32 lanes, theta [n, 32] flat, each block through all steps while it stays in cache.
s = sin theta and c = cos theta are taken once a site and stage and lie side by side, [n, 2, 32]:

    slope = c A - s B + w,   A = (K s) + a,   B = (K c) + b + 2 l c        no sine on any edge

Adjoint of a stage, lambda that of its slope, p = lambda c, q = lambda s:

    g_i = c_i sum_m K_mi p_m + s_i sum_m K_mi q_m - lambda_i (s_i A_i + c_i B_i - 2 l_i s_i^2)
    dK_ij += p_i s_j - q_i c_j;   da += p;   db -= q;   d(2 l) -= p s;   dw += lambda

p and q lie like s and c. A stage leans on the one before alone, so two such arrays take turns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.physics.kernels import box_muller, philox_words
from labctl.physics.oscillators.lanes import (
    HALF,
    LANES,
    Float32,
    fma,
    folded,
    load,
    load_half,
    sine_cosine,
    spread,
    spread_at,
    store,
    store_half,
    store_pair,
    whole_at,
)

PAIR = 2 * LANES
NODE = 4  # numbers of a site in a node table: a, b, 2 l, w
_F = np.float32
Index = NDArray[np.int32]  # int64 would push dense couplings out of the nearest cache


class Graph(NamedTuple):
    """Edges both ways: those that i hears are row[i] .. row[i + 1] - 1, those that leave it column[i] ...

    row is all 0 where sums are taken over the rows of a matrix instead. source and target hold the other end
    as its offset in [n, 2, 32]; target runs in the order of sources.
    """

    row: Index
    source: Index
    column: Index
    target: Index


class Tables(NamedTuple):
    """All segments: coupling [K, E], again in the order of sources, node [K, n 4], and the scheme's stages.

    matrix: the couplings as [K, n n], for graphs so dense that sums over all sources are faster, or [K, 0].
    ahead, share [K, stages]: how far each looks ahead and its share of the change, times the step length.
    """

    coupling: Float32
    outgoing: Float32
    matrix: Float32
    node: Float32
    ahead: Float32
    share: Float32


class Segment(NamedTuple):
    """One row of each table; inject [n 2 32] of one block or [], for dense graphs with their sums in it."""

    coupling: Float32
    outgoing: Float32
    matrix: Float32
    node: Float32
    ahead: Float32
    share: Float32
    inject: Float32


class Draws(NamedTuple):
    """Noise: size of the random force in each segment [K] (rad per unit time), key, ids [blocks, 32].

    The rest is scratch; normal [n 32] is empty where there is no noise.
    """

    force: Float32
    key: NDArray[np.uint32]
    ids: NDArray[np.uint32]
    first_step: int
    words: NDArray[np.uint32]
    value: Float32
    bits: NDArray[np.int32]
    scratch: Float32
    raw: Float32
    normal: Float32


class Scratch(NamedTuple):
    """Working space of one block, flat: pairs [2 or stages, n 2 32], change [n 32], states [1 or stride,
    n 32], inject [n 2 32] or [], sums [n 2 32] for dense graphs; for the adjoint own [stages, n 32] and
    weighed [2, n 2 32].
    """

    pairs: Float32
    change: Float32
    states: Float32
    inject: Float32
    sums: Float32
    own: Float32
    weighed: Float32


@njit(nogil=True, cache=True)
def _dense_sums(
    matrix: Any, inject: Any, pairs: Any, now: Any, sums: Any
) -> None:  # pragma: no cover - compiled
    """(K s) + inject and (K c) + inject from the pairs at `now`: three rows share each load of a pair."""
    zero = spread(_F(0))
    n = sums.size // PAIR
    whole = n - n % 3
    for i in range(0, whole, 3):
        a0, b0, a1, b1, a2, b2 = zero, zero, zero, zero, zero, zero
        for j in range(n):
            s = load(pairs, now + j * PAIR)
            c = load(pairs, now + j * PAIR + LANES)
            k = spread_at(matrix, i * n + j)
            a0, b0 = fma(k, s, a0), fma(k, c, b0)
            k = spread_at(matrix, (i + 1) * n + j)
            a1, b1 = fma(k, s, a1), fma(k, c, b1)
            k = spread_at(matrix, (i + 2) * n + j)
            a2, b2 = fma(k, s, a2), fma(k, c, b2)
        store_pair(sums, i * PAIR, a0, b0)
        store_pair(sums, (i + 1) * PAIR, a1, b1)
        store_pair(sums, (i + 2) * PAIR, a2, b2)
    for i in range(whole, n):
        a0, b0 = zero, zero
        for j in range(n):
            k = spread_at(matrix, i * n + j)
            a0 = fma(k, load(pairs, now + j * PAIR), a0)
            b0 = fma(k, load(pairs, now + j * PAIR + LANES), b0)
        store_pair(sums, i * PAIR, a0, b0)
    for place in range(0, inject.size, LANES):
        store(sums, place, load(sums, place) + load(inject, place))


@njit(inline="always")
def _brackets(i: Any, graph: Any, segment: Any, pairs: Any, now: Any) -> Any:  # pragma: no cover - compiled
    """(A, B) of site i from the pairs at offset `now`."""
    a = spread_at(segment.node, NODE * i)
    b = spread_at(segment.node, NODE * i + 1)
    if segment.inject.size:
        a = a + load(segment.inject, i * PAIR)
        b = b + load(segment.inject, i * PAIR + LANES)
    for e in range(graph.row[i], graph.row[i + 1]):
        k = spread_at(segment.coupling, e)
        place = now + whole_at(graph.source, e)
        a = fma(k, load(pairs, place), a)
        b = fma(k, load(pairs, place + LANES), b)
    return a, fma(spread_at(segment.node, NODE * i + 2), load(pairs, now + i * PAIR + LANES), b)


@njit(inline="always")
def _begin(theta: Any, base: Any, n: Any, pairs: Any) -> None:  # pragma: no cover - compiled
    """Sines and cosines of theta [n 32] at `base` to the start of pairs."""
    for i in range(n):
        s, c = sine_cosine(load(theta, base + i * LANES))
        store_pair(pairs, i * PAIR, s, c)


@njit(nogil=True, cache=True)
def _to_lanes(
    rows: Any, block: Any, out: Any, base: Any, spacing: Any
) -> None:  # pragma: no cover - compiled
    """out[base + i spacing + lane] = rows [B, n] of a block; lanes beyond the last sample stay."""
    first = block * LANES
    for lane in range(min(LANES, rows.shape[0] - first)):
        for i in range(rows.shape[1]):
            out[base + i * spacing + lane] = rows[first + lane, i]


@njit(nogil=True, cache=True)
def _to_rows(
    values: Any, base: Any, spacing: Any, rows: Any, block: Any
) -> None:  # pragma: no cover - compiled
    """The inverse of _to_lanes."""
    first = block * LANES
    for lane in range(min(LANES, rows.shape[0] - first)):
        for i in range(rows.shape[1]):
            rows[first + lane, i] = values[base + i * spacing + lane]


@njit(nogil=True, cache=True)
def _segment(k: Any, tables: Any, scratch: Any) -> Any:  # pragma: no cover - compiled
    return Segment(
        tables.coupling[k], tables.outgoing[k], tables.matrix[k], tables.node[k], tables.ahead[k],
        tables.share[k], scratch.sums if scratch.sums.size else scratch.inject,
    )  # fmt: skip


@njit(nogil=True, cache=True)
def _take_inject(inject: Any, block: Any, scratch: Any) -> None:  # pragma: no cover - compiled
    """One block of a, b [2, B, n] into the scratch."""
    if scratch.inject.size:
        _to_lanes(inject[0], block, scratch.inject, np.int64(0), np.int64(PAIR))
        _to_lanes(inject[1], block, scratch.inject, np.int64(LANES), np.int64(PAIR))


@njit(nogil=True, cache=True)
def _draw(draws: Any, block: Any, step: Any) -> None:  # pragma: no cover - compiled
    """Standard normals of one block and step into draws.normal [n 32]: those that Stream.normal makes."""
    words = draws.words
    philox_words(
        draws.key[0], draws.key[1], draws.ids[block], np.uint32(draws.first_step + step), np.uint32(0),
        words[0], words[1],
    )  # fmt: skip
    box_muller(words[0].ravel(), words[1].ravel(), draws.value, draws.bits, draws.scratch, draws.raw)
    for lane in range(LANES):
        for i in range(draws.normal.size // LANES):
            draws.normal[i * LANES + lane] = draws.raw[lane, i]


@njit(nogil=True, cache=True)
def _step(  # pragma: no cover - compiled
    theta: Any, base: Any, graph: Any, segment: Any, normal: Any, force: Any, scratch: Any, now: Any
) -> Any:
    """One step of theta [n 32] at `base`, in place; returns where its new sines and cosines are in pairs."""
    n = graph.row.size - 1
    pairs, change = scratch.pairs, scratch.change
    stages = segment.share.size
    for m in range(stages):
        last = m == stages - 1
        other = n * PAIR - now
        part = spread_at(segment.share, m)
        ahead = part if last else spread_at(segment.ahead, m + 1)
        if segment.matrix.size:
            _dense_sums(segment.matrix, scratch.inject, pairs, now, scratch.sums)
        for i in range(n):
            a, b = _brackets(i, graph, segment, pairs, now)
            s = load(pairs, now + i * PAIR)
            c = load(pairs, now + i * PAIR + LANES)
            slope = fma(c, a, spread_at(segment.node, NODE * i + 3)) - s * b
            if normal.size:
                slope = fma(spread(force), load(normal, i * LANES), slope)
            x = load(theta, base + i * LANES)
            so_far = x if m == 0 else load(change, i * LANES)
            so_far = fma(part, slope, so_far)
            if last:
                store(theta, base + i * LANES, so_far)
                x = so_far
            else:
                store(change, i * LANES, so_far)
                x = fma(ahead, slope, x)
            s, c = sine_cosine(x)
            store_pair(pairs, other + i * PAIR, s, c)
        now = other
    return now


@njit(nogil=True, cache=True)
def forward(  # pragma: no cover - compiled
    theta: Any, inject: Any, out: Any, kept: Any, stride: Any, steps: Any, graph: Any, tables: Any,
    draws: Any, scratch: Any,
) -> None:  # fmt: skip
    """All segments, theta to out [B, n]; inject [2, B, n] is read where scratch has room for it.

    kept [K, ceil(steps / stride), blocks, n 32] takes theta before every stride-th step; empty: not wanted.
    """
    n = graph.row.size - 1
    state = scratch.states
    origin = np.int64(0)  # typed: each literal would be compiled for itself
    for block in range(-(-theta.shape[0] // LANES)):
        _to_lanes(theta, block, state, origin, np.int64(LANES))
        _take_inject(inject, block, scratch)
        _begin(state, origin, n, scratch.pairs)
        now = origin
        for k in range(tables.coupling.shape[0]):
            segment = _segment(k, tables, scratch)
            for t in range(steps):
                if kept.size and t % stride == 0:
                    kept[k, t // stride, block, :] = state
                if draws.normal.size:
                    _draw(draws, block, k * steps + t)
                now = _step(state, origin, graph, segment, draws.normal, draws.force[k], scratch, now)
        _to_rows(state, origin, np.int64(LANES), out, block)


@njit(nogil=True, cache=True)
def _stages(  # pragma: no cover - compiled
    theta: Any, base: Any, adjoint: Any, graph: Any, segment: Any, normal: Any, force: Any, scratch: Any
) -> None:
    """All stages of a step again: pairs of each, own_i = s A + c B - 2 l s^2, and p, q of the last one."""
    n = graph.row.size - 1
    pairs, own, weighed = scratch.pairs, scratch.own, scratch.weighed
    stages = segment.share.size
    _begin(theta, base, n, pairs)
    for m in range(stages):
        last = m == stages - 1
        now = m * n * PAIR
        part = spread_at(segment.share, m)
        ahead = part if last else spread_at(segment.ahead, m + 1)
        if segment.matrix.size:
            _dense_sums(segment.matrix, scratch.inject, pairs, now, scratch.sums)
        for i in range(n):
            a, b = _brackets(i, graph, segment, pairs, now)
            s = load(pairs, now + i * PAIR)
            c = load(pairs, now + i * PAIR + LANES)
            second = spread_at(segment.node, NODE * i + 2)
            store(own, (m * n + i) * LANES, fma(s, a - second * s, c * b))
            if last:
                slope_adjoint = part * load(adjoint, i * LANES)
                store_pair(weighed, m % 2 * n * PAIR + i * PAIR, slope_adjoint * c, slope_adjoint * s)
            else:
                slope = fma(c, a, spread_at(segment.node, NODE * i + 3)) - s * b
                if normal.size:
                    slope = fma(spread(force), load(normal, i * LANES), slope)
                s, c = sine_cosine(fma(ahead, slope, load(theta, base + i * LANES)))
                store_pair(pairs, now + n * PAIR + i * PAIR, s, c)


@njit(nogil=True, cache=True)
def _reverse(  # pragma: no cover - compiled
    adjoint: Any, graph: Any, segment: Any, scratch: Any, d_coupling: Any, d_node: Any, d_inject: Any
) -> None:
    """The adjoint of theta [n 32] from after a step to before it, in place; gradients added up."""
    n = graph.row.size - 1
    pairs, own, weighed, change = scratch.pairs, scratch.own, scratch.weighed, scratch.change
    zero = spread(_F(0))
    stages = segment.share.size
    for m in range(stages - 1, -1, -1):
        now = m * n * PAIR
        here = m % 2 * n * PAIR
        there = n * PAIR - here
        ahead = spread_at(segment.ahead, m)
        part = spread_at(segment.share, max(m - 1, 0))
        for i in range(n):
            s = load(pairs, now + i * PAIR)
            c = load(pairs, now + i * PAIR + LANES)
            minus_c = zero - c
            to_p, to_q = zero, zero
            for e in range(graph.column[i], graph.column[i + 1]):
                k = spread_at(segment.outgoing, e)
                place = here + whole_at(graph.target, e)
                p = load(weighed, place)
                q = load(weighed, place + LANES)
                to_p = fma(k, p, to_p)
                to_q = fma(k, q, to_q)
                total = load_half(d_coupling, e * HALF)
                store_half(d_coupling, e * HALF, folded(folded(total, p, s), q, minus_c))
            p = load(weighed, here + i * PAIR)
            q = load(weighed, here + i * PAIR + LANES)
            slope_adjoint = fma(c, p, s * q)
            place = i * NODE * LANES
            store(d_node, place, load(d_node, place) + p)
            store(d_node, place + LANES, load(d_node, place + LANES) - q)
            store(d_node, place + 2 * LANES, fma(p, zero - s, load(d_node, place + 2 * LANES)))
            store(d_node, place + 3 * LANES, load(d_node, place + 3 * LANES) + slope_adjoint)
            if d_inject.size:
                store(d_inject, i * PAIR, load(d_inject, i * PAIR) + p)
                store(d_inject, i * PAIR + LANES, load(d_inject, i * PAIR + LANES) - q)
            g = fma(c, to_p, s * to_q) - slope_adjoint * load(own, (m * n + i) * LANES)
            after = load(adjoint, i * LANES)
            so_far = after if m == stages - 1 else load(change, i * LANES)
            if m > 0:
                store(change, i * LANES, so_far + g)
                slope_adjoint = fma(ahead, g, part * after)
                place = now - n * PAIR + i * PAIR
                s = load(pairs, place)
                c = load(pairs, place + LANES)
                store_pair(weighed, there + i * PAIR, slope_adjoint * c, slope_adjoint * s)
            else:
                store(adjoint, i * LANES, so_far + g)


@njit(nogil=True, cache=True)
def backward(  # pragma: no cover - compiled
    after: Any, inject: Any, kept: Any, stride: Any, steps: Any, graph: Any, tables: Any, draws: Any,
    scratch: Any, adjoint: Any, d_coupling: Any, d_node: Any, d_inject: Any, before: Any, d_injected: Any,
) -> None:  # fmt: skip
    """The adjoint of theta from after all segments to before them, [B, n]; gradients added up.

    d_coupling [K, E 16] in the order of sources and d_node [K, n 4 32] are sums still to be taken over their
    lanes; d_injected [2, B, n]. adjoint [blocks, n 32] and d_inject [blocks, n 2 32 or 0] are scratch, zero
    (so that lanes without a sample add nothing).
    """
    n = graph.row.size - 1
    size = n * LANES
    blocks = adjoint.shape[0]
    states = scratch.states
    origin, lanes, pair = np.int64(0), np.int64(LANES), np.int64(PAIR)
    for block in range(blocks):
        _to_lanes(after, block, adjoint[block], origin, lanes)
    # segment by segment, so that one segment's gradients stay in cache for all blocks
    for k in range(tables.coupling.shape[0] - 1, -1, -1):
        for block in range(blocks):
            _take_inject(inject, block, scratch)
            segment = _segment(k, tables, scratch)
            for chunk in range(kept.shape[1] - 1, -1, -1):
                first = chunk * stride
                count = min(stride, steps - first)
                states[:size] = kept[k, chunk, block]
                now = origin
                if count > 1:
                    _begin(states, origin, n, scratch.pairs)
                for t in range(count - 1):
                    states[(t + 1) * size : (t + 2) * size] = states[t * size : (t + 1) * size]
                    if draws.normal.size:
                        _draw(draws, block, k * steps + first + t)
                    now = _step(
                        states, (t + 1) * size, graph, segment, draws.normal, draws.force[k], scratch, now
                    )
                for t in range(count - 1, -1, -1):
                    if draws.normal.size:
                        _draw(draws, block, k * steps + first + t)
                    _stages(
                        states,
                        t * size,
                        adjoint[block],
                        graph,
                        segment,
                        draws.normal,
                        draws.force[k],
                        scratch,
                    )
                    _reverse(
                        adjoint[block], graph, segment, scratch, d_coupling[k], d_node[k], d_inject[block]
                    )
    for block in range(blocks):
        _to_rows(adjoint[block], origin, lanes, before, block)
        if d_inject.size:
            _to_rows(d_inject[block], origin, pair, d_injected[0], block)
            _to_rows(d_inject[block], lanes, pair, d_injected[1], block)
