"""Programs: segments that each say gains, leak, biases and when they end; the state is carried on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.devices.errors import ProgramError
from labctl.programs.placement import PlacedWeights, Placement

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
    is a diffusion step (rows u are read); "evaluate" is one network evaluation (rows h_L are read). `matrix`
    says which of the program's it runs on; `last` is False where the same step goes on with another matrix.
    """

    kind: Literal["implicit", "evaluate"]
    sigma: float
    leak: FloatArray
    gain: FloatArray
    bias: FloatArray
    inject_scale: float
    end: Settled
    matrix: int = 0
    last: bool = True

    def bias_of(self, inject: FloatArray, labels: NDArray[np.int64] | None, state: slice) -> FloatArray:
        """Biases [B, n] of a batch: the class's table plus the injection [B, d] on rows u."""
        batch = len(inject)
        row = np.zeros(batch, np.int64) if labels is None else labels
        bias = self.bias[row].copy()
        bias[:, state] += self.inject_scale * inject
        return bias


@dataclass(frozen=True, eq=False)
class LoopProgram:
    """Matrices and the segments that run on them, in order. One matrix, shown once, is the usual case.

    With several the machine is several machines in sequence: it shows another where a segment asks for it,
    and the samples are carried over by the host. All are placed alike. Raises ProgramError where they are
    not, or where a segment names a matrix that is not there.
    """

    matrices: tuple[PlacedWeights, ...]
    segments: tuple[LoopSegment, ...]

    def __post_init__(self) -> None:
        placements = {(matrix.placement.sizes, matrix.placement.n_channels) for matrix in self.matrices}
        if len(placements) != 1:
            raise ProgramError(
                f"{len(self.matrices)} matrices are placed in {len(placements)} ways; allowed: 1"
            )
        for segment in self.segments:
            if not 0 <= segment.matrix < len(self.matrices):
                raise ProgramError(
                    f"a segment names matrix {segment.matrix}; allowed: 0 to {len(self.matrices) - 1}"
                )

    @property
    def weights(self) -> PlacedWeights:
        """The first matrix: the only one, but for machines in sequence."""
        return self.matrices[0]

    @property
    def placement(self) -> Placement:
        """Where each layer stands, the same in every matrix."""
        return self.matrices[0].placement

    @property
    def frames(self) -> int:
        """How often a matrix is shown in one run of the program, the first time included."""
        return 1 + sum(a.matrix != b.matrix for a, b in pairwise(self.segments))

    def matrix_of(self, segment: LoopSegment) -> PlacedWeights:
        """The matrix that a segment runs on."""
        return self.matrices[segment.matrix]

    @property
    def n_classes(self) -> int:
        """Rows of the class tables (1 = unconditional)."""
        return len(self.segments[0].gain)

    def watched(self, segment: LoopSegment) -> slice:
        """Rows that are read and whose settling counts: u, or h_L in `evaluate`."""
        placement = self.placement
        return placement.state if segment.kind == "implicit" else placement.last_hidden

    @property
    def hash(self) -> str:
        """SHA-256 of weights and tables: the key under which compensation is kept."""
        digest = hashlib.sha256()
        for matrix in self.matrices:
            digest.update(np.ascontiguousarray(matrix.weights).tobytes())
        for segment in self.segments:
            digest.update(f"{segment.kind} {segment.sigma!r} {segment.inject_scale!r}".encode())
            if len(self.matrices) > 1:
                digest.update(f" on {segment.matrix}, {segment.last}".encode())
            for table in (segment.leak, segment.gain, segment.bias):
                digest.update(np.ascontiguousarray(table).tobytes())
        return digest.hexdigest()
