"""A VISA resource as a wire: whole messages out, whole answers in, pyvisa's exceptions mapped once.

The resource string is pyvisa's, verbatim. A socket or a serial port has no END: an answer is read up to the
line feed that stands outside strings and blocks. Other resources end their messages themselves.
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

from labctl.devices.wire.scpi_syntax import SyntaxProblem, missing_bytes
from labctl_drivers.link import Deadline, WireGarbled, WireLog, WireLost, WireTimeout

CHUNK_BYTES = 1 << 15
HISLIP_PORT = 4880
MISSING = "pyvisa is not installed; pip install 'analog-labctl[scpi]'"


@lru_cache
def visa_manager(library: str) -> Any:
    """pyvisa's resource manager for a library ("" is its own choice, "@py" pure Python). WireLost without."""
    try:
        import pyvisa
    except ImportError:
        raise WireLost(MISSING) from None
    try:
        return pyvisa.ResourceManager(library)
    except (OSError, ValueError, pyvisa.Error) as error:
        raise WireLost(f"no VISA library {library or '(any)'!r}: {error}") from error


class VisaWire:
    """An open resource. `settings` are attributes of pyvisa's resource, such as baud_rate."""

    def __init__(
        self, address: str, library: str, log: WireLog, deadline: Deadline, settings: dict[str, Any]
    ) -> None:
        self._log, self._timeout_ms = log, 0
        manager = visa_manager(library)
        _require_listener(address, deadline)
        milliseconds = max(1, int(deadline.left_s * 1e3))
        try:
            self._resource = manager.open_resource(address, open_timeout=milliseconds)
        except Exception as error:
            raise WireLost(f"{address} cannot be opened: {error}") from error
        self.has_end = address.upper().split("::")[-1] == "INSTR" and not address.upper().startswith("ASRL")
        with _mapped():
            self._resource.chunk_size = CHUNK_BYTES
            self._resource.read_termination = None if self.has_end else "\n"
            for name, value in settings.items():
                setattr(self._resource, name, value)

    def tell(self, message: bytes, deadline: Deadline) -> None:
        """Send a message, its line feed included."""
        self._log.sent(message)
        try:
            self._hurry(deadline)
            self._resource.write_raw(message)
        except Exception as error:
            raise _meant(error) from error

    def ask(self, message: bytes, deadline: Deadline) -> bytes:
        """Send a message and return its whole answer, without the line feed."""
        self._log.sent(message)
        try:
            self._hurry(deadline)
            self._resource.write_raw(message)
            answer = bytes(self._resource.read_raw()) if self.has_end else self._line(deadline)
        except Exception as error:
            meant = _meant(error)
            if isinstance(meant, WireTimeout) and self._hung_up():
                meant = WireLost("the instrument has ended the connection")
            raise meant from error
        self._log.received(answer)
        return answer.removesuffix(b"\n").removesuffix(b"\r")

    def clear(self, deadline: Deadline) -> None:
        """Device clear: the instrument drops what it was about to answer."""
        with _mapped():
            self._hurry(deadline)
            self._resource.clear()

    def status_byte(self, deadline: Deadline) -> int:
        """By serial poll, where the resource has one."""
        with _mapped():
            self._hurry(deadline)
            return int(self._resource.read_stb())

    def close(self) -> None:
        """Let go of the resource."""
        self._resource.close()

    def _line(self, deadline: Deadline) -> bytes:
        first = self._resource.read_raw()
        if first.endswith(b"\n") and not missing_bytes(first):
            return bytes(first)
        answer = bytearray(first)
        while missing := missing_bytes(answer):
            if deadline.passed:
                raise WireTimeout(f"{len(answer)} bytes of an answer within {deadline.total_s:g} s")
            self._hurry(deadline)
            if missing == 1:
                answer += self._resource.read_raw()
                continue
            self._resource.read_termination = None  # in a block a line feed is a byte like any other
            try:
                answer += self._resource.read_bytes(missing, chunk_size=missing)
            finally:
                self._resource.read_termination = "\n"
        return bytes(answer)

    def _hung_up(self) -> bool:
        """Whether the other end of a pyvisa-py socket is gone, which pyvisa-py reports as a time-out.

        False where it cannot be told.
        """
        sessions = getattr(self._resource.visalib, "sessions", {})
        interface = getattr(sessions.get(self._resource.session), "interface", None)
        if not isinstance(interface, socket.socket):
            return False
        with suppress(OSError):
            readable, _, _ = select.select([interface], [], [], 0)
            return bool(readable) and interface.recv(1, socket.MSG_PEEK) == b""
        return True

    def _hurry(self, deadline: Deadline) -> None:
        """Hand the deadline on to the library; setting it costs, so not for less than a tenth."""
        milliseconds = max(1, int(deadline.left_s * 1e3))
        if not 0.9 * self._timeout_ms <= milliseconds <= self._timeout_ms:
            self._resource.timeout = self._timeout_ms = milliseconds


def _require_listener(address: str, deadline: Deadline) -> None:
    """WireLost where nobody listens at a HiSLIP address: pyvisa-py would wait 5 s whatever it is told."""
    named = re.fullmatch(
        r"TCPIP\d*::([^:]+)::hislip\d+(?:,(\d+))?(?:::INSTR)?", address.strip(), re.IGNORECASE
    )
    if named is None:
        return
    try:
        socket.create_connection((named[1], int(named[2] or HISLIP_PORT)), max(deadline.left_s, 1e-3)).close()
    except OSError as error:
        raise WireLost(f"{address}: {error.strerror or error}") from error


def _meant(error: Exception) -> Exception:
    """pyvisa's exceptions, and those of the sockets below pyvisa-py, as the wire's; any other as it is."""
    import pyvisa

    if isinstance(error, TimeoutError):
        return WireTimeout("no whole answer in time")
    if isinstance(error, pyvisa.VisaIOError):
        if error.error_code == pyvisa.constants.StatusCode.error_timeout:
            return WireTimeout("no whole answer in time")
        return WireLost(str(error))
    if isinstance(error, SyntaxProblem):
        return WireGarbled(str(error))
    if isinstance(error, OSError | EOFError | RuntimeError | pyvisa.Error):
        return WireLost(str(error) or type(error).__name__)
    return error


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _meant(error) from error
