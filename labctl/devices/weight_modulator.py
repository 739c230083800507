"""SLM or DMD: the device that holds the weights as light levels."""

from __future__ import annotations

import zlib
from abc import abstractmethod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.device import Device
from labctl.devices.errors import DeviceValueError, UnsupportedFeature
from labctl.devices.specs import ModulatorSpec
from labctl.devices.values import ShowReceipt

LevelArray = NDArray[np.uint16]


def frame_checksum(levels: LevelArray) -> str:
    """CRC-32 of a frame of levels as big-endian 16-bit words, row by row."""
    return f"{zlib.crc32(levels.astype('>u2').tobytes()):08x}"


class WeightModulator(Device):
    """Shows frames of integer levels, shape (height, width)."""

    safe_stage = "weights"

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
        codes = self._codes("show", "levels", levels, spec.shape_px, 0, spec.n_levels - 1)
        if self.guard is not None and spec.kind == "dmd":
            self.guard.mirrors(self, "show", float(codes.mean()) / (spec.n_levels - 1))
        return self._do_show(codes.astype(np.uint16), wait)

    def show_sequence(self, planes: ArrayLike, durations_us: ArrayLike, *, wait: bool = True) -> ShowReceipt:
        """Display planes [P, height, width] one after the other, each for its duration [P], again and again.

        Raises UnsupportedFeature where the device shows none, DeviceValueError for too many or too short
        planes, a wrong shape, type or level; it then still shows what it showed.
        """
        self._require_open("show_sequence")
        spec = self.spec
        if spec.max_planes == 0:
            raise UnsupportedFeature("no sequences of planes", device=self.name, operation="show_sequence")
        shape = (None, *spec.shape_px)
        codes = self._codes("show_sequence", "planes", planes, shape, 0, spec.n_levels - 1)
        times_us = np.asarray(durations_us, dtype=np.float64)
        if times_us.shape != (len(codes),) or len(codes) > spec.max_planes:
            raise DeviceValueError(
                f"{len(codes)} planes with durations of shape {times_us.shape}; allowed: 1 to "
                f"{spec.max_planes} planes, a duration each",
                device=self.name, operation="show_sequence",
            )  # fmt: skip
        if not (np.isfinite(times_us).all() and times_us.min() >= spec.min_plane_us):
            raise DeviceValueError(
                f"durations_us has {times_us.min():g}; allowed: {spec.min_plane_us:g} us or longer",
                device=self.name, operation="show_sequence",
            )  # fmt: skip
        if self.guard is not None and spec.kind == "dmd":
            on = codes.mean(axis=(1, 2)) / (spec.n_levels - 1)
            self.guard.mirrors(self, "show_sequence", float(np.average(on, weights=times_us)))
        return self._do_show_sequence(codes.astype(np.uint16), times_us, wait)

    @property
    def repeat_us(self) -> float:
        """Period of the light of what is on display: of the sequence, of a static frame's dips, or 0."""
        self._require_open("repeat_us")
        return self._do_repeat_us()

    def shown(self) -> LevelArray:
        """A copy of the frame on display; of a sequence, of its planes one below the other."""
        self._require_open("shown")
        return self._do_shown()

    @abstractmethod
    def _do_show(self, levels: LevelArray, wait: bool) -> ShowReceipt: ...

    def _do_show_sequence(
        self, planes: LevelArray, durations_us: NDArray[np.float64], wait: bool
    ) -> ShowReceipt:
        raise UnsupportedFeature("no sequences of planes", device=self.name, operation="show_sequence")

    def _do_repeat_us(self) -> float:
        return self.spec.repeat_us

    @abstractmethod
    def _do_shown(self) -> LevelArray: ...
