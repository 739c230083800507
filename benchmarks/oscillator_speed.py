"""Oscillator kernel on one core: against torchdiffeq by the same scheme and steps, and of the FMA peak.

4 segments of 5 steps, h = 0.1, float32, batch 256: forward by RK4, training step (forward and gradient of all
tables and of the start) by Heun. torchdiffeq integrates the same law, two sines a site, with its sums over
neighbours as a matrix product, as a gather and (forward alone) as a sparse product: the ratio is to the
fastest of them, and to the first. It differentiates through its steps. Its "rk4" is the 3/8 rule: as many evaluations, the same order.
Kernel and peers take turns; medians of process time, so that other programs on the machine count little.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import common  # noqa: F401 - sets one thread before torch loads
import numpy as np
import torch
from numba import njit
from torch import Tensor

from labctl.physics.oscillators import Edges, Method, OscillatorLaw, evolve
from labctl.physics.oscillators.lanes import aligned, fma, load, spread, store

SEGMENTS, STEPS, SPAN, BATCH = 4, 5, 0.5, 256
SITE_FLOPS = 35  # floating point operations a site and stage beside the edges' 4 each; rounding not counted
RK4_STAGES = 4
FORMS = ("dense", "gather", "csr")  # how torch sums over neighbours; csr has no gradient


@dataclass(frozen=True)
class OscillatorSpeed:
    """One size: samples a second of ours and of torchdiffeq in each form, and flops going forward."""

    side: int
    degree: float
    forward_per_s: float
    peer_forward_per_s: dict[str, float]
    train_per_s: float
    peer_train_per_s: dict[str, float]
    forward_flops: float
    largest_difference: float


def grid_edges(side: int, radius: int) -> Edges:
    """A square grid, edges both ways up to Chebyshev distance `radius`."""
    y, x = np.divmod(np.arange(side * side), side)
    near = np.maximum(np.abs(y[:, None] - y), np.abs(x[:, None] - x)) <= radius
    target, source = np.nonzero(near & ~np.eye(side * side, dtype=bool))
    return Edges.of_pairs(side * side, target, source)


@njit
def _chains(state: np.ndarray, rounds: int) -> None:  # pragma: no cover - compiled
    """Twelve independent chains of multiply-add: what the processor can do at most."""
    m, a = spread(np.float32(0.999)), spread(np.float32(0.001))
    x0 = x1 = x2 = x3 = x4 = x5 = load(state, 0)
    x6 = x7 = x8 = x9 = x10 = x11 = load(state, 32)
    for _ in range(rounds):
        x0, x1, x2 = fma(x0, m, a), fma(x1, a, m), fma(x2, m, m)
        x3, x4, x5 = fma(x3, a, a), fma(x4, m, x4), fma(x5, a, x5)
        x6, x7, x8 = fma(x6, m, a), fma(x7, a, m), fma(x8, m, m)
        x9, x10, x11 = fma(x9, a, a), fma(x10, m, x10), fma(x11, a, x11)
    store(state, 0, x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + x10 + x11)


def peak_flops() -> float:
    """Floating point operations a second of one core, multiply-adds only: the best of several runs."""
    rounds, best = 500_000, np.inf
    for _ in range(7):
        state = aligned(64)
        state[:32], state[32:] = 0.3, 0.7
        best = min(best, _process_s(lambda state=state: _chains(state, rounds)))
    return 12 * 32 * 2 * rounds / best


def _process_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _interleaved(works: list[Callable[[], object]], repeats: int = 5, turn_s: float = 0.05) -> list[float]:
    """Median process seconds of each, taking turns of about turn_s at least; each warmed up first."""
    for work in works:
        work()
    counts = [max(1, round(turn_s / max(_process_s(work), 1e-6))) for work in works]
    taken = [
        [
            _process_s(lambda work=work, count=count: [work() for _ in range(count)]) / count
            for work, count in zip(works, counts, strict=True)
        ]
        for _ in range(repeats)
    ]
    return [float(v) for v in np.median(taken, axis=0)]


def _summed(form: str, edges: Edges, coupling: Tensor) -> Callable[[Tensor], Tensor]:
    """v [B, n] to its sums over neighbours."""
    target, source = (torch.from_numpy(end).long() for end in (edges.target, edges.source))
    if form == "gather":
        return lambda v: torch.zeros_like(v).index_add(1, target, v[:, source] * coupling)
    if form == "dense":
        transposed = coupling.new_zeros(edges.n, edges.n).index_put((source, target), coupling)
        return lambda v: v @ transposed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is new
        matrix = torch.sparse_csr_tensor(
            torch.from_numpy(edges.row_start), torch.from_numpy(edges.source), coupling, (edges.n, edges.n)
        )
    return lambda v: (matrix @ v.T).T


def _peer(form: str, edges: Edges, law: OscillatorLaw, theta: Tensor, method: str) -> Tensor:
    """The same run by torchdiffeq."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchdiffeq import odeint

    times = torch.tensor([0.0, SPAN])
    for k in range(SEGMENTS):
        a, b, second, w = (t[k] for t in (law.in_phase, law.quadrature, law.second, law.detuning))
        couple = _summed(form, edges, law.coupling[k])

        def rate(
            t: Tensor,
            y: Tensor,
            a: Tensor = a,
            b: Tensor = b,
            second: Tensor = second,
            w: Tensor = w,
            couple: Callable[[Tensor], Tensor] = couple,
        ) -> Tensor:
            s, c = torch.sin(y), torch.cos(y)
            return c * (couple(s) + a) - s * (couple(c) + b + 2 * second * c) + w

        theta = odeint(rate, theta, times, method=method, options={"step_size": SPAN / STEPS})[-1]
    return theta


