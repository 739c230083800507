"""A micromirror device behind a ViALUX ALP controller: still frames, repeated for ever."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from pydantic import Field

from labctl.devices import (
    ConfigError,
    DeviceUnavailable,
    Identity,
    ModulatorSpec,
    Scalar,
    ShowReceipt,
    WeightModulator,
)
from labctl.devices.weight_modulator import LevelArray, frame_checksum
from labctl_drivers.alp4 import library as alp
from labctl_drivers.alp4.library import AlpWire, Refused
from labctl_drivers.link import Deadline, LinkSettings, Wired, WrongBox

T = TypeVar("T")
ADDRESS = re.compile(r"alp:(?P<path>[^#]+)(?:#(?P<number>\d+))?")


class AlpSettings(LinkSettings):
    """What the library does not say of its mirrors.

    picture_us: after which a frame is latched anew. blank_us: how long light dips then (measure it with a
    photodiode; 0: it is steady). timeout_s covers an upload. simulated: the library drives no hardware.
    """

    height_px: int = Field(default=1080, ge=1)
    width_px: int = Field(default=1920, ge=1)
    settle_us: float = Field(default=50.0, ge=0)
    picture_us: int = Field(default=10_000, ge=1, le=10_000_000)
    blank_us: float = Field(default=0.0, ge=0)
    simulated: bool = False
    timeout_s: float = 10.0


class Alp4DMD(Wired[AlpWire], WeightModulator):
    """Mirrors at `alp:LIBRARY` or `alp:LIBRARY#SERIAL`: the vendor's library file, and which of its devices.

    Shows no sequences of planes. Nothing is read back from the mirrors: a receipt's checksum is of the frame
    that was handed over. Closing shows all mirrors off, then releases them.
    """

    Settings = AlpSettings
    settings: AlpSettings

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        super().__init__(name, address, **settings)
        parts = ADDRESS.fullmatch(address)
        if parts is None:
            raise ConfigError(
                f"device {name!r}: address is {address!r}; allowed: alp:LIBRARY or alp:LIBRARY#SERIAL"
            )
        self._path, self._number = parts["path"], int(parts["number"] or alp.DEFAULT)
        s = self.settings
        self._spec = ModulatorSpec(
            (s.height_px, s.width_px), 2, s.settle_us, 1e6 / s.picture_us, "dmd",
            repeat_us=float(s.picture_us) if s.blank_us else 0.0, blank_us=s.blank_us,
        )  # fmt: skip
        self._frame_id, self._shows = 0, False
        self._frame: LevelArray = np.zeros(self._spec.shape_px, np.uint16)

    @property
    def spec(self) -> ModulatorSpec:
        """As the settings say."""
        return self._spec

    def _connect(self, deadline: Deadline) -> AlpWire:
        try:
            return AlpWire(self._path, self._number, self.wire_log)
        except Refused as error:
            raise self._fault("open", str(error), DeviceUnavailable) from None

    def _identify(self, wire: AlpWire, deadline: Deadline) -> Identity:
        return self._heard("open", self._identity_of)(wire, deadline)

    def _identity_of(self, wire: AlpWire, deadline: Deadline) -> Identity:
        shape = wire.inquire(alp.DISPLAY_HEIGHT), wire.inquire(alp.DISPLAY_WIDTH)
        if shape != self._spec.shape_px:
            raise WrongBox(
                f"mirrors of {shape[0]} x {shape[1]}; the settings say height_px = {self._spec.shape_px[0]}, "
                f"width_px = {self._spec.shape_px[1]}"
            )
        number, version = wire.inquire(alp.DEVICE_NUMBER), wire.inquire(alp.VERSION)
        return Identity("ViALUX", "ALP", str(number), f"{version:#x}", simulated=self.settings.simulated)

    def _program(self, wire: AlpWire, deadline: Deadline) -> None:
        """After a reconnection, what was shown."""
        if self._shows:
            self._heard("open", self._put_up)(wire, deadline)

    def _make_safe(self, wire: AlpWire, deadline: Deadline) -> None:
        self._frame = np.zeros(self._spec.shape_px, np.uint16)
        self._heard("close", self._put_up)(wire, deadline)

    def _do_close(self) -> None:
        try:
            super()._do_close()  # which says so where the device is out of reach: with power, it goes on
        finally:
            self._shows = False

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._run("snapshot", lambda wire, _deadline: wire.inquire(alp.DEVICE_NUMBER))
        return {"frame_id": self._frame_id, "frame_crc32": frame_checksum(self._frame)}

    def _do_show(self, levels: LevelArray, wait: bool) -> ShowReceipt:
        begun_s = time.perf_counter()
        before, self._frame = self._frame, levels
        try:
            self._run("show", self._put_up)
        except BaseException:
            self._frame = before
            raise
        self._frame_id, self._shows = self._frame_id + 1, True
        if wait:
            time.sleep(1e-6 * self._spec.settle_time_us)
            self._run("show", lambda wire, _deadline: wire.inquire(alp.DEV_STATE))  # it still stands
        duration_us = 1e6 * (time.perf_counter() - begun_s)
        return ShowReceipt(self._frame_id, frame_checksum(levels), False, wait, duration_us)

    def _do_shown(self) -> LevelArray:
        self._run("shown", lambda wire, _deadline: wire.inquire(alp.DEVICE_NUMBER))
        return self._frame.copy()

    def _put_up(self, wire: AlpWire, deadline: Deadline) -> None:
        pixels = np.where(self._frame, np.uint8(255), np.uint8(0)).tobytes()
        wire.put_up(pixels, self.settings.picture_us, deadline)

    def _run(self, operation: str, work: Callable[[AlpWire, Deadline], T]) -> T:
        return self._exchange(operation, self._heard(operation, work))

    def _heard(
        self, operation: str, work: Callable[[AlpWire, Deadline], T]
    ) -> Callable[[AlpWire, Deadline], T]:
        """`work`, the library's own errors as this device's."""

        def carried_out(wire: AlpWire, deadline: Deadline) -> T:
            try:
                return work(wire, deadline)
            except Refused as error:
                raise self._fault(operation, str(error)) from None

        return carried_out
