"""Instruments that take a line of text and give one back, over a serial port or TCP.

What goes over the wire is a table in the driver, row by row as in the manual; reading, waiting and telling
answers from errors are here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labctl_drivers.link import Deadline, WireBusy, WireGarbled, WireLog, WireLost, WireTimeout
from labctl_drivers.serial_line import SerialLine, pyserial

MAX_LINE_BYTES = 4096


class Refused(Exception):
    """The instrument's own error, in its words."""


@dataclass(frozen=True)
class Row:
    """One command of a manual: what is sent ("{}" or "{:.3f}" for each value), and what a right answer looks
    like: a regular expression of the whole line, whose groups are the values. "": nothing comes back.
    """

    ask: str
    answer: str = ""


@dataclass(frozen=True)
class Grammar:
    """What all lines of an instrument have in common: how each ends, what it says when it is busy (a whole
    line; "" for never), and its errors (a regular expression; its groups are told to the user).
    """

    ends_out: bytes = b"\n"
    ends_in: bytes = b"\n"
    busy: str = ""
    error: str = r"ERR.*"


class TextLines:
    """An open line. address: a device file, a Windows port, or `socket://HOST:PORT`.

    Raises WireLost where it cannot be opened.
    """

    def __init__(self, address: str, baud: int, grammar: Grammar, log: WireLog) -> None:
        library = pyserial()
        if library is None:
            raise WireLost("needs pyserial; pip install 'analog-labctl[serial]'")
        self._grammar, self._rest = grammar, b""
        self._line = SerialLine(library, address, baud, log, MAX_LINE_BYTES)

    def ask(self, row: Row, deadline: Deadline, *values: object) -> tuple[str, ...]:
        """The values in the answer to a row. Raises Refused with the instrument's error; WireBusy;
        WireTimeout; WireGarbled for a line that is no answer to this row or that nobody asked for.
        """
        if self._rest:
            raise WireGarbled(f"{self._rest[:60]!r} came that nobody asked for")
        self.tell(row, *values)
        if not row.answer:
            return ()
        line = self._answer(deadline)
        if line == self._grammar.busy and line:
            raise WireBusy("it says that it is busy")
        if found := re.fullmatch(row.answer, line):
            return found.groups()
        if error := re.fullmatch(self._grammar.error, line):
            raise Refused(" ".join(word for word in error.groups() if word) or "an error without a text")
        raise WireGarbled(f"{line!r} is no answer to {row.ask!r}")

    def tell(self, row: Row, *values: object) -> None:
        """Send a row and wait for nothing."""
        self._line.write(row.ask.format(*values).encode("ascii") + self._grammar.ends_out)

    def close(self) -> None:
        """Let go of the port."""
        self._line.close()

    def _answer(self, deadline: Deadline) -> str:
        end = self._grammar.ends_in
        while end not in self._rest:
            if deadline.passed:
                raise WireTimeout(f"no whole answer within {deadline.total_s:g} s")
            if len(self._rest) > MAX_LINE_BYTES:
                raise WireGarbled(f"{len(self._rest)} bytes came without an end of line")
            self._rest += self._line.read()
        line, _, self._rest = self._rest.partition(end)
        try:
            return line.decode("ascii")
        except UnicodeDecodeError:
            raise WireGarbled(f"{line[:60]!r} is no text") from None
