"""Commands to a DLPC900 as HID reports, and what carries the reports: USB, or a socket in its place.

Source: TI DLPU018J, 1.2 (USB interface): reports of 64 bytes; flag byte, sequence byte, length (2) of command
and data, command (2), data; what does not fit follows in reports without header.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from importlib import import_module
from typing import Any, Protocol

from labctl_drivers.dlpc900.commands import (
    ERROR_CODE,
    ERRORS,
    FAILED,
    PRODUCT_ID,
    READ,
    REPLY,
    REPORT_BYTES,
    VENDOR_ID,
    WRITE,
)
from labctl_drivers.link import Deadline, WireGarbled, WireLog, WireLost, WireTimeout

HEADER_BYTES = 4


class Refused(Exception):
    """The controller's own error, in its words."""


class Reports(Protocol):
    """Reports of 64 bytes each way."""

    def write(self, report: bytes, deadline: Deadline) -> None:
        """One report out; WireLost, WireTimeout."""

    def read(self, deadline: Deadline) -> bytes:
        """One report in; WireLost, WireTimeout."""

    def close(self) -> None:
        """Let go."""


class UsbReports:
    """By hidapi; `serial` chooses among several controllers."""

    def __init__(self, serial: str) -> None:
        hid: Any = import_module("hid")
        self._device = hid.device()
        try:
            self._device.open(VENDOR_ID, PRODUCT_ID, serial or None)
        except OSError as error:
            which = f" with serial number {serial}" if serial else ""
            raise WireLost(f"no DLPC900{which} on USB ({error})") from None

    def write(self, report: bytes, deadline: Deadline) -> None:
        """Report ID 0 before it."""
        try:
            written = self._device.write(b"\x00" + report)
        except (OSError, ValueError) as error:
            raise WireLost(str(error)) from None
        if written < 0:
            raise WireLost(f"a report could not be written: {self._device.error()}")

    def read(self, deadline: Deadline) -> bytes:
        """hidapi has taken the report ID away."""
        try:
            report = bytes(self._device.read(REPORT_BYTES, max(1, round(1e3 * deadline.left_s))))
        except (OSError, ValueError) as error:
            raise WireLost(str(error)) from None
        if not report:
            raise WireTimeout(f"no answer within {deadline.total_s:g} s")
        return report

    def close(self) -> None:
        """Let go."""
        self._device.close()


class SocketReports:
    """The same reports over TCP: where a twin stands."""

    def __init__(self, place: str, deadline: Deadline) -> None:
        host, _, port = place.rpartition(":")
        try:
            self._socket = socket.create_connection((host, int(port)), max(deadline.left_s, 1e-3))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, ValueError) as error:
            raise WireLost(f"nothing at {place}: {error}") from None

    def write(self, report: bytes, deadline: Deadline) -> None:
        """All of it."""
        self._socket.settimeout(max(deadline.left_s, 1e-3))
        try:
            self._socket.sendall(report)
        except TimeoutError:
            raise WireTimeout(f"nothing taken within {deadline.total_s:g} s") from None
        except OSError as error:
            raise WireLost(str(error)) from None

    def read(self, deadline: Deadline) -> bytes:
        """A whole one."""
        report = b""
        while len(report) < REPORT_BYTES:
            self._socket.settimeout(max(deadline.left_s, 1e-3))
            try:
                came = self._socket.recv(REPORT_BYTES - len(report))
            except TimeoutError:
                raise WireTimeout(f"no answer within {deadline.total_s:g} s") from None
            except OSError as error:
                raise WireLost(str(error)) from None
            if not came:
                raise WireLost("the other end hung up")
            report += came
        return report

    def close(self) -> None:
        """Let go."""
        with suppress(OSError):
            self._socket.close()


class HidWire:
    """Asks and tells a controller, one command at a time, over `reports`."""

    def __init__(self, reports: Reports, log: WireLog) -> None:
        self._reports, self._log = reports, log
        self._number = 0

    def tell(self, command: int, data: bytes, deadline: Deadline, *, tag: int = 0) -> None:
        """Write a command and have it confirmed; Refused with the controller's words.

        The sequence byte is the host's to choose: its lowest bit is `tag`.
        """
        self._transfer(WRITE, command, data, deadline, tag)

    def order(self, command: int, data: bytes, deadline: Deadline, *, tag: int = 0) -> None:
        """Write a command and wait for no answer, as the guide's own examples do."""
        self._send(WRITE, command, data, deadline, tag)

    def ask(self, command: int, deadline: Deadline, *, least: int = 1) -> bytes:
        """Data of a read command, so many bytes or more."""
        data = self._transfer(READ, command, b"", deadline, 0)
        if len(data) < least:
            raise WireGarbled(f"{len(data)} bytes answer command {command:04x}; allowed: {least} or more")
        return data

    def close(self) -> None:
        """Let go."""
        self._reports.close()

    def _transfer(self, way: int, command: int, data: bytes, deadline: Deadline, tag: int) -> bytes:
        sequence = self._send(way | REPLY, command, data, deadline, tag)
        answer = self._reports.read(deadline)
        self._log.received(answer)
        length = int.from_bytes(answer[2:4], "little")
        if answer[1] != sequence or answer[0] & ~FAILED != way | REPLY:
            raise WireGarbled(f"an answer to command {answer[1]} came, asked was {sequence}")
        if HEADER_BYTES + length > len(answer):
            raise WireGarbled(f"an answer of {length} bytes in a report of {len(answer)}")
        if answer[0] & FAILED:
            raise Refused(f"command {command:04x} failed: {self._error(command, deadline)}")
        return answer[HEADER_BYTES : HEADER_BYTES + length]

    def _send(self, flags: int, command: int, data: bytes, deadline: Deadline, tag: int) -> int:
        """Returns the sequence byte."""
        self._number = self._number + 2 & 0xFF
        sequence = self._number | tag
        for report in reports_of(flags, sequence, command, data):
            self._log.sent(report)
            self._reports.write(report, deadline)
        return sequence

    def _error(self, command: int, deadline: Deadline) -> str:
        if command == ERROR_CODE:
            return "it does not say why"
        code = self.ask(ERROR_CODE, deadline, least=0)
        return ERRORS.get(code[0], f"error {code[0]}") if code and code[0] else "it does not say why"


def reports_of(flags: int, sequence: int, command: int, data: bytes) -> list[bytes]:
    """A command as reports of 64 bytes, the last one padded with zeros."""
    body = command.to_bytes(2, "little") + data
    stream = bytes([flags, sequence]) + len(body).to_bytes(2, "little") + body
    stream += bytes(-len(stream) % REPORT_BYTES)
    return [stream[at : at + REPORT_BYTES] for at in range(0, len(stream), REPORT_BYTES)]
