"""The part of a sensor that camera procedures read, and what any frame must be before it is believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Camera, DeviceFault, Frames

PART_PX = (160, 256)  # height, width, in the middle of the sensor: where the image lies
SHEET = 1.5  # of the data sheet's system gain, either way
NOISY = 0.9  # of the largest count: brighter frames may be full in every pixel, and then they are all alike


def use_middle(camera: Camera, *, exposure_us: float) -> None:
    """Free-running frames of the middle of the sensor, gain 0 dB."""
    height, width = camera.spec.shape_px
    rows, columns = min(PART_PX[0], height), min(PART_PX[1], width)
    camera.configure({"OffsetX": 0, "OffsetY": 0})
    camera.configure(
        {
            "Width": columns, "Height": rows, "OffsetX": (width - columns) // 2,
            "OffsetY": (height - rows) // 2, "TriggerMode": "Off", "Gain": 0.0,
            "ExposureTime": float(exposure_us),
        }
    )  # fmt: skip


def frames_of(camera: Camera, count: int, operation: str, *, may_be_full: bool = False) -> NDArray[np.uint16]:
    """`count` free-running frames [count, height, width], 2 or more.

    Raises DeviceFault for lost frames and for frames that came twice: full ones may be alike.
    """
    frames = camera.acquire(count)
    require_whole(camera, frames, count, operation, may_be_full=may_be_full)
    return frames.counts


def require_whole(
    camera: Camera, frames: Frames, count: int, operation: str, *, may_be_full: bool = False
) -> None:
    """DeviceFault where frames were lost, or one is the frame before it, to the last pixel."""
    if frames.dropped or len(frames.counts) != count:
        raise DeviceFault(
            f"{count - len(frames.counts)} of {count} frames were lost; allowed: 0",
            device=camera.name, operation=operation,
        )  # fmt: skip
    for k in range(1, count):
        noisy = not may_be_full and frames.counts[k].mean() < NOISY * camera.spec.max_code
        if noisy and np.array_equal(frames.counts[k], frames.counts[k - 1]):
            raise DeviceFault(
                f"frame {k} is frame {k - 1}, to the last of {frames.counts[k].size} pixels; allowed: noise "
                "of a count or so; does the camera hand frames out twice?",
                device=camera.name, operation=operation,
            )  # fmt: skip


def by_the_sheet(camera: Camera) -> tuple[float, float]:
    """Least and largest system gain (DN/e-) that the data sheet lets one expect: half as much again, or less,
    either way. Frames averaged in the camera have less.
    """
    expected = 1 / camera.spec.e_per_code(camera.settings.gain_db, camera.settings.black_level_codes)
    return expected / SHEET, expected * SHEET
