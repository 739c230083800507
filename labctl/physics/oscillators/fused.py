"""The compiled kernels: each stage of a step in one pass, and the exact adjoint of the discrete steps.

Samples lie in blocks of 32 lanes, theta [blocks, n, 32] flat; a block runs through all steps of a segment
while it stays in cache. s = sin theta and c = cos theta are taken once a site and stage and lie side by side,
[n, 2, 32]:

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
)

PAIR = 2 * LANES
NODE = 4  # numbers of a site in a node table: a, b, 2 l, w
_F = np.float32
Index = NDArray[np.int64]


class Graph(NamedTuple):
    """Edges both ways: those that i hears are row[i] .. row[i + 1] - 1, those that leave it column[i] ...

    source and target hold the other end as its offset in [n, 2, 32]; target runs in the order of sources.
    """

    row: Index
    source: Index
    column: Index
    target: Index


class Tables(NamedTuple):
    """One segment: coupling [E], again in the order of sources, node [n 4]; inject [blocks n 2 32] or []."""

    coupling: Float32
    outgoing: Float32
    node: Float32
    inject: Float32


class Steps(NamedTuple):
    """Step length (units), their number, the scheme's stages, and how many steps share a kept state."""

    h: np.float32
    number: int
    at: Float32
    share: Float32
    stride: int


class Draws(NamedTuple):
    """Noise: standard deviation a step (rad), key, ids [blocks, 32], and scratch; normal is [] for none."""

    sd: np.float32
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
    """Working space of one block, flat: pairs [2 or stages, n 2 32], change [n 32], and for the adjoint
    own [stages, n 32], weighed [2, n 2 32], states [stride, n 32].
    """

    pairs: Float32
    change: Float32
    own: Float32
    weighed: Float32
    states: Float32


@njit(inline="always")
def _brackets(  # pragma: no cover - compiled
    i: Any, graph: Any, tables: Any, block: Any, pairs: Any, now: Any
) -> Any:
    """(A, B) of site i from the pairs at offset `now`."""
    a = spread_at(tables.node, NODE * i)
    b = spread_at(tables.node, NODE * i + 1)
    if tables.inject.size:
        place = (block * (graph.row.size - 1) + i) * PAIR
        a = a + load(tables.inject, place)
        b = b + load(tables.inject, place + LANES)
    for e in range(graph.row[i], graph.row[i + 1]):
        k = spread_at(tables.coupling, e)
        place = now + graph.source[e]
        a = fma(k, load(pairs, place), a)
        b = fma(k, load(pairs, place + LANES), b)
    return a, fma(spread_at(tables.node, NODE * i + 2), load(pairs, now + i * PAIR + LANES), b)


