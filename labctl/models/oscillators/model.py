"""A model made of oscillators, at rest: what its card tells of it, and how pictures are drawn on the host."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices.errors import DataError
from labctl.devices.topology import Topology
from labctl.models.oscillators.board_law import with_errors
from labctl.models.oscillators.couplings import row_sums
from labctl.models.oscillators.settings import BoardErrors, GridShape
from labctl.models.pictures import Pictures
from labctl.physics import Stream
from labctl.physics.oscillators import OscillatorLaw, PhaseNoise
from labctl.programs import OscillatorProgram

_CHUNK = 1000


@dataclass(frozen=True, eq=False)
class OscillatorModel(ABC):
    """Makes pictures of `side` pixels a side; without a `program` its couplings are floats."""

    side: int
    shape: GridShape
    topology: Topology
    program: OscillatorProgram | None = field(default=None, kw_only=True)

    stream: ClassVar[str]  # names the draws of its noise

    @abstractmethod
    def segments_law(self) -> OscillatorLaw:
        """The law of all its segments."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Numbers that act."""

    @abstractmethod
    def _draw(
        self, ids: NDArray[np.int64], law: OscillatorLaw, noise: PhaseNoise, *, seed: int, refine: int
    ) -> Pictures:
        """Pixels [len(ids), side^2] in 0..1, float32, of those samples under `law` with `noise`."""

    @property
    def bits(self) -> int | None:
        """Of a coupling; None for floats."""
        return None if self.program is None else self.program.bits

    def row_sum(self) -> float:
        """max_i sum_j |K_ij| over all segments, units."""
        return float(row_sums(self.topology, self.segments_law().coupling.abs()).max())

    def generate(
        self,
        count: int,
        *,
        seed: int = 0,
        refine: int = 1,
        errors: BoardErrors | None = None,
        board: int = 0,
    ) -> Pictures:
        """`count` pictures [count, side, side] in 0..1; sample i's draws depend on seed and i alone.

        `refine` takes that many times the steps, which shows what a training learnt of the solver instead of
        the oscillators. `errors` are those of board number `board`, the same for every picture. DataError
        for a `count` or `refine` below 1.
        """
        if count < 1 or refine < 1:
            raise DataError(f"count {count}, refine {refine}; allowed: 1 or more of each")
        law, diffusion = self.segments_law(), 0.0
        if errors is not None:
            draw = torch.Generator().manual_seed(2**32 + board)
            law, diffusion = with_errors(law, errors, draw), errors.diffusion
        parts = []
        for first in range(0, count, _CHUNK):
            ids = np.arange(first, min(first + _CHUNK, count), dtype=np.int64)
            noise = PhaseNoise(diffusion, Stream(seed, self.stream, "phases"), ids)
            parts.append(self._draw(ids, law, noise, seed=seed, refine=refine))
        return np.concatenate(parts).reshape(count, self.side, self.side)
