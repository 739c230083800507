"""Frames to spots: the light of the 2n paths, each trigger with its own frame, or a fault that says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, Camera, DeviceFault, Frames, Hold

FloatArray = NDArray[np.float64]
Answer = TypeVar("Answer")
CLOCK_US = 1e-3  # timestamps agree to so much


@dataclass(frozen=True, eq=False)
class Spots:
    """Sums over the squares of the spots [B, 2, n] (counts above black), and where saturated [B]."""

    sums: FloatArray
    saturated: NDArray[np.bool_]


def frame_features(record: CalibrationRecord) -> dict[str, int]:
    """SFNC settings that read the spots' part of the sensor alone."""
    top, left = (int(v) for v in record.array("spot_origin_px"))
    pitch, n = int(record.array("spot_pitch_px")[0]), int(record.array("spot_count")[0])
    return {"Width": n * pitch, "Height": 2 * pitch, "OffsetX": left, "OffsetY": top}


def hold_of(camera: Camera) -> Hold:
    """How long the light must stay as it is after a trigger: start delay + jitter + exposure."""
    spec, settings = camera.spec, camera.settings
    hold_us = settings.trigger_delay_us + spec.delay_us + spec.jitter_us + settings.exposure_us
    return Hold(hold_us, settings.trigger_delay_us + spec.period_us(settings.exposure_us, settings.height_px))


def film(camera: Camera, n: int, work: Callable[[Hold], Answer]) -> tuple[Frames, Answer]:
    """Arm, let `work` cause n triggers, fetch the frames.

    Raises DeviceFault for frames that were lost or that belong to another trigger: an exposure must begin
    within the camera's delay and jitter after it.
    """
    camera.arm(n)
    answer = work(hold_of(camera))
    frames = camera.acquire(n)
    if frames.dropped:
        missing = np.setdiff1d(np.arange(n), frames.frame_id)
        raise DeviceFault(
            f"{frames.dropped} of {n} frames were lost, the first for trigger {missing[0]}",
            device=camera.name, operation="acquire",
        )  # fmt: skip
    spec, delay_us = camera.spec, camera.settings.trigger_delay_us
    late = frames.timestamp_us - frames.trigger_us - delay_us - spec.delay_us
    wrong = np.flatnonzero((late < -CLOCK_US) | (late > spec.jitter_us + CLOCK_US))
    if len(wrong):
        raise DeviceFault(
            f"frame {frames.frame_id[wrong[0]]} is stale: its exposure began {late[wrong[0]]:+.4g} us from "
            f"where its trigger puts it; allowed: 0 to {spec.jitter_us:g} us",
            device=camera.name, operation="acquire",
        )  # fmt: skip
    return frames, answer


def spots_of(frames: Frames, pitch: int) -> Spots:
    """Sums over squares of `pitch` pixels; the frame holds two rows of them: positive and negative paths."""
    batch, height, width = frames.counts.shape
    squares = frames.counts.reshape(batch, height // pitch, pitch, width // pitch, pitch)
    sums = squares.sum(axis=(2, 4), dtype=np.float64) - pitch**2 * frames.black_level_codes
    return Spots(sums, frames.saturated_px > 0)
