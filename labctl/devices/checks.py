"""Shared validation: refuse a wrong array before anything reaches the hardware."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.devices.errors import DeviceValueError, UnsupportedFeature
from labctl.devices.values import Hold


def integer_codes(
    array: Any, *, device: str, operation: str, field: str, shape: tuple[int | None, ...], low: int, high: int
) -> NDArray[np.int64]:
    """`array` as int64 codes in C order (a copy), or DeviceValueError naming what is wrong.

    `None` in `shape` lets that axis have any length of at least 1.
    """

    def refuse(what: str) -> DeviceValueError:
        return DeviceValueError(f"{field} {what}", device=device, operation=operation)

    values = np.asarray(array)
    if not np.issubdtype(values.dtype, np.integer):
        raise refuse(f"must hold integer codes, not {values.dtype}")
    want = "(" + ", ".join("any" if s is None else str(s) for s in shape) + ")"
    if values.ndim != len(shape) or any(
        (s is not None and s != got) or got < 1 for s, got in zip(shape, values.shape, strict=True)
    ):
        raise refuse(f"has shape {values.shape}; allowed: {want}")
    # compared in the caller's own integer type, before the cast can wrap anything around
    if int(values.min()) < low or int(values.max()) > high:
        where = np.unravel_index(int(np.argmax((values < low) | (values > high))), values.shape)
        raise refuse(f"is {values[where]} at {tuple(int(i) for i in where)}; allowed: {low} to {high}")
    return np.array(values, dtype=np.int64, order="C")


def check_hold(hold: Hold | None, limit_us: float, *, device: str, operation: str, whose: str) -> None:
    """Refuse what a device cannot hold for a camera: all of it where `limit_us` is 0 (no trigger output)."""
    if hold is None:
        return
    if limit_us == 0:
        raise UnsupportedFeature(
            f"{whose} have no trigger output for a camera", device=device, operation=operation
        )
    for field, value, high in (("hold_us", hold.hold_us, limit_us), ("period_us", hold.period_us, 1e9)):
        if not 0.0 <= value <= high:
            raise DeviceValueError(
                f"{field} is {value}; allowed: 0 to {high:g}", device=device, operation=operation
            )