def measure_size(side: int, radius: int) -> OscillatorSpeed:
    """Rates on a grid of side x side."""
    torch.manual_seed(3)
    edges = grid_edges(side, radius)
    leaves = [0.3 * torch.randn(SEGMENTS, width) for width in (len(edges), *[edges.n] * 4)]
    leaves = [leaf.requires_grad_() for leaf in (*leaves, torch.pi * (2 * torch.rand(BATCH, edges.n) - 1))]
    law, theta = OscillatorLaw(*leaves[:5]), leaves[5]

    def ours(method: Method) -> Tensor:
        return evolve(edges, law, theta, duration=SPAN, steps=STEPS, method=method, backend="compiled")

    def quiet(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        return torch.no_grad()(run)

    def trained(run: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(run().cos().sum(), leaves)

    going = _interleaved(
        [quiet(lambda: ours("rk4"))]
        + [quiet(lambda form=form: _peer(form, edges, law, theta, "rk4")) for form in FORMS]
    )
    training = _interleaved(
        [trained(lambda: ours("heun"))]
        + [trained(lambda form=form: _peer(form, edges, law, theta, "heun2")) for form in FORMS[:2]]
    )
    with torch.no_grad():
        apart = (ours("heun") - _peer("dense", edges, law, theta, "heun2")).abs().max().item()
    stages = BATCH * edges.n * SEGMENTS * STEPS * RK4_STAGES
    return OscillatorSpeed(
        side=side,
        degree=len(edges) / edges.n,
        forward_per_s=BATCH / going[0],
        peer_forward_per_s={form: BATCH / taken for form, taken in zip(FORMS, going[1:], strict=True)},
        train_per_s=BATCH / training[0],
        peer_train_per_s={form: BATCH / taken for form, taken in zip(FORMS, training[1:], strict=False)},
        forward_flops=stages * (4 * len(edges) / edges.n + SITE_FLOPS) / going[0],
        largest_difference=apart,
    )


def measure() -> tuple[float, tuple[OscillatorSpeed, ...]]:
    """(FMA peak, rates at 8 x 8 and 28 x 28 with 8 neighbours, then 24) in one run, one thread."""
    torch.set_num_threads(1)
    peak = peak_flops()
    return peak, tuple(measure_size(side, radius) for side, radius in ((8, 1), (28, 1), (8, 2), (28, 2)))


def table() -> str:
    """The figures of one run, as markdown."""
    peak, sizes = measure()
    lines = [
        f"FMA peak of this core: {peak / 1e9:.0f} GFLOP/s (float32)",
        "",
        "| grid | mean degree | job | samples/s | torchdiffeq dense | gather | csr | over the fastest | over dense "
        "| GFLOP/s | of the peak | largest difference (rad) |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for s in sizes:
        for job, rate, peers in (
            ("forward, RK4", s.forward_per_s, s.peer_forward_per_s),
            ("training step, Heun", s.train_per_s, s.peer_train_per_s),
        ):
            shown = " | ".join(f"{peers[form]:,.0f}" if form in peers else "" for form in FORMS)
            speed = f"{s.forward_flops / 1e9:.0f} | {s.forward_flops / peak:.0%}" if "RK4" in job else " | "
            lines.append(
                f"| {s.side} x {s.side} | {s.degree:.1f} | {job} | {rate:,.0f} | {shown} "
                f"| {rate / max(peers.values()):.0f}x | {rate / peers['dense']:.0f}x | {speed} "
                f"| {s.largest_difference:.0e} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
