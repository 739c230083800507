"""A driver as an author would write it: four emitters behind a TCP socket. Protocol: `lamp_server.py`."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Mapping
from contextlib import suppress
from itertools import count

import numpy as np
from labctl_drivers.link import (
    Deadline,
    LinkSettings,
    WireBusy,
    Wired,
    WireGarbled,
    WireLog,
    WireLost,
    WireTimeout,
    require_firmware,
    require_model,
)

from labctl.devices import DeviceFault, DriveReceipt, DriveSpec, Identity, InputDrive, Scalar


class LampWire:
    """Questions and answers as lines with a number and a checksum, over TCP."""

    def __init__(self, address: str, log: WireLog, deadline: Deadline) -> None:
        host, _, port = address.rpartition(":")
        self._log, self._number, self._rest = log, count(1), b""
        try:
            self._socket = socket.create_connection((host, int(port)), deadline.left_s)
        except OSError as error:
            raise WireLost(f"no connection to {address}: {error.strerror or error}") from error

    def ask(self, question: str, deadline: Deadline) -> str:
        """The answer to a question; WireError for anything else."""
        number = self.tell(question, deadline)
        body, _, check = self._line(deadline).rpartition(b" ")
        if check != f"{zlib.crc32(body):08x}".encode():
            raise WireGarbled("the answer's checksum is wrong")
        tag, word, *rest = body.decode().split(" ", 2)
        if tag != str(number):
            raise WireGarbled(f"an answer to question {tag} came, asked was {number}")
        if word == "busy":
            raise WireBusy("the lamp is busy")
        if word == "error":
            raise DeviceFault(f"the lamp says {rest!r}", device="lamp", operation=question)
        return rest[0] if rest else ""

    def tell(self, question: str, deadline: Deadline) -> int:
        """Send it; returns its number."""
        number = next(self._number)
        line = f"{number} {question}\n".encode()
        self._log.sent(line)
        try:
            self._socket.settimeout(max(deadline.left_s, 1e-3))
            self._socket.sendall(line)
        except OSError as error:
            raise WireLost(str(error)) from error
        return number

    def drain(self, deadline: Deadline) -> None:
        """Ask until the answer is to the very question: what was on the way is gone then."""
        while True:
            try:
                self.ask("HELLO", deadline)
                return
            except WireGarbled:
                continue

    def _line(self, deadline: Deadline) -> bytes:
        while b"\n" not in self._rest:
            if deadline.passed:
                raise WireTimeout(f"no answer within {deadline.total_s:g} s")
            self._socket.settimeout(max(deadline.left_s, 1e-3))
            try:
                got = self._socket.recv(4096)
            except TimeoutError:
                continue
            except OSError as error:
                raise WireLost(str(error)) from error
            if not got:
                raise WireLost("the lamp hung up")
            self._log.received(got)
            self._rest += got
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def close(self) -> None:
        with suppress(OSError):  # wakes whoever waits on it
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class LampSettings(LinkSettings):
    """The usual ones, in a hurry."""

    timeout_s: float = 0.25
    open_timeout_s: float = 1.0


class LampDriver(Wired[LampWire], InputDrive):
    """Thirty lines of a driver."""

    Settings = LampSettings

    @property
    def spec(self) -> DriveSpec:
        return DriveSpec(4, 1001, 100.0, 50.0, 120.0)

    def _connect(self, deadline: Deadline) -> LampWire:
        return LampWire(self.address, self.wire_log, deadline)

    def _identify(self, wire: LampWire, deadline: Deadline) -> Identity:
        vendor, model, serial, firmware = wire.ask("IDN", deadline).split(",")
        found = Identity(vendor, model, serial, firmware, simulated=True)
        require_model(found, "lamp 4")
        require_firmware(found, "1.2")
        return found

    def _program(self, wire: LampWire, deadline: Deadline) -> None:
        wire.ask("UNIT ma", deadline)

    def _make_safe(self, wire: LampWire, deadline: Deadline) -> None:
        wire.ask("OFF", deadline)

    def _command_safe(self, wire: LampWire, deadline: Deadline) -> None:
        wire.tell("OFF", deadline)

    def _resync(self, wire: LampWire, deadline: Deadline) -> None:
        wire.drain(deadline)

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        return {"total_current_ma": float(self._ask("snapshot", "TOTAL"))}

    def _do_temperature_c(self) -> float:
        return float(self._ask("temperature_c", "TEMP"))

    def _do_drive(self, codes, hold, step_id, sample_id) -> DriveReceipt:
        current_ma = codes * self.spec.ma_per_code
        self._ask("drive", "DRIVE " + ",".join(f"{value:.3f}" for value in current_ma[-1]))
        return DriveReceipt(np.asarray(current_ma))

    def blink(self) -> str:
        """What must not happen twice."""
        return self._exchange("blink", lambda wire, deadline: wire.ask("BLINK", deadline), once=True)

    def _ask(self, operation: str, question: str) -> str:
        return self._exchange(operation, lambda wire, deadline: wire.ask(question, deadline))
