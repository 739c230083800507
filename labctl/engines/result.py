"""What every engine returns, whatever settles inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Coercion
from labctl.engines.picard_noise import StateNoise
from labctl.engines.readout import CameraRead
from labctl.programs import ChainUpdate, LoopProgram, LoopSegment

FloatArray = NDArray[np.float64]
LabelArray = NDArray[np.int64]


@dataclass(frozen=True)
class Ledger:
    """Time and work of one solve. Device times are modelled (spec x queue), host time is measured.

    upload and read: frame, codes and counts over the cable. wait and window: the loop's own.
    """

    upload_us: float = 0.0
    wait_us: float = 0.0
    window_us: float = 0.0
    read_us: float = 0.0
    host_s: float = 0.0
    settles: int = 0
    host_macs: int = 0

    @property
    def device_us(self) -> float:
        """Modelled device time of the whole queue."""
        return self.upload_us + self.wait_us + self.window_us + self.read_us

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(
            self.upload_us + other.upload_us,
            self.wait_us + other.wait_us,
            self.window_us + other.window_us,
            self.read_us + other.read_us,
            self.host_s + other.host_s,
            self.settles + other.settles,
            self.host_macs + other.host_macs,
        )


@dataclass(frozen=True, eq=False)
class AppliedKnobs:
    """What reached the machine: codes and the values they stand for (None: the engine has no codes)."""

    gain: FloatArray
    leak: FloatArray
    gain_codes: NDArray[np.int64] | None
    leak_codes: NDArray[np.int64] | None
    inject_codes: NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class FixedPointResult:
    """One settle of a batch.

    z [B, n]: state as read, network units (rows not read are what the machine shows of them). outcome [B].
    step_norm [B]: largest last change over the watched rows (window halves, or the last iterate).
    residual_norm [B]: largest |F(z) - z| over the watched rows by the host's model at the state as read.
    settle_time_us [A], audit [A]: settle times of an audit share of the batch, nan = unsettled. camera: what
    a camera read-out adds, with its noise budget. noise: predicted standard deviations of the states, where
    the host closes the loop.
    """

    z: FloatArray
    outcome: NDArray[np.uint8]
    step_norm: FloatArray
    residual_norm: FloatArray
    applied: AppliedKnobs
    ledger: Ledger
    iterations: NDArray[np.int64] | None = None
    audit: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    settle_time_us: FloatArray = field(default_factory=lambda: np.empty(0))
    transient: FloatArray = field(default_factory=lambda: np.empty(0))
    camera: CameraRead | None = None
    noise: StateNoise | None = None
    coercions: tuple[Coercion, ...] = ()


@dataclass(frozen=True, eq=False)
class Batch:
    """Run data of one settle: injection [B, d], start [B, n] (None = u preset to the injection's scale).

    labels [B] choose the class tables. sample_id [B] and step_id name the random draws.
    """

    inject: FloatArray
    start: FloatArray
    labels: LabelArray | None
    sample_id: LabelArray
    step_id: int


class FixedPointEngine(Protocol):
    """Settles a program's segments. One class serves twin and hardware: twins replace devices."""

    @property
    def name(self) -> str:
        """For messages and the log."""
        ...

    @property
    def n_channels(self) -> int:
        """Variables of the loop."""
        ...

    def load(self, program: LoopProgram) -> None:
        """Show the program's matrix; once a program."""
        ...

    def measured_weights(self) -> FloatArray:
        """W [n, n] in network units as this engine knows it (measured on a device)."""
        ...

    def light(self, z: FloatArray, rows: slice, columns: slice) -> FloatArray:
        """y [B, r] of rows as this engine knows it, from states z [B, n]: W phi(z), placed in `columns`."""
        ...

    def solve(self, segment: LoopSegment, batch: Batch, *, audit: int = 0) -> FixedPointResult:
        """Settle a batch; measure the settle time of the first `audit` samples."""
        ...


@runtime_checkable
class ChainEngine(FixedPointEngine, Protocol):
    """An engine whose machine has a sequencer of its own."""

    def solve_chain(
        self,
        segments: Sequence[LoopSegment],
        batch: Batch,
        updates: Sequence[ChainUpdate],
        *,
        noise: FloatArray | None = None,
        audit: int = 0,
    ) -> list[tuple[FloatArray, FixedPointResult]]:
        """Settle segment after segment without the host: (injection [B, d], result) of each."""
        ...
