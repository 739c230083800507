"""A mirror device behind a DLPC900: the controller's commands as HID reports, over a local socket.

Source: TI DLPU018J. USB itself cannot be emulated without a kernel that is built for it, so the reports come
over TCP, 64 bytes each; from the first byte of a report on everything is as on USB. The mirrors get what was
rebuilt from the reports, never a frame.
"""

from __future__ import annotations

import math
import socket
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError, DeviceError, Identity, Scalar, WeightModulator
from labctl_sim_devices.wires.face import WireAddress
from labctl_sim_devices.wires.faults import FaultLayer
from labctl_sim_devices.wires.listener import HOST, Listener, hang_up
from labctl_sim_devices.wires.mirror_image import BadImage, planes_of
from labctl_sim_devices.wires.seat import Seat, seat_of

DRIVER = "dlpc900.dmd"
REPORT_BYTES = 64
READ, REPLY, FAILED = 0x80, 0x40, 0x20
FIRMWARE = "6.0.0"
DLP6500 = 1
TAG = "LABCTL TWIN {:08x}"  # with a number of the very twin: the controller knows no serial number
ON_THE_FLY, STOP, START, RUNNING = 3, 0, 2, 0x02
MIN_EXPOSURE_US, ONE_BIT_WHITE = 105, 0x70
# error codes (2.1.6)
DEVICE_FAILURE, NO_COMMAND, WRONG_MODE, WRONG_PARAMETER, WRONG_IMAGE, WRONG_EXPOSURE, WRONG_PATTERN = (
    2, 3, 5, 6, 9, 14, 16,
)  # fmt: skip


