"""The independent reference: float64, basin-following relaxed Picard; Anderson where asked for."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices import Outcome, ProgramError
from labctl.engines.host_model import law_of
from labctl.engines.result import AppliedKnobs, Batch, FixedPointResult, Ledger
from labctl.physics import LoopLaw
from labctl.programs import LoopProgram, LoopSegment

FloatArray = NDArray[np.float64]


class DigitalEngine:
    """Solves segments on the host: z <- z + delta (F(z) - z) from the given start.

    Small delta follows the loop's own flow, so that of several roots it takes the loop's. tolerance is on
    |F(z) - z| (network units) and is the engine's own: it does not use the segment's. `method="anderson"`
    (window 5, type II, Walker and Ni 2011) is faster but may jump to another root.
    """

    def __init__(
        self,
        n_channels: int = 48,
        *,
        tolerance: float = 1e-10,
        max_iterations: int = 20_000,
        delta: float = 0.4,
        method: Literal["picard", "anderson"] = "picard",
        name: str = "digital",
    ) -> None:
        self._n, self._name = n_channels, name
        self._tolerance, self._max_iterations = tolerance, max_iterations
        self._delta, self._method = delta, method
        self._program: LoopProgram | None = None
        self._weights: list[FloatArray] = [np.zeros((n_channels, n_channels))]
        self._shown = 0

    @property
    def name(self) -> str:
        """For messages and the log."""
        return self._name

    @property
    def n_channels(self) -> int:
        """Variables of the loop."""
        return self._n

    def load(self, program: LoopProgram, *, weights: FloatArray | None = None) -> None:
        """Take a program; `weights` [n, n] replaces its only W (what a frame realises, say)."""
        if program.placement.n_channels != self._n:
            raise ProgramError(
                f"{self._name}: the program is for {program.placement.n_channels} channels; "
                f"allowed: {self._n}"
            )
        if weights is not None and len(program.matrices) > 1:
            raise ProgramError(
                f"{self._name}: weights replace one matrix, there are {len(program.matrices)}; allowed: 1"
            )
        self._program, self._shown = program, program.segments[0].matrix
        self._weights = [matrix.weights for matrix in program.matrices] if weights is None else [weights]

    def measured_weights(self) -> FloatArray:
        """W [n, n], network units; of several matrices the last settle's."""
        return self._weights[self._shown]

    def light(self, z: FloatArray, rows: slice, columns: slice) -> FloatArray:
        """y [B, r] of rows: W tanh(z) over `columns`."""
        return np.asarray(np.tanh(z[:, columns]) @ self.measured_weights()[rows, columns].T)

    def solve(self, segment: LoopSegment, batch: Batch, *, audit: int = 0) -> FixedPointResult:
        """Fixed points of one segment; `audit` is ignored: a host has no settle time."""
        if self._program is None:
            raise ProgramError(f"{self._name}: no program is loaded; call load(program) first")
        started = time.perf_counter()
        placement, self._shown = self._program.placement, segment.matrix
        weights = self._weights[segment.matrix]
        bias = segment.bias_of(batch.inject, batch.labels, placement.state)
        gain = segment.gain if batch.labels is None else segment.gain[batch.labels]
        law = law_of(weights, gain, segment.leak, bias)
        rows = self._program.watched(segment)
        solver = _picard if self._method == "picard" else _anderson
        start = torch.from_numpy(np.array(batch.start, dtype=np.float64))
        z, last, count = solver(law, start, self._delta, self._tolerance, self._max_iterations)
        state: FloatArray = z.numpy()
        slope = law.slope(z).abs()
        left = slope.amax(dim=1).numpy()
        outcome = np.full(len(state), Outcome.CONVERGED, np.uint8)
        outcome[left > self._tolerance * 10] = Outcome.MAX_TIME
        outcome[~np.isfinite(left)] = Outcome.DIVERGED
        macs = int(np.count_nonzero(weights)) * int(count.sum())
        return FixedPointResult(
            z=state,
            outcome=outcome,
            step_norm=last.numpy(),
            residual_norm=slope[:, rows].amax(dim=1).numpy(),
            applied=AppliedKnobs(segment.gain, segment.leak, None, None, None),
            ledger=Ledger(host_s=time.perf_counter() - started, settles=len(state), host_macs=macs),
            iterations=count.numpy(),
        )


def _subset(law: LoopLaw, keep: Tensor) -> LoopLaw:
    gain = law.gain if len(law.gain) == 1 else law.gain[keep]
    return LoopLaw(law.weights, gain, law.leak, law.bias[keep], law.linear_rows)


def _picard(
    law: LoopLaw, z: Tensor, delta: float, tolerance: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(z, last change, evaluations) per sample; converged samples leave the batch."""
    out, last = z.clone(), torch.full((len(z),), torch.inf, dtype=z.dtype)
    count = torch.zeros(len(z), dtype=torch.int64)
    active = torch.arange(len(z))
    now, part = z, law
    for k in range(1, limit + 1):
        slope = part.slope(now)
        now = now + delta * slope
        if k % 10 and k < limit:
            continue
        size = slope.abs().amax(dim=1)
        done = (size <= tolerance) | ~torch.isfinite(size)
        out[active], last[active], count[active] = now, delta * size, k
        if bool(done.any()):
            keep = ~done
            active, now, part = active[keep], now[keep], _subset(part, keep)
            if not len(active):
                break
    return out, last, count


def _anderson(
    law: LoopLaw, z: Tensor, delta: float, tolerance: float, limit: int, memory: int = 5
) -> tuple[Tensor, Tensor, Tensor]:
    """Anderson acceleration of the same map, mixing `delta`, on the whole batch until all agree."""
    states, slopes = [z], [law.slope(z)]
    count = 0
    while count < limit:
        count += 1
        dz = torch.stack([states[-1] - s for s in states[:-1]], 2) if len(states) > 1 else None
        if dz is None:
            new = states[-1] + delta * slopes[-1]
        else:
            df = torch.stack([slopes[-1] - s for s in slopes[:-1]], 2)
            normal = df.mT @ df
            ridge = 1e-12 * normal.diagonal(dim1=1, dim2=2).amax(1)[:, None, None] + 1e-300
            normal = normal + ridge * torch.eye(normal.shape[1], dtype=z.dtype)
            mix = torch.linalg.solve(normal, df.mT @ slopes[-1][:, :, None])
            new = states[-1] + delta * slopes[-1] - ((dz + delta * df) @ mix)[:, :, 0]
        states, slopes = [*states, new][-memory - 1 :], [*slopes, law.slope(new)][-memory - 1 :]
        if bool((slopes[-1].abs().amax(1) <= tolerance).all()):
            break
    size = slopes[-1].abs().amax(dim=1)
    return states[-1], delta * size, torch.full((len(z),), count, dtype=torch.int64)
