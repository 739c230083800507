"""Programs: segments that each say gains, leak, biases and when they end; the state is carried on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.programs.placement import PlacedWeights

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Settled:
    """The segment ends after wait and window; CONVERGED if the window's halves agree within `tolerance`."""

    tolerance: float


@dataclass(frozen=True, eq=False)
class LoopSegment:
    """One settle of the loop law, in network units.

    leak [n], gain [C, n] (multiplies W phi(z)) and bias [C, n] for C classes (1 = unconditional). At run
    time a sample of class c with injection i [d] gets bias[c] + inject_scale * i on rows u. kind "implicit"
    is a diffusion step (rows u are read); "evaluate" is one network evaluation (rows h_L are read).
    """

    kind: Literal["implicit", "evaluate"]
    sigma: float
    leak: FloatArray
    gain: FloatArray
    bias: FloatArray
    inject_scale: float
    end: Settled

    def bias_of(self, inject: FloatArray, labels: NDArray[np.int64] | None, state: slice) -> FloatArray:
        """Biases [B, n] of a batch: the class's table plus the injection [B, d] on rows u."""
        batch = len(inject)
        row = np.zeros(batch, np.int64) if labels is None else labels
        bias = self.bias[row].copy()
        bias[:, state] += self.inject_scale * inject
        return bias


@dataclass(frozen=True, eq=False)
class LoopProgram:
    """One matrix, shown once, and the segments that run on it."""

    weights: PlacedWeights
    segments: tuple[LoopSegment, ...]

    @property
    def n_classes(self) -> int:
        """Rows of the class tables (1 = unconditional)."""
        return len(self.segments[0].gain)

    def watched(self, segment: LoopSegment) -> slice:
        """Rows that are read and whose settling counts: u, or h_L in `evaluate`."""
        placement = self.weights.placement
        return placement.state if segment.kind == "implicit" else placement.last_hidden

    @property
    def hash(self) -> str:
        """SHA-256 of weights and tables: the key under which compensation is kept."""
        digest = hashlib.sha256()
        digest.update(np.ascontiguousarray(self.weights.weights).tobytes())
        for segment in self.segments:
            digest.update(f"{segment.kind} {segment.sigma!r} {segment.inject_scale!r}".encode())
            for table in (segment.leak, segment.gain, segment.bias):
                digest.update(np.ascontiguousarray(table).tobytes())
        return digest.hexdigest()