class _Fails(Exception):
    """A command fails with an error code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Dlpc900:
    """The controller: memory and mode. `show` gets planes [P, h, w], exposures [P] (us), START's tag.

    `identity`: the twin's, with the controller's firmware.
    """

    def __init__(
        self,
        shape_px: tuple[int, int],
        show: Callable[[NDArray[np.uint16], list[int], bool], None],
        identity: Callable[[], Identity] = lambda: Identity("", "", "", FIRMWARE, simulated=True),
    ) -> None:
        self._shape, self._show, self._identity = shape_px, show, identity
        self._mode, self._running, self._error = 0, False, 0
        self._entries: dict[int, tuple[int, int]] = {}  # exposure, plane
        self._n_entries, self._image, self._expected = 0, b"", 0
        self._commands: dict[int, Callable[[bytes, int], bytes]] = {
            0x0100: lambda _data, _tag: bytes([self._error]),
            0x0205: self._version,
            0x0206: self._type,
            0x1A0C: lambda _data, _tag: bytes([RUNNING if self._running else 0]),
            0x1A1B: self._set_mode,
            0x1A24: self._run,
            0x1A2A: self._begin_load,
            0x1A2B: self._load,
            0x1A31: self._configure,
            0x1A34: self._define,
        }

    def carry_out(self, command: int, data: bytes, sequence: int) -> tuple[bytes, bool]:
        """Data of the answer, and whether the command failed."""
        if command == 0x0100:  # of the last command: asking changes nothing
            return bytes([self._error]), False
        self._error = 0
        try:
            if command not in self._commands:
                raise _Fails(NO_COMMAND)
            return self._commands[command](data, sequence & 1), False
        except _Fails as failure:
            self._error = failure.code
            return b"", True

    def refuse(self) -> None:
        """A command fails without a reason: who asks for the error is told 0."""
        self._error = 0

    def _version(self, _data: bytes, _tag: int) -> bytes:
        major, minor, patch, *_ = *(int(part) for part in self._identity().firmware.split(".")), 0, 0
        return bytes((patch, 0, minor, major)) + bytes(12)

    def _type(self, _data: bytes, _tag: int) -> bytes:
        tag = TAG.format(zlib.crc32(self._identity().serial.encode())).encode()
        return bytes([DLP6500]) + tag.ljust(31, b"\x00")

    def _set_mode(self, data: bytes, _tag: int) -> bytes:
        if data != bytes([ON_THE_FLY]):
            raise _Fails(WRONG_PARAMETER)
        self._mode = ON_THE_FLY
        return b""

    def _define(self, data: bytes, _tag: int) -> bytes:
        self._require_mode()
        if len(data) != 12:
            raise _Fails(WRONG_PARAMETER)
        index, exposure_us = _number(data[:2]), _number(data[2:5])
        image, plane = _number(data[10:]) & 0x7FF, _number(data[10:]) >> 11
        if exposure_us < MIN_EXPOSURE_US:
            raise _Fails(WRONG_EXPOSURE)
        if data[5] & ~1 != ONE_BIT_WHITE or _number(data[6:9]) or image or plane > 23:
            raise _Fails(WRONG_PATTERN)
        self._entries[index] = exposure_us, plane
        return b""

    def _configure(self, data: bytes, _tag: int) -> bytes:
        self._require_mode()
        count = _number(data[:2])
        if len(data) != 6 or not 1 <= count <= 400 or set(range(count)) - set(self._entries):
            raise _Fails(WRONG_PARAMETER)
        self._n_entries = count
        return b""

    def _begin_load(self, data: bytes, _tag: int) -> bytes:
        self._require_mode()
        if len(data) != 6 or _number(data[:2]):
            raise _Fails(WRONG_PARAMETER)
        self._image, self._expected = b"", _number(data[2:])
        return b""

    def _load(self, data: bytes, _tag: int) -> bytes:
        self._require_mode()
        block = data[2:]
        if _number(data[:2]) != len(block) or len(self._image) + len(block) > self._expected:
            raise _Fails(WRONG_PARAMETER)
        self._image += block
        return b""

    def _run(self, data: bytes, tag: int) -> bytes:
        if data == bytes([STOP]):
            self._running = False
        elif data == bytes([START]):
            self._start(bool(tag))
        else:
            raise _Fails(WRONG_PARAMETER)
        return b""

    def _start(self, waits: bool) -> None:
        self._require_mode()
        if not self._n_entries or len(self._image) != self._expected:
            raise _Fails(WRONG_PATTERN)
        entries = [self._entries[index] for index in range(self._n_entries)]
        try:
            planes = planes_of(self._image, self._shape, [plane for _, plane in entries])
        except BadImage:
            raise _Fails(WRONG_IMAGE) from None
        try:
            self._show(planes, [us for us, _ in entries], waits)
        except DeviceError:
            raise _Fails(DEVICE_FAILURE) from None
        self._running = True

    def _require_mode(self) -> None:
        if self._mode != ON_THE_FLY:
            raise _Fails(WRONG_MODE)


class _ReportWire(Listener):
    """Reports in, answers out, for as many controllers as there are connections."""

    def __init__(self, controller: Callable[[], Dlpc900], faults: FaultLayer) -> None:
        super().__init__()
        self._controller, self._faults = controller, faults

    def serve(self, connection: socket.socket) -> None:
        """Speak until the other end goes."""
        controller = self._controller()
        while True:
            first = _report(connection)
            flags, sequence, length = first[0], first[1], _number(first[2:4])
            body = first[4:]
            while len(body) < length:
                body += _report(connection)
            told = self._faults.question() if flags & REPLY else "do"
            if told == "busy":  # USB has no word for it: it takes the report, and nothing comes back
                continue
            if told == "fail":
                controller.refuse()
                answer, failed = b"", True
            else:
                answer, failed = controller.carry_out(_number(body[:2]), body[2:length], sequence)
            if flags & REPLY:
                mark = flags | (FAILED if failed else 0)
                reply = bytes([mark, sequence]) + len(answer).to_bytes(2, "little") + answer
                whole = reply.ljust(REPORT_BYTES, b"\x00")
                self._faults.send(whole, connection.sendall, lambda: hang_up(connection))


class Dlpc900Face:
    """A mirror device `device` (2 levels) behind such a controller; calls of the world go through `lock`.

    USB carries no clock: the lowest bit of START's sequence byte, which a controller only echoes, says
    whether the host waits for the mirrors.
    """

    def __init__(
        self,
        device: WeightModulator | Seat[WeightModulator],
        lock: AbstractContextManager[object],
        *,
        faults: FaultLayer | None = None,
    ) -> None:
        self._seat, self._lock = seat_of(device), lock
        name, spec = self._device.name, self._device.spec
        if spec.kind != "dmd":
            raise ConfigError(f"{name} is of kind {spec.kind}; a DLPC900 drives mirrors: dmd")
        self._faults = faults or FaultLayer()
        self._wire = _ReportWire(lambda: Dlpc900(spec.shape_px, self._shown, self._identity), self._faults)

    @property
    def _device(self) -> WeightModulator:
        return self._seat.device

    def start(self) -> WireAddress:
        """Listen, and say where, and what the controller cannot tell."""
        port = self._wire.start()
        with self._lock:
            identity = self._device.open()
        spec = self._device.spec
        settings: dict[str, Scalar] = {
            "serial": identity.serial,
            "settle_us": spec.settle_time_us,
            "exposure_us": round(spec.repeat_us) or 1000,
            "min_plane_us": max(MIN_EXPOSURE_US, math.ceil(spec.min_plane_us)),
            "blank_us": spec.blank_us,
            "report_us": 1.0,  # there is no USB to wait for
        }
        return WireAddress(DRIVER, f"socket:{HOST}:{port}", settings)

    def _identity(self) -> Identity:
        with self._lock:
            return self._faults.identity(replace(self._device.open(), firmware=FIRMWARE))

    def stop(self) -> None:
        """Pull the cable; the mirrors keep what they show."""
        self._wire.stop()

    def _shown(self, planes: NDArray[np.uint16], exposures_us: list[int], waits: bool) -> None:
        with self._lock:
            self._device.open()
            if len(planes) == 1:
                self._device.show(planes[0], wait=waits)
            else:
                self._device.show_sequence(planes, np.asarray(exposures_us, np.float64), wait=waits)


def _report(connection: socket.socket) -> bytes:
    """A whole report; OSError where the host has gone."""
    report = b""
    while len(report) < REPORT_BYTES:
        came = connection.recv(REPORT_BYTES - len(report))
        if not came:
            raise ConnectionResetError
        report += came
    return report


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
