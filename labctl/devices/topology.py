"""Which oscillator can hear which: the wiring of a board, sorted directed edges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.errors import ProgramError

IntVector = NDArray[np.int32]
FloatArray = NDArray[np.float64]
TopologyKind = Literal["grid", "king", "all-to-all", "edges"]

MAX_OSCILLATORS = (
    65_536  # keeps target * n + source well inside 64 bits, and a typing slip from filling memory
)


@dataclass(frozen=True, eq=False)
class Topology:
    """Directed edges of a board: edge e lets oscillator `target[e]` hear oscillator `source[e]`.

    target, source [E] int32, sorted by (target, source), without an oscillator that hears itself and without
    doubles. sites [n, 2] are (row, column) in grid units, None where the oscillators stand nowhere in
    particular. `n_visible` sites come first. Raises ProgramError naming what is wrong.
    """

    kind: TopologyKind
    n: int
    target: IntVector
    source: IntVector
    sites: FloatArray | None = None
    n_hidden: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MAX_OSCILLATORS:
            raise ProgramError(f"topology: n is {self.n}; allowed: 1 to {MAX_OSCILLATORS}")
        for name in ("target", "source"):
            ends = np.asarray(getattr(self, name))
            if ends.ndim != 1 or not np.issubdtype(ends.dtype, np.integer):
                raise ProgramError(
                    f"topology: {name} is {ends.dtype} of shape {ends.shape}; allowed: integers [E]"
                )
            outside = (ends < 0) | (ends >= self.n)
            if outside.any():
                raise ProgramError(
                    f"topology: {name} is {ends[outside][0]} at edge {int(np.argmax(outside))}; "
                    f"allowed: 0 to {self.n - 1}"
                )
            # copies, but not locked: torch takes no arrays that cannot be written
            object.__setattr__(self, name, np.array(ends, dtype=np.int32))
        if self.target.shape != self.source.shape:
            raise ProgramError(
                f"topology: {len(self.target)} targets and {len(self.source)} sources; allowed: equally many"
            )
        own = self.target == self.source
        if own.any():
            raise ProgramError(
                f"topology: oscillator {int(self.target[own][0])} hears itself; allowed: others"
            )
        order = self._order
        if (np.diff(order) <= 0).any():
            e = int(np.argmax(np.diff(order) <= 0)) + 1
            raise ProgramError(
                f"topology: edge {e} ({self.source[e]} to {self.target[e]}) is a double or out of order; "
                "allowed: sorted by (target, source), each once"
            )
        if self.sites is not None:
            sites = np.array(self.sites, dtype=np.float64)
            if sites.shape != (self.n, 2) or not np.isfinite(sites).all():
                raise ProgramError(f"topology: sites have shape {sites.shape}; allowed: finite ({self.n}, 2)")
            object.__setattr__(self, "sites", sites)
        if not 0 <= self.n_hidden < self.n:
            raise ProgramError(f"topology: n_hidden is {self.n_hidden}; allowed: 0 to {self.n - 1}")

    @property
    def _order(self) -> NDArray[np.int64]:
        return self.target.astype(np.int64) * self.n + self.source

    @property
    def n_edges(self) -> int:
        """Directed edges E."""
        return len(self.target)

    @property
    def n_visible(self) -> int:
        """Oscillators that are not hidden: the first ones."""
        return self.n - self.n_hidden

    @cached_property
    def hash(self) -> str:
        """SHA-256 of n and the edges: what is wired, whatever it is called and wherever it stands."""
        digest = hashlib.sha256(f"topology n={self.n} edges={self.n_edges}".encode())
        digest.update(self.target.astype("<i4").tobytes())
        digest.update(self.source.astype("<i4").tobytes())
        return digest.hexdigest()

    def index(self, target: ArrayLike, source: ArrayLike) -> NDArray[np.int64]:
        """Edge numbers of (target, source) pairs [m]; ProgramError where there is no such edge."""
        targets, sources = np.asarray(target, np.int64), np.asarray(source, np.int64)
        if ((targets < 0) | (targets >= self.n) | (sources < 0) | (sources >= self.n)).any():
            raise ProgramError(f"topology: an end of an edge lies outside; allowed: 0 to {self.n - 1}")
        wanted, order = np.atleast_1d(targets * self.n + sources), self._order
        found = np.searchsorted(order, wanted)
        missing = np.ones(len(wanted), bool)
        inside = found < len(order)
        missing[inside] = order[found[inside]] != wanted[inside]
        if missing.any():
            lost = int(wanted[missing][0])
            raise ProgramError(
                f"topology: no edge lets oscillator {lost // self.n} hear {lost % self.n} ({self.summary})"
            )
        return found

    def name(self, edge: int) -> str:
        """An edge in words, for messages."""
        return f"edge {edge} ({int(self.source[edge])} to {int(self.target[edge])})"

    @property
    def summary(self) -> str:
        """One line: kind, sizes, beginning of the hash."""
        hidden = f" ({self.n_hidden} hidden)" if self.n_hidden else ""
        return f"{self.kind}, {self.n} oscillators{hidden}, {self.n_edges} edges, {self.hash[:8]}"


def grid(rows: int, columns: int, radius: float, hidden_share: float = 0.0) -> Topology:
    """A grid whose oscillators hear each other up to a Chebyshev distance of `radius` grid units.

    Visible sites stand on the grid, row by row, and come first; hidden ones stand at the centres of its
    (rows - 1)(columns - 1) cells: all of them at `hidden_share` 1, an evenly spread subset below.
    """
    return _grid("grid", rows, columns, radius, hidden_share)


def king(rows: int, columns: int) -> Topology:
    """King's graph: every site hears its eight neighbours."""
    return _grid("king", rows, columns, 1.0, 0.0)


