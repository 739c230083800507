"""The compiled kernels as one differentiable operation: float32 on the CPU, one thread."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.fused import (
    NODE,
    PAIR,
    Draws,
    Graph,
    Scratch,
    Steps,
    Tables,
    backward,
    forward,
)
from labctl.physics.oscillators.lanes import HALF, LANES, Float32, aligned
from labctl.physics.oscillators.law import Inject, OscillatorLaw
from labctl.physics.oscillators.noise import PhaseNoise
from labctl.physics.oscillators.schemes import SCHEMES, Method

KEPT_BYTES = 256 * 2**20  # of states kept for the gradient; beyond it, steps are run again
_NONE = np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run does, apart from the numbers that it is differentiated in."""

    edges: Edges
    durations: tuple[float, ...]
    steps: int
    method: Method
    noise: PhaseNoise | None

    def graph(self) -> Graph:
        """The edges as the kernels read them."""
        edges = self.edges
        return Graph(
            edges.row_start.astype(np.int64), edges.source.astype(np.int64) * PAIR,
            edges.column_start.astype(np.int64), edges.target[edges.by_source].astype(np.int64) * PAIR,
        )  # fmt: skip

    def schedule(self, k: int, stride: int) -> Steps:
        """Segment k's steps."""
        at, share = SCHEMES[self.method]
        return Steps(
            np.float32(self.durations[k] / self.steps), self.steps, np.array(at, np.float32),
            np.array(share, np.float32), stride,
        )  # fmt: skip

    def stride(self, batch: int) -> int:
        """Steps per kept state, so that all segments' states stay within KEPT_BYTES."""
        total = 4 * batch * self.edges.n * self.steps * len(self.durations)
        return min(self.steps, math.ceil(total / KEPT_BYTES))

    def draws(self, k: int, blocks: int) -> Draws:
        """Segment k's noise; normal is empty where there is none."""
        noise = self.noise
        if noise is None or noise.diffusion == 0:
            ids = np.zeros((blocks, 0), np.uint32)
            words = np.zeros((2, 0, 0), np.uint32)
            nothing = np.zeros((0, 0), np.float32)
            return Draws(
                np.float32(0), np.zeros(2, np.uint32), ids, 0, words, _NONE, _NONE.view(np.int32), _NONE,
                nothing, _NONE,
            )  # fmt: skip
        flat = np.zeros(blocks * LANES, np.uint32)
        flat[: len(noise.sample_id)] = noise.sample_id
        half = 2 * -(-self.edges.n // 4)
        value = np.zeros(LANES * half, np.float32)
        return Draws(
            np.float32(noise.sd(self.durations[k] / self.steps)), np.array(noise.stream.key(), np.uint32),
            flat.reshape(blocks, LANES), noise.first_step + k * self.steps,
            np.zeros((2, LANES, half), np.uint32), value, value.view(np.int32),
            np.zeros(LANES * half, np.float32), np.zeros((LANES, 2 * half), np.float32),
            aligned(self.edges.n * LANES),
        )  # fmt: skip

    def scratch(self, stride: int, gradient: bool) -> Scratch:
        """One block's working space."""
        n, stages = self.edges.n, len(SCHEMES[self.method][0])
        if not gradient:
            return Scratch(aligned(2 * n * PAIR), aligned(n * LANES), _NONE, _NONE, _NONE)
        return Scratch(
            aligned(max(stages, 2) * n * PAIR), aligned(n * LANES), aligned(stages * n * LANES),
            aligned(2 * n * PAIR), aligned(stride * n * LANES),
        )  # fmt: skip


def evolve_compiled(plan: Plan, law: OscillatorLaw, theta: Tensor, inject: Inject | None) -> Tensor:
    """Phases [B, n] after all segments; float32 on the CPU throughout."""
    extra = inject if inject is not None else (None, None)
    out: Tensor = _Evolved.apply(  # type: ignore[no-untyped-call]
        plan, law.coupling, law.in_phase, law.quadrature, law.second, law.detuning, theta, *extra
    )
    return out


class _Evolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, *inputs: Any) -> Tensor:
        tables, theta = [t.detach() for t in inputs[:5]], inputs[5]
        state = to_lanes(theta)
        batch = len(theta)
        injected = _pairs_to_lanes(inputs[6], inputs[7])
        wanted = any(ctx.needs_input_grad)
        stride = plan.stride(batch) if wanted else plan.steps
        graph, scratch = plan.graph(), plan.scratch(stride, gradient=False)
        keeps = -(-plan.steps // stride) if wanted else 0
        kept = []
        for k in range(len(plan.durations)):
            held = np.empty((keeps, len(state), state[0].size), np.float32)
            forward(
                state.reshape(-1), held, graph, _tables(plan.edges, tables, k, injected),
                plan.schedule(k, stride), plan.draws(k, len(state)), scratch,
            )  # fmt: skip
            kept.append(held)
        if wanted:
            ctx.plan, ctx.kept, ctx.stride, ctx.graph = plan, kept, stride, graph
            ctx.save_for_backward(*tables)
            ctx.injected, ctx.batch = injected, batch
        return from_lanes(state, batch)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan, edges, tables = ctx.plan, ctx.plan.edges, ctx.saved_tensors
        adjoint = to_lanes(grads[0])
        scratch = plan.scratch(ctx.stride, gradient=True)
        d_inject = aligned(ctx.injected.size)
        d_coupling = np.zeros((len(plan.durations), len(edges)), np.float32)
        d_node = np.zeros((len(plan.durations), edges.n, NODE), np.float32)
        for k in range(len(plan.durations) - 1, -1, -1):
            of_edges, of_nodes = aligned(len(edges), HALF), aligned(edges.n, NODE, LANES)
            backward(
                adjoint.reshape(-1), ctx.kept[k], ctx.graph, _tables(edges, tables, k, ctx.injected),
                plan.schedule(k, ctx.stride), plan.draws(k, len(adjoint)), scratch,
                of_edges.reshape(-1), of_nodes.reshape(-1), d_inject,
            )  # fmt: skip
            d_coupling[k, edges.by_source] = of_edges.sum(1)
            d_node[k] = of_nodes.sum(2)
        d_node[:, :, 2] *= 2  # the kernels' table holds 2 l
        nodes = [torch.from_numpy(np.ascontiguousarray(d_node[:, :, j])) for j in range(NODE)]
        extra: list[Tensor | None] = [None, None]
        if d_inject.size:
            pairs = d_inject.reshape(len(adjoint), edges.n, 2, LANES)
            extra = [from_lanes(pairs[:, :, j], ctx.batch) for j in range(2)]
        return (None, torch.from_numpy(d_coupling), *nodes, from_lanes(adjoint, ctx.batch), *extra)


def to_lanes(values: Tensor) -> Float32:
    """[B, n] as [blocks, n, 32], the last block filled up with zeros."""
    rows = values.detach().numpy()
    batch, n = rows.shape
    out = aligned(-(-batch // LANES), n, LANES)
    whole = batch // LANES
    out[:whole] = rows[: whole * LANES].reshape(whole, LANES, n).transpose(0, 2, 1)
    if batch % LANES:
        out[whole, :, : batch % LANES] = rows[whole * LANES :].T
    return out


def from_lanes(values: Float32, batch: int) -> Tensor:
    """[blocks, n, 32] as [B, n]."""
    rows = values.transpose(0, 2, 1).reshape(-1, values.shape[1])[:batch]
    return torch.from_numpy(np.ascontiguousarray(rows))


def _pairs_to_lanes(a: Tensor | None, b: Tensor | None) -> Float32:
    if a is None or b is None:
        return _NONE
    first = to_lanes(a)
    out = aligned(len(first), first.shape[1], 2, LANES)
    out[:, :, 0], out[:, :, 1] = first, to_lanes(b)
    return out.reshape(-1)


def _tables(edges: Edges, tables: list[Tensor], k: int, injected: Float32) -> Tables:
    coupling, a, b, second, w = (t[k].numpy() for t in tables)
    node: NDArray[np.float32] = np.stack([a, b, 2 * second, w], axis=1)
    return Tables(np.ascontiguousarray(coupling), coupling[edges.by_source], node.reshape(-1), injected)
