"""Probes of an oscillator board: programs of plain segments, queues of samples, phases as they were read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices import BoardImage, DeviceFault, OscillatorBoard, Phases, RunCodes, joined_phases

FloatArray = NDArray[np.float64]
Codes = NDArray[np.int64]
FEW_LOCKED = 0.5  # share of a probe's samples that must have kept their lock


@dataclass(frozen=True, eq=False)
class Probe:
    """Segments [K] to load: coupling [K, E], scale [K] and detuning [K, n] as codes, all `units` long.

    None: all codes 0.
    """

    units: float
    coupling: Codes | None = None
    scale: Codes | None = None
    detuning: Codes | None = None

    @property
    def segments(self) -> int:
        """K."""
        tables = (self.coupling, self.scale, self.detuning)
        return next((len(table) for table in tables if table is not None), 1)


def probe_image(board: OscillatorBoard, probe: Probe) -> BoardImage:
    """The probe as the board's memory holds it: no injection of its own, phases started at 0."""
    spec = board.spec
    k, n = probe.segments, spec.n
    nodes = np.zeros((k, n), np.int64)
    edges = np.zeros((k, spec.topology.n_edges), np.int64)
    ticks = min(max(round(probe.units * spec.unit_us / spec.tick_us), 1), spec.max_ticks)
    return BoardImage(
        topology_hash=spec.topology.hash,
        coupling=edges if probe.coupling is None else probe.coupling,
        scale=np.zeros(k, np.int64) if probe.scale is None else probe.scale,
        in_phase=nodes,
        quadrature=nodes,
        second=nodes,
        detuning=nodes if probe.detuning is None else probe.detuning,
        ticks=np.full(k, ticks),
        start_phase=np.zeros(n, np.int64),
        start_amplitude=np.zeros(n, np.int64),
    )


def seen_phases(
    board: OscillatorBoard,
    *,
    first_id: int,
    step_id: int,
    start: Codes,
    read_at_us: ArrayLike,
    segment: int = 0,
    anchors: tuple[Codes, Codes] | None = None,
) -> tuple[FloatArray, NDArray[np.bool_], Phases]:
    """(phases [B, T, n] as read, rad in [-pi, pi); whether each sample kept its lock [B]; the last read-out).

    One segment of what is loaded is played, the samples in queues as long as the board takes them.
    """
    spec = board.spec
    parts = []
    for begin in range(0, len(start), spec.max_queue):
        part = slice(begin, begin + spec.max_queue)
        parts.append(
            board.run(
                RunCodes(
                    sample_id=first_id + np.arange(len(start))[part],
                    step_id=step_id,
                    play=np.array([segment]),
                    anchor_in_phase=None if anchors is None else anchors[0][part],
                    anchor_quadrature=None if anchors is None else anchors[1][part],
                    start_phase=start[part],
                ),
                read_at_us=[float(t) for t in np.asarray(read_at_us)],
            )
        )
    phases = joined_phases(parts)
    return spec.read_rad(phases.codes), phases.locked & ~phases.overflow, phases


def require_locked(board: OscillatorBoard, good: NDArray[np.bool_], operation: str) -> None:
    """DeviceFault where fewer than half of the samples kept their lock."""
    share = float(good.mean()) if good.size else 0.0
    if share < FEW_LOCKED:
        raise DeviceFault(
            f"{share:.0%} of {good.size} samples kept their lock; allowed: {FEW_LOCKED:.0%} or more",
            device=board.name, operation=operation,
        )  # fmt: skip


def wrapped(angle: FloatArray) -> FloatArray:
    """Angles in [-pi, pi)."""
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)