@njit(inline="always")
def _begin(theta: Any, base: Any, n: Any, pairs: Any) -> None:  # pragma: no cover - compiled
    """Sines and cosines of one block, theta at `base`, to the start of pairs."""
    for i in range(n):
        s, c = sine_cosine(load(theta, base + i * LANES))
        store_pair(pairs, i * PAIR, s, c)


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
    theta: Any, base: Any, block: Any, graph: Any, tables: Any, steps: Any, draws: Any, scratch: Any, now: Any
) -> Any:
    """One step of one block in place, theta at `base`; returns where its new sines and cosines are."""
    n = graph.row.size - 1
    pairs, change = scratch.pairs, scratch.change
    stages = steps.share.size
    for m in range(stages):
        last = m == stages - 1
        other = n * PAIR - now
        part = spread(steps.h * steps.share[m])
        ahead = part if last else spread(steps.h * steps.at[m + 1])
        for i in range(n):
            a, b = _brackets(i, graph, tables, block, pairs, now)
            s = load(pairs, now + i * PAIR)
            c = load(pairs, now + i * PAIR + LANES)
            slope = fma(c, a, spread_at(tables.node, NODE * i + 3)) - s * b
            x = load(theta, base + i * LANES)
            so_far = x if m == 0 else load(change, i * LANES)
            so_far = fma(part, slope, so_far)
            if last:
                if draws.normal.size:
                    so_far = fma(spread(draws.sd), load(draws.normal, i * LANES), so_far)
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
    theta: Any, kept: Any, graph: Any, tables: Any, steps: Any, draws: Any, scratch: Any
) -> None:
    """One segment of all blocks, theta [blocks n 32] in place.

    kept [ceil(number / stride), blocks, n 32] takes theta before every stride-th step; empty: not wanted.
    """
    n = graph.row.size - 1
    size = n * LANES
    for block in range(theta.size // size):
        base = block * size
        _begin(theta, base, n, scratch.pairs)
        now = 0
        for t in range(steps.number):
            if kept.size and t % steps.stride == 0:
                kept[t // steps.stride, block, :] = theta[base : base + size]
            if draws.normal.size:
                _draw(draws, block, t)
            now = _step(theta, base, block, graph, tables, steps, draws, scratch, now)


@njit(nogil=True, cache=True)
def _stages(  # pragma: no cover - compiled
    theta: Any,
    base: Any,
    adjoint: Any,
    at_block: Any,
    block: Any,
    graph: Any,
    tables: Any,
    steps: Any,
    scratch: Any,
) -> None:
    """All stages of a step again: pairs of each, own_i = s A + c B - 2 l s^2, and p, q of the last one."""
    n = graph.row.size - 1
    pairs, own, weighed = scratch.pairs, scratch.own, scratch.weighed
    stages = steps.share.size
    _begin(theta, base, n, pairs)
    for m in range(stages):
        last = m == stages - 1
        now = m * n * PAIR
        part = spread(steps.h * steps.share[m])
        ahead = part if last else spread(steps.h * steps.at[m + 1])
        for i in range(n):
            a, b = _brackets(i, graph, tables, block, pairs, now)
            s = load(pairs, now + i * PAIR)
            c = load(pairs, now + i * PAIR + LANES)
            second = spread_at(tables.node, NODE * i + 2)
            store(own, (m * n + i) * LANES, fma(s, a - second * s, c * b))
            if last:
                slope_adjoint = part * load(adjoint, at_block + i * LANES)
                store_pair(weighed, m % 2 * n * PAIR + i * PAIR, slope_adjoint * c, slope_adjoint * s)
            else:
                slope = fma(c, a, spread_at(tables.node, NODE * i + 3)) - s * b
                s, c = sine_cosine(fma(ahead, slope, load(theta, base + i * LANES)))
                store_pair(pairs, now + n * PAIR + i * PAIR, s, c)


@njit(nogil=True, cache=True)
def _reverse(  # pragma: no cover - compiled
    adjoint: Any, at_block: Any, block: Any, graph: Any, tables: Any, steps: Any, scratch: Any,
    d_coupling: Any, d_node: Any, d_inject: Any,
) -> None:  # fmt: skip
    """The adjoint of theta [n 32] at `at_block` from after a step to before it; gradients added up."""
    n = graph.row.size - 1
    pairs, own, weighed, change = scratch.pairs, scratch.own, scratch.weighed, scratch.change
    zero = spread(_F(0))
    stages = steps.share.size
    for m in range(stages - 1, -1, -1):
        now = m * n * PAIR
        here = m % 2 * n * PAIR
        there = n * PAIR - here
        ahead = spread(steps.h * steps.at[m])
        part = spread(steps.h * steps.share[m - 1])
        for i in range(n):
            s = load(pairs, now + i * PAIR)
            c = load(pairs, now + i * PAIR + LANES)
            minus_c = zero - c
            to_p, to_q = zero, zero
            for e in range(graph.column[i], graph.column[i + 1]):
                k = spread_at(tables.outgoing, e)
                place = here + graph.target[e]
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
                place = (block * n + i) * PAIR
                store(d_inject, place, load(d_inject, place) + p)
                store(d_inject, place + LANES, load(d_inject, place + LANES) - q)
            g = fma(c, to_p, s * to_q) - slope_adjoint * load(own, (m * n + i) * LANES)
            after = load(adjoint, at_block + i * LANES)
            so_far = after if m == stages - 1 else load(change, i * LANES)
            if m > 0:
                store(change, i * LANES, so_far + g)
                slope_adjoint = fma(ahead, g, part * after)
                place = now - n * PAIR + i * PAIR
                s = load(pairs, place)
                c = load(pairs, place + LANES)
                store_pair(weighed, there + i * PAIR, slope_adjoint * c, slope_adjoint * s)
            else:
                store(adjoint, at_block + i * LANES, so_far + g)


@njit(nogil=True, cache=True)
def backward(  # pragma: no cover - compiled
    adjoint: Any, kept: Any, graph: Any, tables: Any, steps: Any, draws: Any, scratch: Any,
    d_coupling: Any, d_node: Any, d_inject: Any,
) -> None:  # fmt: skip
    """The adjoint of theta [blocks n 32] through one segment, in place; gradients added up.

    d_coupling [E 16] in the order of sources and d_node [n 4 32] are sums still to be taken over their lanes;
    d_inject [blocks n 2 32], empty where none is wanted.
    """
    n = graph.row.size - 1
    size = n * LANES
    states = scratch.states
    for block in range(adjoint.size // size):
        for chunk in range(kept.shape[0] - 1, -1, -1):
            first = chunk * steps.stride
            count = min(steps.stride, steps.number - first)
            states[:size] = kept[chunk, block]
            if count > 1:
                _begin(states, 0, n, scratch.pairs)
            now = 0
            for t in range(count - 1):
                states[(t + 1) * size : (t + 2) * size] = states[t * size : (t + 1) * size]
                if draws.normal.size:
                    _draw(draws, block, first + t)
                now = _step(
                    states, (t + 1) * size, block, graph, tables, steps, draws, scratch, now
                )  # fmt: skip
            for t in range(count - 1, -1, -1):
                _stages(states, t * size, adjoint, block * size, block, graph, tables, steps, scratch)
                _reverse(
                    adjoint, block * size, block, graph, tables, steps, scratch, d_coupling, d_node, d_inject
                )
