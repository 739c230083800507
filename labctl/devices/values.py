"""Value types that cross the device boundary: plain frozen data, arrays in C order, batch first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labctl.devices.errors import CalibrationMissing

Scalar = str | int | float | bool
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Identity:
    """Who answered. `simulated` is the truth, whatever the vendor string says."""

    vendor: str
    model: str
    serial: str
    firmware: str
    simulated: bool


@dataclass(frozen=True)
class Coercion:
    """One group of values that the device or the quantiser applied differently from what was asked.

    `requested` and `applied` are the worst pair of the group, in `unit`; `count` is how many differed by
    more than half a code.
    """

    field: str
    requested: float
    applied: float
    unit: str
    count: int = 1

    def __str__(self) -> str:
        asked, applied = f"{self.requested:.6g}", f"{self.applied:.6g}"
        return f"{self.field}: asked {asked}, applied {applied} {self.unit} ({self.count}x)"


@dataclass(frozen=True)
class ShowReceipt:
    """What a modulator did with a frame; `read_back`: the checksum is of the device's own copy."""

    frame_id: int
    checksum: str
    read_back: bool
    settled: bool
    duration_us: float


@dataclass(frozen=True)
class DriveReceipt:
    """What an input drive applied: currents [B, n] in mA."""

    current_ma: FloatArray
    coercions: tuple[Coercion, ...] = ()


@dataclass(frozen=True)
class ProbeReadout:
    """Open-loop read-out: ADC counts [B, n], averaged over the window (fractions of a count are real)."""

    counts: FloatArray
    clipped: NDArray[np.bool_]
    duration_us: float


@dataclass(frozen=True)
class LoopReadout:
    """Closed-loop read-out of a batch that the on-board sequencer ran back to back.

    counts [B, n]: mean over the window's samples. half_counts [2, B, n]: means of its two halves.
    spread_counts [B, n]: standard deviation inside the window. adc_clipped [B, n].
    trace_counts [S, B, n] with trace_time_us [S] (end of settle = 0 at release) when asked for.
    Durations are the device's own, per sample of the queue.
    """

    counts: FloatArray
    half_counts: FloatArray
    spread_counts: FloatArray
    adc_clipped: NDArray[np.bool_]
    wait_us: float
    window_us: float
    trace_counts: FloatArray | None = None
    trace_time_us: FloatArray | None = None
    coercions: tuple[Coercion, ...] = ()


def joined_readouts(parts: Sequence[LoopReadout]) -> LoopReadout:
    """Read-outs of successive queues as one; waits and windows are the same for all."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    traces = [part.trace_counts for part in parts if part.trace_counts is not None]
    return LoopReadout(
        counts=np.concatenate([part.counts for part in parts]),
        half_counts=np.concatenate([part.half_counts for part in parts], axis=1),
        spread_counts=np.concatenate([part.spread_counts for part in parts]),
        adc_clipped=np.concatenate([part.adc_clipped for part in parts]),
        wait_us=first.wait_us,
        window_us=first.window_us,
        trace_counts=np.concatenate(traces, axis=1) if traces else None,
        trace_time_us=first.trace_time_us,
        coercions=tuple(note for part in parts for note in part.coercions),
    )


@dataclass(frozen=True)
class Hold:
    """What a camera needs of the loop: held closed (a probe: light on) for `hold_us` after the trigger
    output, which fires where the read-out window begins; triggers at least `period_us` apart.
    """

    hold_us: float
    period_us: float


@dataclass(frozen=True)
class Frames:
    """Frames of a camera: counts [m, height, width]. What was lost on the way is counted in `dropped`.

    frame_id [m] counts triggers (or free-running frames) from 0, so that gaps show which were lost.
    trigger_us and timestamp_us [m] are the camera's clock at the trigger and at the start of the exposure.
    saturated_px [m]: pixels at the largest count.
    """

    counts: NDArray[np.uint16]
    frame_id: IntArray
    trigger_us: FloatArray
    timestamp_us: FloatArray
    saturated_px: IntArray
    dropped: int
    exposure_us: float
    gain_db: float
    black_level_codes: int


@dataclass(frozen=True)
class CalibrationRecord:
    """Immutable measured data about one bench, and what it was taken with.

    arrays: name -> array, units in the name (`panel_transmittance`, `offset_counts`, `effective_weights`).
    upstream: ids of the records this one rests on.
    """

    kind: str
    device_serial: str
    taken_at: str
    arrays: Mapping[str, NDArray[np.float64]]
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    upstream: tuple[str, ...] = ()

    def array(self, name: str) -> NDArray[np.float64]:
        """The named array; CalibrationMissing where the record has none."""
        if name not in self.arrays:
            raise CalibrationMissing(
                f"calibration record {self.kind!r} of {self.device_serial} has no {name!r}; "
                f"it has {', '.join(sorted(self.arrays)) or 'nothing'}"
            )
        return self.arrays[name]
