"""Wires that misbehave, by name and seed. A face passes what it is asked and what it answers through here.

The table says of each misbehaviour what a driver does about it. One rule holds for all: a wrong value is
never taken for a right one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from labctl.devices import (
    ConfigError,
    DeviceError,
    DeviceFault,
    DeviceTimeout,
    DeviceUnavailable,
    Identity,
)

Told = Literal["do", "busy", "fail"]
Answered = Literal["answered"]  # the right answer, after a bounded number of attempts
Outcome = Answered | type[DeviceError]

_ON_QUESTIONS = ("busy", "empty-error", "old-firmware")
BUSY_QUESTIONS = 3  # in a row, where it is busy for a while
MAX_GARBAGE = 24  # bytes


@dataclass(frozen=True)
class Misbehaviour:
    """What goes wrong, and how a question that may be repeated ends: where it happens once, and where it goes
    on for ever (one of several, where it depends on the protocol's framing).
    """

    about: str
    once: tuple[Outcome, ...]
    lasting: tuple[Outcome, ...]


def _row(about: str, once: Outcome | tuple[Outcome, ...], *lasting: Outcome) -> Misbehaviour:
    return Misbehaviour(about, once if isinstance(once, tuple) else (once,), lasting)


MISBEHAVIOURS: dict[str, Misbehaviour] = {
    "late": _row("the answer comes after the driver's time-out", "answered", DeviceTimeout),
    "silent": _row("the answer never comes", "answered", DeviceTimeout),
    "duplicate": _row("the answer comes twice", "answered", "answered", DeviceFault),
    "truncated": _row("the end of the answer is missing", "answered", DeviceTimeout, DeviceFault),
    "corrupted": _row("one byte of the answer is another", "answered", DeviceFault, DeviceTimeout),
    "previous": _row("the answer before comes again, in place of this one", "answered", DeviceFault),
    "garbage": _row("noise comes before the answer", "answered", "answered", DeviceFault, DeviceTimeout),
    "disconnect": _row("the connection ends inside the answer", "answered", DeviceUnavailable),
    "busy": _row("it says that it is busy", "answered", DeviceTimeout),
    "empty-error": _row("it reports an error without a text", DeviceFault, DeviceFault),
    "other-box": _row(
        "the connection ends, and another serial number answers at the next", DeviceUnavailable,
        DeviceUnavailable,
    ),
    "old-firmware": _row("its firmware is version 0.1", DeviceUnavailable, DeviceUnavailable),
}  # fmt: skip


@dataclass(frozen=True)
class Send:
    """Bytes that go on the wire."""

    data: bytes


@dataclass(frozen=True)
class Pause:
    """Nothing for so long."""

    seconds: float


@dataclass(frozen=True)
class HangUp:
    """The connection ends."""


Piece = Send | Pause | HangUp


class FaultLayer:
    """One misbehaviour (None: none) between a face and its wire; any number of threads.

    It happens at one of `within` answers (or questions: what it is about), drawn by `seed`, once or `lasting`
    from there on; the first `after` are left alone. late_s: how late an answer is; longer than the driver
    waits. Raises ConfigError for a name that is not in the table.
    """

    def __init__(
        self,
        fault: str | None = None,
        *,
        seed: int = 0,
        lasting: bool = False,
        within: int = 8,
        after: int = 0,
        late_s: float = 1.0,
    ) -> None:
        if fault is not None and fault not in MISBEHAVIOURS:
            raise ConfigError(f"wire fault {fault!r} is not known; allowed: {', '.join(MISBEHAVIOURS)}")
        if within < 1 or after < 0:
            raise ConfigError(f"within is {within}, after {after}; allowed: 1 or more, 0 or more")
        self.fault, self.seed, self.lasting, self.late_s = fault, seed, lasting, late_s
        self.struck = 0  # how often it has happened
        self._rng = np.random.Generator(np.random.Philox(key=seed))
        self._first = after + int(self._rng.integers(within))
        self._answers = self._questions = 0
        self._previous = b""
        self._other_box = False
        self._guard = threading.Lock()

    def question(self) -> Told:
        """What becomes of the next question: a face asks before it carries one out."""
        with self._guard:
            number, self._questions = self._questions, self._questions + 1
            if self.fault == "busy" and self._strikes(number, BUSY_QUESTIONS):
                return "busy"
            if self.fault == "empty-error" and self._strikes(number):
                return "fail"
            return "do"

    def identity(self, found: Identity) -> Identity:
        """Who answers."""
        with self._guard:
            if self.fault == "old-firmware":
                self.struck += 1
                return replace(found, firmware="0.1")
            return replace(found, serial=f"{found.serial}-OTHER") if self._other_box else found

    def sending(self, answer: bytes) -> tuple[Piece, ...]:
        """What goes on the wire for one whole answer."""
        with self._guard:
            number, self._answers = self._answers, self._answers + 1
            previous, self._previous = self._previous, answer
            if self.fault is None or self.fault in _ON_QUESTIONS or not answer:
                return (Send(answer),)
            if self.fault == "previous" and not previous:  # none that could come again
                self._first = max(self._first, 1)
            if not self._strikes(number):
                return (Send(answer),)
            if self.fault == "other-box":
                self._other_box = True
            return self._misbehaved(answer, previous)

    def send(self, answer: bytes, write: Callable[[bytes], object], hang_up: Callable[[], object]) -> None:
        """Put one whole answer on the wire: `write` takes bytes, `hang_up` ends the connection."""
        for piece in self.sending(answer):
            match piece:
                case Send(data):
                    write(data)
                case Pause(seconds):
                    time.sleep(seconds)
                case HangUp():
                    hang_up()

    def _strikes(self, number: int, times: int = 1) -> bool:
        if self.fault == "other-box" and self._other_box:
            return False
        strikes = number >= self._first and (self.lasting or number < self._first + times)
        self.struck += strikes
        return strikes

    def _misbehaved(self, answer: bytes, previous: bytes) -> tuple[Piece, ...]:
        rng = self._rng
        match self.fault:
            case "late":
                return Pause(self.late_s), Send(answer)
            case "duplicate":
                return (Send(answer + answer),)
            case "truncated":
                return (Send(answer[: int(rng.integers(len(answer)))]),)
            case "corrupted":
                at, flip = int(rng.integers(len(answer))), int(rng.integers(1, 256))
                return (Send(answer[:at] + bytes([answer[at] ^ flip]) + answer[at + 1 :]),)
            case "previous":
                return (Send(previous),)
            case "garbage":
                return (Send(rng.bytes(int(rng.integers(1, MAX_GARBAGE + 1))) + answer),)
            case "disconnect" | "other-box":
                return Send(answer[: int(rng.integers(len(answer)))]), HangUp()
        return ()  # silent
