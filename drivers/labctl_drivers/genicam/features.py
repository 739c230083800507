"""What a way to reach a GenICam camera offers: features by name, commands, a stream of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Value = str | int | float | bool


@dataclass(frozen=True)
class Arrived:
    """One image as it came. `pixels` [height, width] is None where packets were lost: it is never used.

    block: the camera's own count of images since AcquisitionStart, from 0. timestamp_us: its clock at the
    start of the exposure, as far as it says. chunks: values that travelled with the image, by feature.
    """

    pixels: NDArray[np.uint16] | None
    block: int
    timestamp_us: float
    chunks: dict[str, float] = field(default_factory=dict)


class FeatureWire(Protocol):
    """A connection to one camera. What fails raises WireError; what the camera refuses, `Refused`."""

    def has(self, name: str) -> bool:
        """Whether the camera has this feature, now."""

    def get(self, name: str) -> Value:
        """Its value, from the camera."""

    def put(self, name: str, value: Value) -> None:
        """Set it."""

    def limits(self, name: str) -> tuple[float, float]:
        """Least and largest value of a number."""

    def entries(self, name: str) -> tuple[str, ...]:
        """What an enumeration accepts."""

    def execute(self, name: str) -> None:
        """Do a command, and wait until it is done."""

    def enable_chunks(self, selectors: tuple[str, ...]) -> None:
        """Let these values travel with every image."""

    def start(self, n: int) -> None:
        """Get ready for n images, then AcquisitionStart. What an earlier acquisition left is dropped."""

    def next(self, wait_s: float) -> Arrived | None:
        """The next image, complete or not; None where none came in time."""

    def stop(self) -> None:
        """AcquisitionStop, and receive no more."""

    def close(self) -> None:
        """Let go of the camera."""


class Refused(Exception):
    """The camera, or its description, says no: the words are its own."""
