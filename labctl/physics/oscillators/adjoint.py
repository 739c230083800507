"""The compiled kernels as one differentiable operation: float32 on the CPU, one thread."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.fused import (
    NODE,
    PAIR,
    Draws,
    Graph,
    Scratch,
    Tables,
    backward,
    forward,
)
from labctl.physics.oscillators.lanes import HALF, LANES, aligned
from labctl.physics.oscillators.law import Inject, OscillatorLaw
from labctl.physics.oscillators.noise import PhaseNoise
from labctl.physics.oscillators.schemes import SCHEMES, Method

KEPT_BYTES = 256 * 2**20  # of states kept for the gradient; beyond it, steps are run again
# from this share of all pairs on, sums over whole rows of a matrix beat those over edges (1.7 times as fast)
DENSE_SHARE = 0.6


def _dense(edges: Edges) -> bool:
    """Whether the kernels sum over all sources rather than over edges."""
    return len(edges) > DENSE_SHARE * edges.n**2


@lru_cache(maxsize=64)
def _graph(edges: Edges) -> Graph:
    """The edges as the kernels read them."""
    return Graph(
        np.zeros_like(edges.row_start) if _dense(edges) else edges.row_start, edges.source * np.int32(PAIR),
        edges.column_start, edges.target[edges.by_source] * np.int32(PAIR),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run does, apart from the numbers that it is differentiated in."""

    edges: Edges
    durations: tuple[float, ...]
    steps: int
    method: Method
    noise: PhaseNoise | None

    def stride(self, batch: int) -> int:
        """Steps per kept state, so that all segments' states stay within KEPT_BYTES."""
        total = 4 * batch * self.edges.n * self.steps * len(self.durations)
        return min(self.steps, math.ceil(total / KEPT_BYTES))

    def tables(self, law: tuple[Tensor, ...]) -> Tables:
        """The law's tables and the scheme as the kernels read them."""
        coupling, a, b, second, w = (t.numpy() for t in law)
        node = np.stack([a, b, 2 * second, w], axis=2).reshape(len(a), -1)
        matrix = np.zeros((len(coupling), self.edges.n**2 if _dense(self.edges) else 0), np.float32)
        if _dense(self.edges):
            matrix[:, self.edges.target.astype(np.int64) * self.edges.n + self.edges.source] = coupling
        at, share = (np.array(row, np.float64) for row in SCHEMES[self.method])
        h = np.array(self.durations)[:, None] / self.steps
        return Tables(
            np.ascontiguousarray(coupling), np.take(coupling, self.edges.by_source, axis=1),
            matrix, node,
            (h * at).astype(np.float32), (h * share).astype(np.float32),
        )  # fmt: skip

    def draws(self, blocks: int) -> Draws:
        """The noise; normal is empty where there is none."""
        force = np.zeros(len(self.durations), np.float32)
        noise = self.noise
        quiet = noise is None or noise.diffusion == 0
        half = 0 if quiet else 2 * -(-self.edges.n // 4)
        value, ids = np.empty(LANES * half, np.float32), np.zeros(blocks * LANES, np.uint32)
        key, first_step = np.zeros(2, np.uint32), 0
        if noise is not None and not quiet:
            force[:] = [noise.force(span / self.steps) for span in self.durations]
            key, first_step = np.array(noise.stream.key(), np.uint32), noise.first_step
            ids[: len(noise.sample_id)] = noise.sample_id
        return Draws(
            force, key, ids.reshape(blocks, LANES), first_step, np.empty((2, LANES, half), np.uint32), value,
            value.view(np.int32), np.empty(LANES * half, np.float32),
            np.empty((LANES, 2 * half), np.float32), aligned(0 if quiet else self.edges.n * LANES),
        )  # fmt: skip

    def scratch(self, injected: bool, stride: int = 1, adjoint: bool = False) -> Scratch:
        """One block's working space."""
        n, stages = self.edges.n, len(SCHEMES[self.method][0])
        return Scratch(
            aligned((max(stages, 2) if adjoint else 2) * n * PAIR, fill=None), aligned(n * LANES, fill=None),
            aligned(stride * n * LANES), aligned(n * PAIR if injected else 0),
            aligned(n * PAIR if _dense(self.edges) else 0, fill=None),
            aligned(stages * n * LANES if adjoint else 0, fill=None),
            aligned(2 * n * PAIR if adjoint else 0, fill=None),
        )  # fmt: skip


def evolve_compiled(plan: Plan, law: OscillatorLaw, theta: Tensor, inject: Inject | None) -> Tensor:
    """Phases [B, n] after all segments; float32 on the CPU throughout."""
    inputs = law.coupling, law.in_phase, law.quadrature, law.second, law.detuning, theta, *(inject or ())
    # asked here: within the operation itself, gradients are off, and inputs that could have one say so anyway
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    extra = () if inject is not None else (None, None)
    out: Tensor = _Evolved.apply(plan, keep, *inputs, *extra)  # type: ignore[no-untyped-call]
    return out


class _Evolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, wanted: bool, *inputs: Any) -> Tensor:
        law, theta = inputs[:5], inputs[5].contiguous()
        injected = inputs[6] is not None
        inject = torch.stack(inputs[6:]).numpy() if injected else np.zeros((2, 0, 0), np.float32)
        blocks = -(-len(theta) // LANES)
        stride = plan.stride(len(theta)) if wanted else plan.steps
        keeps = -(-plan.steps // stride) if wanted else 0
        kept = np.empty((len(plan.durations), keeps, blocks, plan.edges.n * LANES), np.float32)
        out = np.empty(theta.shape, np.float32)
        forward(
            theta.numpy(), inject, out, kept, stride, plan.steps, _graph(plan.edges), plan.tables(law),
            plan.draws(blocks), plan.scratch(injected),
        )  # fmt: skip
        if wanted:
            ctx.plan, ctx.kept, ctx.stride, ctx.inject = plan, kept, stride, inject
            ctx.save_for_backward(*law)
        return torch.from_numpy(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan, edges, inject = ctx.plan, ctx.plan.edges, ctx.inject
        after = grads[0].contiguous().numpy()
        segments, blocks, injected = len(plan.durations), ctx.kept.shape[2], inject.size > 0
        of_edges, of_nodes = aligned(segments, len(edges) * HALF), aligned(segments, edges.n * NODE * LANES)
        before, d_inject = np.empty_like(after), np.empty_like(inject)
        backward(
            after, inject, ctx.kept, ctx.stride, plan.steps, _graph(edges), plan.tables(ctx.saved_tensors),
            plan.draws(blocks), plan.scratch(injected, ctx.stride, adjoint=True),
            aligned(blocks, edges.n * LANES), of_edges, of_nodes,
            aligned(blocks, edges.n * PAIR if injected else 0), before, d_inject,
        )  # fmt: skip
        coupling = np.empty((segments, len(edges)), np.float32)
        coupling[:, edges.by_source] = of_edges.reshape(segments, -1, HALF).sum(2)
        node = of_nodes.reshape(segments, -1, NODE, LANES).sum(3)
        node[:, :, 2] *= 2  # the kernels' table holds 2 l
        nodes = [torch.from_numpy(np.ascontiguousarray(node[:, :, j])) for j in range(NODE)]
        extra = list(torch.from_numpy(d_inject)) if injected else [None, None]
        return (None, None, torch.from_numpy(coupling), *nodes, torch.from_numpy(before), *extra)
