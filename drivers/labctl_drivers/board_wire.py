"""Questions and answers of the oscillator board's protocol over a serial line."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from typing import TypeVar

from labctl.devices.oscillator_wire.frames import FormatError, Frame, FrameReader
from labctl.devices.oscillator_wire.messages import (
    ANSWER,
    Begin,
    Busy,
    Data,
    Error,
    Hello,
    Message,
    Offset,
    Read,
    Region,
    Write,
    Written,
    decode,
)
from labctl_drivers.link import Deadline, WireGarbled, WireTimeout
from labctl_drivers.serial_line import SerialLine

A = TypeVar("A", bound=Message)
RESENDS = 2  # of a question within its time
FIRST_PAYLOAD = 64  # bytes of one frame, until the board has said how many it takes
SHORT_ANSWER = 512  # bytes: no answer but a block's part is longer
_WRITE_HEAD = 5  # of a Write's payload: region and offset


class Refused(Exception):
    """The board's own words: an Error."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.text)
        self.error = error


@dataclass
class Session:
    """What board and host agreed on; it outlives a cable that is pulled. `number`: of the last request."""

    id: int
    version: int = 0
    max_payload: int = FIRST_PAYLOAD
    number: int = 0

    def next_number(self) -> int:
        """A request's sequence number; 0 is for those that are never remembered."""
        self.number = self.number % 0xFFFF_FFFF + 1
        return self.number


class BoardWire:
    """A line on which a session runs. `quiet_s`: how long a question may go without any answer."""

    def __init__(self, line: SerialLine, quiet_s: float, session: Session) -> None:
        self._line, self._quiet_s, self.session = line, quiet_s, session
        self._reader = FrameReader()

    def close(self) -> None:
        """Let go of the port."""
        self._line.close()

    def ask(self, request: Message, answer: type[A], deadline: Deadline, number: int | None = None) -> A:
        """The answer to a request, sent again where none comes: the board does nothing twice for it.

        number: that of an earlier attempt, where it is the same question. Raises Refused; WireTimeout, or
        WireGarbled where nothing but damaged frames came.
        """
        session = self.session
        number = session.next_number() if number is None else number
        version = 0 if isinstance(request, Hello) else session.version
        frame = Frame(version, request.KIND, session.id, number, request.encode()).encode()
        # a question may be lost, but not as long as it or its answer may still be on the line
        answer_bytes = request.length if isinstance(request, Read) else SHORT_ANSWER
        wait_s = self._line.time_s(len(frame) + answer_bytes) + self._quiet_s / (1 + RESENDS)
        rejected, strays, sent = self._reader.rejected, 0, 0
        heard_s, send_at_s = time.monotonic(), 0.0
        while True:
            now_s = time.monotonic()
            if now_s - heard_s > (1 + RESENDS) * wait_s or deadline.passed:
                garbled = self._reader.rejected - rejected
                if garbled:
                    raise WireGarbled(f"{garbled} damaged frames came, and no whole one")
                others = f"; {strays} answers to other questions came" if strays else ""
                asked = type(request).__name__
                raise WireTimeout(f"no answer to {asked} within {now_s - heard_s:.2g} s{others}")
            if now_s >= send_at_s and sent <= RESENDS:
                self._line.write(frame)
                sent, send_at_s = sent + 1, now_s + wait_s
            for got in self._reader.feed(self._line.read()):
                if (got.session, got.sequence) != (session.id, number):
                    strays += 1
                elif got.kind == Busy.KIND:
                    heard_s = time.monotonic()
                    sent, send_at_s = 1, heard_s + wait_s
                elif got.kind == Error.KIND:
                    raise Refused(_decoded(Error, got.payload))
                elif got.kind == request.KIND | ANSWER:
                    return _decoded(answer, got.payload)
                else:
                    strays += 1

    def tell(self, request: Message) -> None:
        """A request whose answer is not waited for."""
        session = self.session
        payload = request.encode()
        self._line.write(
            Frame(session.version, request.KIND, session.id, session.next_number(), payload).encode()
        )

    def drain(self) -> None:
        """Drop what has come and nobody waits for."""
        while self._reader.feed(self._line.read()):
            pass

    def upload(self, region: Region, block: bytes, deadline: Deadline) -> None:
        """Write a block; what the board holds of it from an earlier attempt is not sent again."""
        begun = self.ask(Begin(region, len(block), zlib.crc32(block)), Offset, deadline)
        at, room = _checked(begun.offset, len(block)), self.session.max_payload - _WRITE_HEAD
        while at < len(block):
            written = self.ask(Write(region, at, block[at : at + room]), Written, deadline)
            reached = _checked(written.offset, len(block))
            if reached <= at:
                raise WireGarbled(f"the board stays at byte {reached} of {len(block)}")
            at = reached

    def download(self, region: Region, total: int, crc: int, deadline: Deadline) -> bytes:
        """Read a block; WireGarbled where it is not the one announced."""
        block = bytearray()
        while len(block) < total:
            length = min(self.session.max_payload, total - len(block))
            data = self.ask(Read(region, len(block), length), Data, deadline).data
            if len(data) != length:
                raise WireGarbled(f"{len(data)} bytes came of {length} asked for")
            block += data
        if zlib.crc32(block) != crc:
            raise WireGarbled(f"a block of {total} bytes has CRC-32 {zlib.crc32(block):08x}, not {crc:08x}")
        return bytes(block)


def _checked(at: int, total: int) -> int:
    if at > total:
        raise WireGarbled(f"the board holds {at} bytes of {total}")
    return at


def _decoded(kind: type[A], payload: bytes) -> A:
    try:
        return decode(kind, payload)
    except FormatError as error:
        raise WireGarbled(f"an answer makes no sense: {error}") from error
