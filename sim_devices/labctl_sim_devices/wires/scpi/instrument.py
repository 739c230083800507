"""An SCPI instrument without a wire: messages in, answers out; error queue and status model of IEEE 488.2."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from labctl.devices.wire.records import crc_of
from labctl.devices.wire.scpi_syntax import SyntaxProblem, parts
from labctl_sim_devices.wires.faults import FaultLayer
from labctl_sim_devices.wires.scpi.arguments import Arguments, ScpiError
from labctl_sim_devices.wires.scpi.headers import BadSuffix, HeaderTable

QUEUE_LENGTH = 32
OPC, QUERY_ERROR, DEVICE_ERROR, EXECUTION_ERROR, COMMAND_ERROR, POWER_ON = 1, 4, 8, 16, 32, 128
Handler = Callable[[Arguments], str | bytes | None]


@dataclass
class Register:
    """Condition, latched events and mask of a status register."""

    condition: int = 0
    event: int = 0
    enable: int = 0

    def pulse(self, bits: int) -> None:
        """Something began and ended."""
        self.event |= bits

    def take(self) -> int:
        """Events, cleared by being read."""
        event, self.event = self.event, 0
        return event

    @property
    def summary(self) -> bool:
        """Whether an event counts."""
        return bool(self.event & self.enable)


@dataclass
class Status:
    """The status byte and all under it."""

    events: int = POWER_ON
    event_mask: int = 0
    request_mask: int = 0
    operation: Register = field(default_factory=Register)
    questionable: Register = field(default_factory=Register)
    errors: deque[ScpiError] = field(default_factory=deque)

    def fail(self, error: ScpiError) -> None:
        """Queue an error and note its class in the standard events."""
        number = error.number
        for top, bit in ((-100, COMMAND_ERROR), (-200, EXECUTION_ERROR), (-400, QUERY_ERROR)):
            if top - 99 <= number <= top:
                self.events |= bit
        if number > 0 or -399 <= number <= -300:
            self.events |= DEVICE_ERROR
        if len(self.errors) < QUEUE_LENGTH:
            self.errors.append(error)
        else:
            self.errors[-1] = ScpiError(-350)

    def next_error(self) -> str:
        """Oldest error, taken out."""
        error = self.errors.popleft() if self.errors else ScpiError(0)
        text = error.text.replace('"', "'").replace("\n", " ")[:255]
        return f'{error.number},"{text.encode("ascii", "replace").decode()}"'

    def byte(self, answer_waiting: bool) -> int:
        """The status byte."""
        value = 4 * bool(self.errors) | 8 * self.questionable.summary | 16 * answer_waiting
        value |= 32 * bool(self.events & self.event_mask) | 128 * self.operation.summary
        return value | 64 * bool(value & self.request_mask & ~64)

    def clear(self) -> None:
        """*CLS."""
        self.events = 0
        self.operation.event = self.questionable.event = 0
        self.errors.clear()


class ScpiInstrument:
    """Answers messages. `handlers` are the commands beyond those of 488.2 and the status model.

    `reset` is what *RST does besides; `identity` gives the four fields of *IDN?. An error in one part of a
    message leaves the other parts to be carried out.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        identity: Callable[[], tuple[str, str, str, str]],
        reset: Callable[[], None],
        lock: threading.RLock,
        faults: FaultLayer | None = None,
    ) -> None:
        self.status = Status()
        self.faults = FaultLayer() if faults is None else faults
        self._identity, self._reset, self._lock = identity, reset, lock
        self._message, self._answer = b"", b""
        known = {**self._basics(), **handlers}
        self.headers = frozenset(known)
        self._table: HeaderTable[Handler] = HeaderTable(known)

    def answer(self, message: bytes) -> bytes:
        """Carry out a whole message; its answer with a line feed, or nothing where it asked nothing."""
        with self._lock:
            self._message, self._answer = _without_end(message), b""
            try:
                units = parts(self._message + b"\n", b";")
            except SyntaxProblem as error:
                self.status.fail(ScpiError(-161, str(error)))
                return b""
            path: list[str] = []
            for unit in units:
                path = self._unit(unit, path)
            answer, self._answer = self._answer, b""
            return answer + b"\n" if answer else b""

    def overrun(self, detail: str) -> None:
        """The wire got more than an instrument takes, or no message at all."""
        with self._lock:
            self.status.fail(ScpiError(-363, detail))

    def _unit(self, unit: bytes, path: list[str]) -> list[str]:
        """One command or query; returns the path that the next one is relative to."""
        if not unit:
            return path
        typed, _, rest = unit.partition(b" ")
        try:
            header = typed.decode("ascii")
        except UnicodeDecodeError:
            self.status.fail(ScpiError(-102))
            return path
        if header.startswith("*"):
            full = header
        else:
            nodes = header.removeprefix(":").split(":")
            full = ":".join(nodes if header.startswith(":") else [*path, *nodes])
            path = full.split(":")[:-1]
        try:
            answer = self._carried_out(full, rest)
        except ScpiError as error:
            self.status.fail(error)
            return path
        if answer is not None:
            data = answer.encode("ascii", "replace") if isinstance(answer, str) else answer
            self._answer = self._answer + b";" + data if self._answer else data
        return path

    def _carried_out(self, header: str, rest: bytes) -> str | bytes | None:
        if not header.upper().startswith(("*", "SYST", "STAT")):  # those answer also when all else does not
            told = self.faults.question()
            if told == "busy":
                raise ScpiError(302)
            if told == "fail":
                raise ScpiError(-300, text="")
        try:
            found = self._table.find(header)
        except BadSuffix:
            raise ScpiError(-114, header[:40]) from None
        except LookupError:
            raise ScpiError(-113, header[:40]) from None
        try:
            elements = tuple(parts(rest, b",")) if rest.strip() else ()
        except SyntaxProblem as error:
            raise ScpiError(-161, str(error)) from None
        return found.entry(Arguments(elements, found.suffixes))

    def _basics(self) -> dict[str, Handler]:
        status = self.status

        def plain(work: Callable[[], Any], asks: bool) -> Handler:
            def handler(arguments: Arguments) -> str | None:
                arguments.expect(0)
                result = work()
                return str(result) if asks else None

            return handler

        def mask(target: object, name: str, high: int) -> Handler:
            def handler(arguments: Arguments) -> None:
                arguments.expect(1)
                setattr(target, name, arguments.whole(0, 0, high))

            return handler

        def completed() -> None:
            status.events |= OPC

        def events() -> int:
            seen, status.events = status.events, 0
            return seen

        def preset() -> None:
            status.operation.enable = status.questionable.enable = 0

        def all_errors() -> str:
            found = [status.next_error()]
            while status.errors:
                found.append(status.next_error())
            return ",".join(found)

        handlers: dict[str, Handler] = {
            "*CLS": plain(status.clear, False),
            "*ESE": mask(status, "event_mask", 255),
            "*ESE?": plain(lambda: status.event_mask, True),
            "*ESR?": plain(events, True),
            "*IDN?": plain(self._idn, True),
            "*OPC": plain(completed, False),
            "*OPC?": plain(lambda: 1, True),
            "*RST": plain(self._reset, False),
            "*SRE": mask(status, "request_mask", 255),
            "*SRE?": plain(lambda: status.request_mask, True),
            "*STB?": plain(lambda: status.byte(bool(self._answer)), True),
            "*TST?": plain(self._self_test, True),
            "*WAI": plain(lambda: None, False),
            "SYSTem:ERRor[:NEXT]?": plain(status.next_error, True),
            "SYSTem:ERRor:ALL?": plain(all_errors, True),
            "SYSTem:ERRor:COUNt?": plain(lambda: len(status.errors), True),
            "SYSTem:VERSion?": plain(lambda: "1999.0", True),
            "SYSTem:SEAL?": self._seal,
            "STATus:PRESet": plain(preset, False),
        }
        for name, register in (("OPERation", status.operation), ("QUEStionable", status.questionable)):
            handlers[f"STATus:{name}[:EVENt]?"] = plain(register.take, True)
            handlers[f"STATus:{name}:CONDition?"] = plain(partial(getattr, register, "condition"), True)
            handlers[f"STATus:{name}:ENABle"] = mask(register, "enable", 65535)
            handlers[f"STATus:{name}:ENABle?"] = plain(partial(getattr, register, "enable"), True)
        return handlers

    def _idn(self) -> str:
        return ",".join(field.replace(",", ";") for field in self._identity())

    def _self_test(self) -> int:
        try:
            self._identity()
        except ScpiError as error:
            self.status.fail(error)
            return 1
        return 0

    def _seal(self, arguments: Arguments) -> str:
        arguments.expect(1)
        tag = arguments.whole(0, 0, 2**32 - 1)
        asked = self._message[: self._message.rindex(b";")] if b";" in self._message else b""
        seal = f"{tag},{len(self.status.errors)}"
        return f"{seal},{crc_of(b'|'.join((asked, self._answer, seal.encode())))}"


def _without_end(message: bytes) -> bytes:
    """Without its line feed, or carriage return and line feed."""
    return message.removesuffix(b"\n").removesuffix(b"\r")