def all_to_all(n: int) -> Topology:
    """Everybody hears everybody else."""
    if not 1 <= n <= 4096:
        raise ProgramError(f"topology: n is {n}; allowed: 1 to 4096 where all hear all")
    target, source = np.nonzero(~np.eye(n, dtype=bool))
    return Topology("all-to-all", n, target.astype(np.int32), source.astype(np.int32))


def of_edges(n: int, pairs: Iterable[tuple[int, int]] | NDArray[np.integer]) -> Topology:
    """A topology of explicit (target, source) pairs, in any order; doubles are refused."""
    listed = np.array([(int(t), int(s)) for t, s in pairs], np.int64).reshape(-1, 2)
    if len(listed) and (listed.min() < 0 or listed.max() >= n):
        # refused here, before the cast to 32 bits could wrap a number around
        worst = int(listed.max() if listed.max() >= n else listed.min())
        raise ProgramError(f"topology: an edge names oscillator {worst}; allowed: 0 to {n - 1}")
    ordered = listed[np.lexsort((listed[:, 1], listed[:, 0]))]
    return Topology("edges", n, ordered[:, 0].astype(np.int32), ordered[:, 1].astype(np.int32))


def _grid(
    kind: Literal["grid", "king"], rows: int, columns: int, radius: float, hidden_share: float
) -> Topology:
    for field, value in (("rows", rows), ("columns", columns)):
        if not 1 <= value <= 256:
            raise ProgramError(f"topology: {field} is {value}; allowed: 1 to 256")
    if not 0.0 <= radius <= 256.0:
        raise ProgramError(f"topology: radius is {radius:g}; allowed: 0 to 256 grid units")
    if not 0.0 <= hidden_share <= 1.0:
        raise ProgramError(f"topology: hidden_share is {hidden_share:g}; allowed: 0 to 1")
    visible = np.indices((rows, columns)).reshape(2, -1).T.astype(np.float64)
    hidden = _hidden_sites(rows, columns, hidden_share)
    sites = np.concatenate([visible, hidden])
    pairs = [_heard(sites, i, radius) for i in range(len(sites))]
    target = np.repeat(np.arange(len(sites)), [len(heard) for heard in pairs])
    source = np.concatenate(pairs)
    return Topology(
        kind, len(sites), target.astype(np.int32), source.astype(np.int32), sites, n_hidden=len(hidden)
    )


def _heard(sites: FloatArray, i: int, radius: float) -> NDArray[np.int64]:
    """Whom oscillator i hears."""
    near = np.abs(sites - sites[i]).max(axis=1) <= radius
    near[i] = False
    return np.flatnonzero(near)


def _hidden_sites(rows: int, columns: int, share: float) -> FloatArray:
    """Cell centres, row by row; below share 1 those that come first in a low-discrepancy order.

    Additive recurrence with the plastic number (M. Roberts's R2): spreads any subset over both directions.
    """
    centres = np.indices((rows - 1, columns - 1)).reshape(2, -1).T + 0.5
    keep = round(share * len(centres))
    plastic = 1.324717957244746
    order = np.argsort((centres @ np.array([1 / plastic, 1 / plastic**2])) % 1.0, kind="stable")
    return np.asarray(centres[np.sort(order[:keep])], dtype=np.float64)
