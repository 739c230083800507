"""Which oscillator hears which: directed edges as two sorted arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from labctl.devices.errors import ProgramError


@dataclass(frozen=True, eq=False)
class Edges:
    """Directed edges among n oscillators: target [E] hears source [E] (int32), sorted by (target, source).

    No edge to itself, none twice. Couplings are vectors over E in this order.
    """

    n: int
    target: NDArray[np.int32]
    source: NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ProgramError(f"edges: n is {self.n}; allowed: 1 or more oscillators")
        for name, ends in (("target", self.target), ("source", self.source)):
            if ends.ndim != 1 or ends.dtype != np.int32:
                raise ProgramError(
                    f"edges: {name} is {ends.dtype} of shape {ends.shape}; allowed: int32, one dimension"
                )
            if len(ends) and (ends.min() < 0 or ends.max() >= self.n):
                raise ProgramError(
                    f"edges: {name} runs from {ends.min()} to {ends.max()}; allowed: 0 to {self.n - 1}"
                )
        if len(self.target) != len(self.source):
            raise ProgramError(
                f"edges: {len(self.target)} targets and {len(self.source)} sources; allowed: as many of each"
            )
        own = np.flatnonzero(self.target == self.source)
        if len(own):
            raise ProgramError(
                f"edges: edge {own[0]} goes from oscillator {self.source[own[0]]} to itself; "
                "allowed: two different ones"
            )
        step = np.diff(self.target.astype(np.int64) * self.n + self.source)
        if (step <= 0).any():
            at = int(np.argmax(step <= 0)) + 1
            raise ProgramError(
                f"edges: edge {at} ({self.source[at]} to {self.target[at]}) repeats or precedes the one "
                "before it; allowed: each once, sorted by (target, source)"
            )

    def __len__(self) -> int:
        return len(self.target)

    @classmethod
    def of_pairs(cls, n: int, target: NDArray[np.integer], source: NDArray[np.integer]) -> Edges:
        """Edges from pairs in any order; a pair that is there twice is refused."""
        order = np.lexsort((source, target))
        return cls(n, target[order].astype(np.int32), source[order].astype(np.int32))

    @cached_property
    def row_start(self) -> NDArray[np.int32]:
        """[n + 1]: the edges that oscillator i hears are row_start[i] to row_start[i + 1] - 1."""
        return np.searchsorted(self.target, np.arange(self.n + 1)).astype(np.int32)

    @cached_property
    def by_source(self) -> NDArray[np.int64]:
        """[E]: edge numbers sorted by (source, target)."""
        return np.lexsort((self.target, self.source))

    @cached_property
    def column_start(self) -> NDArray[np.int32]:
        """[n + 1]: the edges that leave oscillator j are by_source[column_start[j] : column_start[j + 1]]."""
        return np.searchsorted(self.source[self.by_source], np.arange(self.n + 1)).astype(np.int32)

    @cached_property
    def reverse(self) -> NDArray[np.int64]:
        """[E]: the number of each edge's opposite; -1 where there is none."""
        key = self.target.astype(np.int64) * self.n + self.source
        opposite = self.source.astype(np.int64) * self.n + self.target
        at = np.minimum(np.searchsorted(key, opposite), max(len(self) - 1, 0))
        return np.where(key[at] == opposite, at, -1) if len(self) else np.zeros(0, np.int64)
