"""A serial port as a wire: bytes out, bytes in, by pyserial. Its exceptions end here."""

from __future__ import annotations

import errno
import importlib
import termios
import time
from types import ModuleType
from typing import Any

from labctl_drivers.link import WireLog, WireLost

POLL_S = 0.02  # how long a read waits for a first byte
SLACK_S = 1.0  # that a write may take beyond its time on the line
# a process that this one begins holds what it has open for a moment, a port just closed and its lock among it
LOCKED_S = 0.3


def pyserial() -> ModuleType | None:
    """The module `serial` of pyserial; None where it is not installed."""
    try:
        return importlib.import_module("serial")
    except ImportError:
        return None


def _opened(library: ModuleType, address: str, baud: int, limit_s: float) -> Any:
    """The port, locked for this process."""
    until_s = time.monotonic() + LOCKED_S
    while True:
        try:
            return library.serial_for_url(
                address, baudrate=baud, timeout=POLL_S, write_timeout=limit_s, exclusive=True
            )
        except OSError as error:
            if error.errno != errno.EAGAIN or time.monotonic() > until_s:
                raise
        time.sleep(POLL_S)


class SerialLine:
    """An open port: a device file (or link to one), or a URL that pyserial knows. 8 data bits, no parity."""

    def __init__(self, library: ModuleType, address: str, baud: int, log: WireLog, most_bytes: int) -> None:
        """Open it; WireLost where that fails. most_bytes: of one write."""
        self.baud, self._log = baud, log
        limit_s = self.time_s(most_bytes) + SLACK_S
        self._trickles = "://" in address  # pyserial's sockets say only whether a byte waits
        try:
            self._port = _opened(library, address, baud, limit_s)
        except (OSError, ValueError, termios.error) as error:
            raise WireLost(f"the port cannot be opened: {error}") from error

    def time_s(self, n_bytes: int) -> float:
        """How long so many bytes take: ten bits each."""
        return n_bytes * 10 / self.baud

    def write(self, data: bytes) -> None:
        """Send; WireLost where the port is gone or takes nothing."""
        try:
            self._port.write(data)
        except (OSError, termios.error) as error:
            raise WireLost(f"the port takes no bytes: {error}") from error
        self._log.sent(data)

    def read(self) -> bytes:
        """What has come; waits POLL_S for a first byte. WireLost where the port is gone.

        By what is waiting: pyserial's read_until would ask the system for every single byte.
        """
        try:
            data: bytes = self._port.read(self._port.in_waiting or 1)
            while self._trickles and data and self._port.in_waiting:
                data += self._port.read(1)
        except (OSError, termios.error, TypeError) as error:  # TypeError: closed by another thread meanwhile
            raise WireLost(f"the port gives no bytes: {error}") from error
        if data:
            self._log.received(data)
        return data

    def close(self) -> None:
        """Let go of the port."""
        self._port.close()
