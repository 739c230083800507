"""A VISA resource as a wire: whole messages out, whole answers in, pyvisa's exceptions mapped once.

The resource string is pyvisa's, verbatim. A socket or a serial port has no END: an answer is read up to the
line feed that stands outside strings and blocks. Other resources end their messages themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from labctl.devices.wire.scpi_syntax import SyntaxProblem, missing_bytes
from labctl_drivers.link import Deadline, WireGarbled, WireLog, WireLost, WireTimeout

CHUNK_BYTES = 1 << 18
MISSING = "pyvisa is not installed; install it: pip install 'analog-labctl[scpi]'"


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
        milliseconds = max(1, int(deadline.left_s * 1e3))
        try:
            self._resource = manager.open_resource(address, open_timeout=milliseconds)
        except Exception as error:  # pyvisa-py raises plain Exceptions here
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
        with _mapped():
            self._hurry(deadline)
            self._resource.write_raw(message)

    def ask(self, message: bytes, deadline: Deadline) -> bytes:
        """Send a message and return its whole answer, without the line feed."""
        self.tell(message, deadline)
        with _mapped():
            answer = self._message() if self.has_end else self._line(deadline)
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

    def _message(self) -> bytes:
        return bytes(self._resource.read_raw())

    def _line(self, deadline: Deadline) -> bytes:
        answer = bytearray(self._resource.read_raw())
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

    def _hurry(self, deadline: Deadline) -> None:
        """Hand the deadline on to the library; setting it costs, so not for less than a tenth."""
        milliseconds = max(1, int(deadline.left_s * 1e3))
        if not 0.9 * self._timeout_ms <= milliseconds <= self._timeout_ms:
            self._resource.timeout = self._timeout_ms = milliseconds


@contextmanager
def _mapped() -> Iterator[None]:
    """pyvisa's exceptions, and those of the sockets below pyvisa-py, as the wire's."""
    import pyvisa

    try:
        yield
    except pyvisa.VisaIOError as error:
        if error.error_code == pyvisa.constants.StatusCode.error_timeout:
            raise WireTimeout("no whole answer in time") from error
        raise WireLost(str(error)) from error
    except TimeoutError as error:
        raise WireTimeout("no whole answer in time") from error
    except SyntaxProblem as error:
        raise WireGarbled(str(error)) from error
    except (OSError, EOFError, RuntimeError, pyvisa.Error) as error:
        raise WireLost(str(error) or type(error).__name__) from error
