"""Parameters of a command as typed values, and the errors of SCPI-99 (volume 2, chapter 21)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

from labctl.devices.wire.records import RecordProblem, record_of
from labctl.devices.wire.scpi_syntax import NUMBER, SyntaxProblem, payload_of

T = TypeVar("T")

ERRORS = {
    0: "No error",
    -100: "Command error",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -138: "Suffix not allowed",
    -141: "Invalid character data",
    -161: "Invalid block data",
    -200: "Execution error",
    -221: "Settings conflict",
    -222: "Data out of range",
    -223: "Too much data",
    -230: "Data corrupt or stale",
    -240: "Hardware error",
    -241: "Hardware missing",
    -300: "Device-specific error",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
    -365: "Time out error",
    301: "Bench not connected",
    302: "Busy",
}


class ScpiError(Exception):
    """An entry of the error queue."""

    def __init__(self, number: int, detail: str = "", *, text: str | None = None) -> None:
        self.number = number
        self.text = ERRORS[number] + (f";{detail}" if detail else "") if text is None else text
        super().__init__(f"{number},{self.text}")


@dataclass(frozen=True)
class Arguments:
    """What stood behind a header."""

    elements: tuple[bytes, ...]
    suffixes: tuple[int, ...] = ()

    def expect(self, low: int, high: int | None = None) -> None:
        """ScpiError unless there are so many parameters."""
        if len(self.elements) < low:
            raise ScpiError(-109, f"{len(self.elements)} of {low}")
        if len(self.elements) > (low if high is None else high):
            raise ScpiError(-108, f"{len(self.elements)} of {low}")

    def number(self, index: int, low: float = -math.inf, high: float = math.inf) -> float:
        """A decimal number in a range."""
        element = self.elements[index]
        typed = NUMBER.match(element)
        if typed is None:
            raise ScpiError(-104, f"{_shown(element)} is no number")
        if typed.end() < len(element):
            raise ScpiError(-138, _shown(element))
        value = float(element)
        if not low <= value <= high or math.isinf(value):
            raise ScpiError(-222, f"{value:g}, allowed {low:g} to {high:g}")
        return value

    def whole(self, index: int, low: int, high: int) -> int:
        """A whole number in a range."""
        if self.elements[index].isdigit() and low <= (plain := int(self.elements[index])) <= high:
            return plain
        value = self.number(index, low, high)
        if value != int(value):
            raise ScpiError(-222, f"{value:g}, allowed whole numbers")
        return int(value)

    def boolean(self, index: int) -> bool:
        """ON, OFF, 1 or 0."""
        return self.word(index, ("ON", "1"), ("OFF", "0")) == "ON"

    def word(self, index: int, *allowed: tuple[str, ...]) -> str:
        """Character data: the first spelling of the one that was typed."""
        typed = self.elements[index].decode("latin-1").upper()
        for spellings in allowed:
            if typed in spellings:
                return spellings[0]
        raise ScpiError(-141, f"{_shown(self.elements[index])}, allowed {' '.join(s[0] for s in allowed)}")

    def text(self, index: int) -> str:
        """A quoted string."""
        element = self.elements[index]
        mark = element[:1]
        if len(element) < 2 or mark not in b"\"'" or not element.endswith(mark):
            raise ScpiError(-104, f"{_shown(element)} is no string")
        return element[1:-1].replace(mark * 2, mark).decode("latin-1")

    def record(self, index: int, kind: type[T]) -> T:
        """A record of this dataclass in a block."""
        try:
            return record_of(kind, payload_of(self.elements[index]))
        except (SyntaxProblem, RecordProblem) as error:
            raise ScpiError(-161, str(error)) from None


def _shown(element: bytes) -> str:
    return element[:24].decode("ascii", "replace").replace('"', "'").replace("\ufffd", "?")
