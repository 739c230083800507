"""Oscillator boards as an engine: load a program once, run batches as queues, phases decoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices import (
    BoardImage,
    BoardSpec,
    Coercion,
    LoadReceipt,
    OscillatorBoard,
    Outcome,
    Phases,
    ProgramError,
    RunCodes,
    joined_phases,
)
from labctl.engines.ledgers import CODE_BYTES
from labctl.engines.queues import queues_of
from labctl.engines.result import Ledger
from labctl.programs import OscillatorProgram, board_image, injection_codes

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OscillatorResult:
    """One batch: phases [B, T, n] in rad, in [-pi, pi), against the reference, at T reads.

    outcome [B]: TIME_ELAPSED, or DIVERGED where the board lost its lock (the phases are what was there).
    overflow [B]: a turn counter ran over; phases are right up to whole turns, as they are here anyway.
    read_at [T] in units of time, as applied.
    """

    phases: FloatArray
    outcome: NDArray[np.uint8]
    overflow: NDArray[np.bool_]
    read_at: FloatArray
    temperature_c: float
    ledger: Ledger
    coercions: tuple[Coercion, ...] = ()


@dataclass(frozen=True, eq=False)
class FittedCodes:
    """A program as one board was measured to need it.

    image: the codes instead of the program's own; coercions: what they could not give. true_phases: phases
    [..., n] of phases as that board reads them, rad.
    """

    image: BoardImage
    coercions: tuple[Coercion, ...]
    true_phases: Callable[[FloatArray], FloatArray]


class OscillatorEngine:
    """Runs oscillator programs on a board: one class for twin and hardware (twins replace devices).

    load(program), then run(sample_id) as often as wanted. A board holds one program at a time; loading the
    one it holds costs nothing.
    """

    def __init__(self, board: OscillatorBoard, *, name: str) -> None:
        self.board, self.name = board, name
        self._program: OscillatorProgram | None = None
        self._notes: tuple[Coercion, ...] = ()
        self._receipt: LoadReceipt | None = None
        self._fitted: FittedCodes | None = None
        self._ticks: NDArray[np.int64] = np.empty(0, np.int64)
        self._reload_us = 0.0

    @property
    def spec(self) -> BoardSpec:
        """The board's data sheet."""
        return self.board.spec

    @property
    def program(self) -> OscillatorProgram:
        """What is loaded; ProgramError before the first load."""
        if self._program is None:
            raise self._nothing_loaded()
        return self._program

    @property
    def compensated(self) -> bool:
        """Whether what is loaded are codes for this one board."""
        return self._program is not None and self._fitted is not None

    @property
    def ends(self) -> FloatArray:
        """Ends of the loaded program's segments [K] after the release, units, on the board's ticks."""
        return np.asarray(np.cumsum(self._ticks) * (self.spec.tick_us / self.spec.unit_us))

    def _nothing_loaded(self) -> ProgramError:
        return ProgramError(f"{self.name}: no program is loaded; allowed: after load(program)")

    def load(
        self,
        program: OscillatorProgram,
        *,
        beyond_averaging: bool = False,
        fitted: FittedCodes | None = None,
    ) -> LoadReceipt:
        """Write the program into the board's memory; the board's CRC must be that of what was sent.

        fitted: codes for this board instead of the program's own. Its time is in the next run's ledger.
        Raises ProgramError for what this board cannot hold or what the phase-averaged law is not trusted with
        (unless `beyond_averaging`), DeviceFault for a wrong CRC.
        """
        if fitted is None:
            image, notes = board_image(program, self.spec, beyond_averaging=beyond_averaging)
        else:
            image, notes = fitted.image, fitted.coercions
        if self._receipt is not None and self._holds(program) and self._receipt.crc == image.crc:
            return self._receipt
        self._program = None  # a load that fails leaves nothing to run
        receipt = self.board.load(image)
        self._program, self._notes, self._receipt, self._fitted = program, notes, receipt, fitted
        self._ticks = image.ticks
        self._reload_us += receipt.duration_us
        return receipt

    def _holds(self, program: OscillatorProgram) -> bool:
        return self._program is not None and self._program.hash == program.hash

    def run(
        self,
        sample_id: ArrayLike,
        *,
        step_id: int = 0,
        segments: Sequence[int] | None = None,
        anchors: tuple[ArrayLike, ArrayLike] | None = None,
        start_rad: ArrayLike | None = None,
        read_at: Sequence[float] | None = None,
    ) -> OscillatorResult:
        """Release samples [B] from their start phases, play the segments, read.

        segments: which of the program's, in order (None: all). anchors: (a, b) [B, n] in units, added to the
        program's own injection. start_rad [B, n] replaces the program's start phases and their noise.
        read_at: times after the release in units (None: the end). sample_id and step_id name the random draws
        of a twin. Raises ProgramError for anchors outside the board's converter, DeviceValueError for the
        rest.
        """
        begun = time.perf_counter()
        spec = self.spec
        if self._program is None:
            raise self._nothing_loaded()
        ids = np.asarray(sample_id, np.int64)
        both = (None, None) if anchors is None else anchors
        codes = RunCodes(
            sample_id=ids,
            step_id=step_id,
            play=None if segments is None else np.asarray(segments, np.int64),
            anchor_in_phase=None if both[0] is None else injection_codes("anchor a", both[0], spec),
            anchor_quadrature=None if both[1] is None else injection_codes("anchor b", both[1], spec),
            start_phase=None if start_rad is None else spec.start_codes(start_rad),
        )
        times_us = None if read_at is None else [float(t) * spec.unit_us for t in read_at]
        queues = queues_of(max(len(ids), 1), spec.max_queue)
        parts = [self.board.run(_part(codes, queue), read_at_us=times_us) for queue in queues]
        phases = joined_phases(parts)
        outcome = np.where(phases.locked, Outcome.TIME_ELAPSED, Outcome.DIVERGED).astype(np.uint8)
        ledger = self._ledger(codes, phases, len(parts))
        rad = spec.read_rad(phases.codes)
        if self._fitted is not None:
            rad = np.asarray((self._fitted.true_phases(rad) + np.pi) % (2 * np.pi) - np.pi)
        host = Ledger(host_s=time.perf_counter() - begun)
        self._reload_us = 0.0
        return OscillatorResult(
            phases=rad,
            outcome=outcome,
            overflow=phases.overflow,
            read_at=np.asarray(phases.read_at_us / spec.unit_us),
            temperature_c=phases.temperature_c,
            ledger=ledger + host,
            coercions=self._notes,
        )

    def pixels(self, result: OscillatorResult, read: int = -1) -> FloatArray:
        """The visible oscillators of one read as pixels [B, m], by the program's own map."""
        return self.program.pixels(result.phases[:, read, self.program.visible])

    def _ledger(self, codes: RunCodes, phases: Phases, queues: int) -> Ledger:
        """Modelled: reload and run data up; set-up and evolution; conversions and the cable down."""
        spec, batch, reads = self.spec, len(codes.sample_id), len(phases.read_at_us)
        evolution_us = batch * (spec.setup_us + phases.run_us)
        convert_us = batch * reads * spec.read_us
        busy_us = (evolution_us + convert_us) / queues
        tables = (codes.anchor_in_phase, codes.anchor_quadrature, codes.start_phase)
        up = CODE_BYTES * sum(table.size for table in tables if table is not None)
        down = phases.codes.size * -(-spec.read_bits // 8)
        return Ledger(
            upload_us=self._reload_us + queues * spec.link.beside_us(up / queues, busy_us),
            wait_us=evolution_us,
            read_us=convert_us + queues * spec.link.beside_us(down / queues, busy_us),
            settles=batch,
        )


def _part(codes: RunCodes, part: slice) -> RunCodes:
    """The same run for some of its samples."""
    tables = (codes.anchor_in_phase, codes.anchor_quadrature, codes.start_phase)
    in_phase, quadrature, start = (None if table is None else table[part] for table in tables)
    return RunCodes(codes.sample_id[part], codes.step_id, codes.play, in_phase, quadrature, start)
