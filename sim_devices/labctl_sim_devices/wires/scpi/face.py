"""What SCPI faces share: the device behind the commands, its errors as SCPI's, sockets or HiSLIP in front."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Literal, TypeVar

from labctl.devices import (
    Device,
    DeviceError,
    DeviceStateError,
    DeviceTimeout,
    DeviceUnavailable,
    DeviceValueError,
    Hold,
    Identity,
    UnsupportedFeature,
)
from labctl.devices.wire.records import record_bytes
from labctl.devices.wire.scpi_commands import OPERATION_MEASURED
from labctl.devices.wire.scpi_records import Readings
from labctl.devices.wire.scpi_syntax import block
from labctl_sim_devices.wires.face import WireAddress
from labctl_sim_devices.wires.faults import FaultLayer
from labctl_sim_devices.wires.listener import HOST
from labctl_sim_devices.wires.scpi.arguments import Arguments, ScpiError
from labctl_sim_devices.wires.scpi.hislip import HislipWire
from labctl_sim_devices.wires.scpi.instrument import Handler, ScpiInstrument
from labctl_sim_devices.wires.scpi.sockets import SocketWire

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


class ScpiFace(Generic[AnyDevice]):
    """A device as an SCPI instrument. `DRIVER` is the rig file's name of the driver that speaks to it.

    On HiSLIP a driver sees at once that the other end is gone; pyvisa-py on a raw socket waits its time-out.
    """

    DRIVER: ClassVar[str]

    def __init__(
        self,
        device: AnyDevice,
        lock: threading.RLock,
        *,
        faults: FaultLayer | None = None,
        latency_s: float = 0.0,
        medium: Medium = "hislip",
    ) -> None:
        self._device, self._lock = device, lock
        self._hold: Hold | None = None
        self.instrument = ScpiInstrument(
            self._own() | dict(self._commands()),
            identity=self._names,
            reset=self._reset,
            lock=lock,
            faults=faults,
        )
        wire = SocketWire if medium == "socket" else HislipWire
        self._medium, self._wire = medium, wire(self.instrument, latency_s=latency_s)

    def start(self) -> WireAddress:
        """Listen, and say where."""
        port = self._wire.start()
        if self._medium == "socket":
            return WireAddress(self.DRIVER, f"TCPIP::{HOST}::{port}::SOCKET", PATIENT)
        return WireAddress(self.DRIVER, f"TCPIP::{HOST}::hislip0,{port}::INSTR", PATIENT)

    def stop(self) -> None:
        """Stop listening and drop every connection; the device is not touched."""
        self._wire.stop()

    def _commands(self) -> Mapping[str, Handler]:
        """Those of the device's kind."""
        raise NotImplementedError

    def _description(self, identity: Identity) -> Any:
        """The record that SYSTem:DESCribe? gives."""
        raise NotImplementedError

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

    def _record(self, work: Callable[[], Any]) -> bytes:
        """The record that `work` gives, as a block; a measurement has ended then."""
        answer = block(record_bytes(self._told(work)))
        self.instrument.status.operation.pulse(OPERATION_MEASURED)
        return answer

    def _identity(self) -> Identity:
        return self.instrument.faults.identity(self._told(lambda: self._open().open()))

    def _names(self) -> tuple[str, str, str, str]:
        found = self._identity()
        return found.vendor, found.model, found.serial, found.firmware

    def _reset(self) -> None:
        self._hold = None
        self._told(self._device.close)

    def _own(self) -> dict[str, Handler]:
        return {
            "SYSTem:DESCribe?": self._describe,
            "SYSTem:SNAPshot?": self._snapshot,
            "SYSTem:TEMPerature?": self._temperature,
            "SYSTem:SAFE": self._safe,
        }

    def _describe(self, arguments: Arguments) -> bytes:
        arguments.expect(0)
        return block(record_bytes(self._description(self._identity())))

    def _snapshot(self, arguments: Arguments) -> bytes:
        arguments.expect(0)
        return block(record_bytes(Readings(self._told(lambda: self._open().snapshot()))))

    def _temperature(self, arguments: Arguments) -> str:
        arguments.expect(0)
        read = getattr(self._device, "temperature_c", None)
        if read is None:
            raise ScpiError(-241, "no thermometer")
        self._told(self._open)
        return repr(float(self._told(read)))

    def _safe(self, arguments: Arguments) -> None:
        arguments.expect(0)
        self._reset()

    def _set_hold(self, arguments: Arguments) -> None:
        arguments.expect(1, 2)
        if len(arguments.elements) == 1:
            arguments.word(0, ("OFF",))
            self._hold = None
        else:
            self._hold = Hold(arguments.number(0, 0.0), arguments.number(1, 0.0))

    def _get_hold(self, arguments: Arguments) -> str:
        arguments.expect(0)
        return "OFF" if self._hold is None else f"{self._hold.hold_us!r},{self._hold.period_us!r}"
