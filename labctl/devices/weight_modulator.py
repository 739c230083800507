"""SLM or DMD: the device that holds the weights as light levels."""

from __future__ import annotations

import zlib
from abc import abstractmethod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.checks import integer_codes
from labctl.devices.device import Device
from labctl.devices.specs import ModulatorSpec
from labctl.devices.values import ShowReceipt

LevelArray = NDArray[np.uint16]


def frame_checksum(levels: LevelArray) -> str:
    """CRC-32 of a frame of levels as big-endian 16-bit words, row by row."""
    return f"{zlib.crc32(levels.astype('>u2').tobytes()):08x}"


class WeightModulator(Device):
    """Shows frames of integer levels, shape (height, width)."""

    @property
    @abstractmethod
    def spec(self) -> ModulatorSpec:
        """Shape, levels, settle time, refresh rate, kind."""

    def show(self, levels: ArrayLike, *, wait: bool = True) -> ShowReceipt:
        """Display a frame [height, width]; with `wait`, return once the panel has settled.

        Raises DeviceValueError for a wrong shape, type or level; the panel then still shows the old frame.
        """
        self._require_open("show")
        spec = self.spec
        codes = integer_codes(
            levels, device=self.name, operation="show", field="levels", shape=spec.shape_px, low=0,
            high=spec.n_levels - 1,
        )  # fmt: skip
        return self._do_show(codes.astype(np.uint16), wait)

    def shown(self) -> LevelArray:
        """A copy of the frame on display."""
        self._require_open("shown")
        return self._do_shown()

    @abstractmethod
    def _do_show(self, levels: LevelArray, wait: bool) -> ShowReceipt: ...

    @abstractmethod
    def _do_shown(self) -> LevelArray: ...
