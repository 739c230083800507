"""What SCPI faces share: the device behind the commands, its errors as SCPI's, sockets or HiSLIP in front."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Generic, Literal, TypeVar

from labctl.devices import (
    Device,
    DeviceError,
    DeviceStateError,
    DeviceTimeout,
    DeviceUnavailable,
    DeviceValueError,
    Identity,
    UnsupportedFeature,
)
from labctl_sim_devices.wires.face import WireAddress
from labctl_sim_devices.wires.faults import FaultLayer
from labctl_sim_devices.wires.listener import HOST
from labctl_sim_devices.wires.scpi.arguments import ScpiError
from labctl_sim_devices.wires.scpi.hislip import HislipWire
from labctl_sim_devices.wires.scpi.instrument import Handler, ScpiInstrument
from labctl_sim_devices.wires.scpi.sockets import SocketWire
from labctl_sim_devices.wires.seat import Seat, seat_of

AnyDevice = TypeVar("AnyDevice", bound=Device)
T = TypeVar("T")
NUMBERS: tuple[tuple[type[DeviceError], int], ...] = (
    (DeviceValueError, -222),
    (DeviceStateError, -221),
    (DeviceUnavailable, 301),
    (DeviceTimeout, -365),
    (UnsupportedFeature, -241),
    (DeviceError, -240),
)
Medium = Literal["socket", "hislip"]
PATIENT = {"timeout_s": 60.0, "batch_timeout_s": 3600.0}  # a stepped twin computes for as long as it needs


class ScpiFace(ABC, Generic[AnyDevice]):
    """A device as an SCPI instrument. `DRIVER` is the rig file's name of the driver that speaks to it.

    On HiSLIP a driver sees at once that the other end is gone; pyvisa-py on a raw socket waits its time-out.
    """

    DRIVER: ClassVar[str]

    def __init__(
        self,
        device: AnyDevice | Seat[AnyDevice],
        lock: threading.RLock,
        *,
        faults: FaultLayer | None = None,
        latency_s: float = 0.0,
        medium: Medium = "hislip",
    ) -> None:
        self._seat, self._lock = seat_of(device), lock
        self.instrument = ScpiInstrument(
            self._commands(),
            identity=self._names,
            reset=self._reset,
            lock=lock,
            faults=faults,
        )
        wire = SocketWire if medium == "socket" else HislipWire
        self._medium, self._wire = medium, wire(self.instrument, latency_s=latency_s)

    @property
    def _device(self) -> AnyDevice:
        return self._seat.device

    def start(self) -> WireAddress:
        """Listen, and say where."""
        port = self._wire.start()
        if self._medium == "socket":
            return WireAddress(self.DRIVER, f"TCPIP::{HOST}::{port}::SOCKET", PATIENT)
        return WireAddress(self.DRIVER, f"TCPIP::{HOST}::hislip0,{port}::INSTR", PATIENT)

    def stop(self) -> None:
        """Stop listening and drop every connection; the device is not touched."""
        self._wire.stop()

    @abstractmethod
    def _commands(self) -> Mapping[str, Handler]:
        """Those of the device's kind."""

    def _open(self) -> AnyDevice:
        """The device, open: the first command after the safe state takes it up again."""
        if not self._device.is_open:
            self._device.open()
        return self._device

    def _told(self, work: Callable[[], T]) -> T:
        """`work`, its errors as SCPI's."""
        try:
            return work()
        except DeviceError as error:
            number = next(number for kind, number in NUMBERS if isinstance(error, kind))
            raise ScpiError(number, str(error)) from None

    def _identity(self) -> Identity:
        return self.instrument.faults.identity(self._told(lambda: self._open().open()))

    def _names(self) -> tuple[str, str, str, str]:
        found = self._identity()
        return found.vendor, found.model, found.serial, found.firmware

    def _reset(self) -> None:
        """Back to the safe state, and what the face itself keeps as it was at first."""
        self._told(self._device.close)
