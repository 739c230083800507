"""What goes to an oscillator board and what comes back: codes, batch first."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
IMAGE_TABLES = (
    "coupling",
    "scale",
    "in_phase",
    "quadrature",
    "second",
    "detuning",
    "ticks",
    "start_phase",
    "start_amplitude",
)


@dataclass(frozen=True, eq=False)
class BoardImage:
    """A program as a board's memory holds it: K segments over E edges and n oscillators.

    coupling [K, E] and the node tables in_phase, quadrature, second, detuning [K, n] are signed codes; scale
    [K] and ticks [K] (durations) are not. start_phase and start_amplitude [n]: theta = phase + amplitude eps
    with eps a standard normal drawn on the board for every sample and oscillator.
    """

    topology_hash: str
    coupling: Codes
    scale: Codes
    in_phase: Codes
    quadrature: Codes
    second: Codes
    detuning: Codes
    ticks: Codes
    start_phase: Codes
    start_amplitude: Codes

    @property
    def segments(self) -> int:
        """K."""
        return len(self.ticks)

    @cached_property
    def crc(self) -> str:
        """CRC-32 of the tables as big-endian 32-bit words, each after its own name and size."""
        running = zlib.crc32(self.topology_hash.encode())
        for name in IMAGE_TABLES:
            table: Codes = getattr(self, name)
            running = zlib.crc32(name.encode() + struct.pack(f">{table.ndim}I", *table.shape), running)
            running = zlib.crc32(table.astype(">i4").tobytes(), running)
        return f"{running:08x}"


@dataclass(frozen=True)
class LoadReceipt:
    """What a board did with an image; `read_back`: the CRC is of the board's own copy."""

    crc: str
    read_back: bool
    n_bytes: int
    duration_us: float


@dataclass(frozen=True, eq=False)
class RunCodes:
    """One queue of B samples.

    sample_id [B] and step_id tell a twin which noise to draw, so that a sample's draws do not depend on its
    batch; hardware ignores them. play [S]: which segments of the memory run, in order (None: all of them).
    anchor_in_phase and anchor_quadrature [B, n] (injection codes, both or none) are added to every segment's
    own: images carried by anchors. start_phase [B, n] replaces the image's, without its noise.
    """

    sample_id: Codes
    step_id: int = 0
    play: Codes | None = None
    anchor_in_phase: Codes | None = None
    anchor_quadrature: Codes | None = None
    start_phase: Codes | None = None


@dataclass(frozen=True, eq=False)
class Phases:
    """Phases against the reference: codes [B, T, n] at read_at_us [T] after the release (as applied).

    locked [B]: no oscillator ran away from the reference; overflow [B]: some turn counter ran over, so that
    its phase is right only up to turns. Where a sample lost its lock, its codes are what was there.
    run_us: a sample's evolution.
    """

    codes: Codes
    locked: NDArray[np.bool_]
    overflow: NDArray[np.bool_]
    temperature_c: float
    read_at_us: NDArray[np.float64]
    run_us: float


@dataclass(frozen=True, eq=False)
class FrequencyCount:
    """Periods counted in one gate with all couplings and injections off: counts [n], and the reference's."""

    counts: Codes
    reference_count: int
    gate_us: float

    @property
    def hz(self) -> NDArray[np.float64]:
        """Frequency of each oscillator; one count is 1 / gate."""
        return self.counts / (self.gate_us * 1e-6)


def joined_phases(parts: list[Phases]) -> Phases:
    """Read-outs of successive queues of one program as one; the temperature is the last."""
    if len(parts) == 1:
        return parts[0]
    return Phases(
        codes=np.concatenate([part.codes for part in parts]),
        locked=np.concatenate([part.locked for part in parts]),
        overflow=np.concatenate([part.overflow for part in parts]),
        temperature_c=parts[-1].temperature_c,
        read_at_us=parts[0].read_at_us,
        run_us=parts[0].run_us,
    )
