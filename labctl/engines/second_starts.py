"""The multistability audit: settle a share of a batch from other starts too, and mark what ends apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labctl.devices import LoopElectronics, Outcome
from labctl.engines.optical_loop import OpticalLoopEngine
from labctl.engines.result import Batch, FixedPointResult
from labctl.programs import ChainUpdate, LoopProgram, LoopSegment

FloatArray = NDArray[np.float64]


class SecondStarts:
    """An optical engine that audits the first `count` samples of each implicit settle.

    Where a second start finds another root, a CONVERGED sample becomes MULTISTABLE. The states are those of
    the plain engine.
    """

    def __init__(self, engine: OpticalLoopEngine, count: int) -> None:
        self._engine, self._count = engine, count

    @property
    def name(self) -> str:
        """The engine's."""
        return self._engine.name

    @property
    def n_channels(self) -> int:
        """The engine's."""
        return self._engine.n_channels

    @property
    def electronics(self) -> LoopElectronics:
        """The engine's."""
        return self._engine.electronics

    def load(self, program: LoopProgram) -> None:
        """The engine's."""
        self._engine.load(program)

    def light(self, z: FloatArray, rows: slice, columns: slice) -> FloatArray:
        """The engine's own."""
        return self._engine.light(z, rows, columns)

    def measured_weights(self) -> FloatArray:
        """The engine's."""
        return self._engine.measured_weights()

    def solve(self, segment: LoopSegment, batch: Batch, *, audit: int = 0) -> FixedPointResult:
        """The engine's, with its outcomes audited."""
        return self._audited(segment, batch, self._engine.solve(segment, batch, audit=audit))

    def solve_chain(
        self,
        segments: Sequence[LoopSegment],
        batch: Batch,
        updates: Sequence[ChainUpdate],
        *,
        noise: FloatArray | None = None,
        audit: int = 0,
    ) -> list[tuple[FloatArray, FixedPointResult]]:
        """The engine's; each settle is audited from the start that the sequencer gave it."""
        settles = self._engine.solve_chain(segments, batch, updates, noise=noise, audit=audit)
        out, own = [], batch
        for k, (segment, (inject, result)) in enumerate(zip(segments, settles, strict=True)):
            out.append((inject, self._audited(segment, replace(own, inject=inject), result)))
            if k < len(updates):
                state = slice(0, inject.shape[1])
                x = updates[k].e * result.z[:, state] / segment.inject_scale + updates[k].f * inject
                start = result.z.copy()
                start[:, state] = segments[k + 1].inject_scale * (x + (0.0 if noise is None else noise[k]))
                own = replace(own, start=start, step_id=own.step_id + 1)
        return out

    def _audited(self, segment: LoopSegment, batch: Batch, result: FixedPointResult) -> FixedPointResult:
        if segment.kind != "implicit":
            return result
        part = slice(0, self._count)
        share = Batch(
            batch.inject[part],
            batch.start[part],
            None if batch.labels is None else batch.labels[part],
            batch.sample_id[part],
            batch.step_id,
        )
        other = self._engine.second_start(segment, share, result.z[part])
        outcome = result.outcome.copy()
        outcome[part][other & (outcome[part] == Outcome.CONVERGED)] = Outcome.MULTISTABLE
        return replace(result, outcome=outcome)
