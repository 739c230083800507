"""The messages of the oscillator board's protocol: one class each, its fields and their layout beside them.

A request's answer bears the request's number plus 0x80. docs/reference/oscillator-board-protocol.md says in
words what each does.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, ClassVar, Literal, TypeVar

from labctl.devices.oscillator_wire.frames import MAX_PAYLOAD, FormatError

VERSIONS = (1, 1)  # oldest and newest of this protocol that this module speaks
ANSWER = 0x80


class Region(IntEnum):
    """Blocks that cross the line in chunks."""

    SPEC = 0
    IMAGE = 1
    QUEUE = 2
    RESULT = 3


class ErrorCode(IntEnum):
    """What kind of refusal an Error is."""

    PROTOCOL = 1  # a message that is unknown or malformed
    VERSION = 2  # no common version
    SESSION = 3  # the board does not know this session: it was switched on since, or another host opened it
    VALUE = 4
    STATE = 5
    UNAVAILABLE = 6
    TIMEOUT = 7
    FAULT = 8
    UNSUPPORTED = 9
    BUSY = 10  # another request is still being worked on
    INTEGRITY = 11  # a block is incomplete, or its CRC-32 is not the one announced


@dataclass(frozen=True)
class Message:
    """Fields in the order of LAYOUT (struct, little-endian); TAIL: the last one takes what is left."""

    KIND: ClassVar[int]
    LAYOUT: ClassVar[str] = "<"
    TAIL: ClassVar[Literal["", "bytes", "text"]] = ""

    def encode(self) -> bytes:
        """The payload; FormatError naming the message where a field does not fit."""
        values: list[Any] = [getattr(self, f.name) for f in fields(self)]
        tail = b""
        if self.TAIL:
            last = values.pop()
            tail = last.encode() if isinstance(last, str) else last
        try:
            payload = struct.pack(self.LAYOUT, *values) + tail
        except struct.error as error:
            raise FormatError(f"{type(self).__name__}: {values}: {error}") from None
        if len(payload) > MAX_PAYLOAD:
            raise FormatError(f"{type(self).__name__}: {len(payload)} bytes; allowed: 0 to {MAX_PAYLOAD}")
        return payload


AnyMessage = TypeVar("AnyMessage", bound=Message)


def decode(kind: type[AnyMessage], payload: bytes) -> AnyMessage:
    """A message of this kind; FormatError where the size is another or a number not finite."""
    size, name = struct.calcsize(kind.LAYOUT), kind.__name__
    if len(payload) < size or (len(payload) > size and not kind.TAIL):
        or_more = " or more" if kind.TAIL else ""
        raise FormatError(f"{name}: {len(payload)} bytes; allowed: {size}{or_more}")
    values: list[Any] = list(struct.unpack(kind.LAYOUT, payload[:size]))
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise FormatError(f"{name}: {values}; allowed: finite numbers")
    if kind.TAIL == "bytes":
        values.append(payload[size:])
    elif kind.TAIL == "text":
        try:
            values.append(payload[size:].decode())
        except UnicodeDecodeError as error:
            raise FormatError(f"{name}: text is no UTF-8 ({error.reason})") from None
    return kind(*values)


@dataclass(frozen=True)
class Empty(Message):
    """An answer that says no more than that it was done."""


@dataclass(frozen=True)
class Hello(Message):
    """Begin a session; with the oldest and newest version that the host speaks. Framed as version 0."""

    KIND = 0x01
    LAYOUT = "<BB"
    oldest: int
    newest: int


@dataclass(frozen=True)
class Welcome(Message):
    """The version chosen, and the most payload that the board takes or sends in one frame."""

    KIND = Hello.KIND | ANSWER
    LAYOUT = "<BH"
    version: int
    max_payload: int


@dataclass(frozen=True)
class Open(Message):
    """Switch on, say who you are."""

    KIND = 0x02


@dataclass(frozen=True)
class Opened(Message):
    """Size and CRC-32 of the data sheet in region SPEC; the identity as JSON."""

    KIND = Open.KIND | ANSWER
    LAYOUT = "<II"
    TAIL = "text"
    spec_total: int
    spec_crc: int
    identity: str


@dataclass(frozen=True)
class Close(Message):
    """Safe state, nothing loaded; the session ends."""

    KIND = 0x03


@dataclass(frozen=True)
class Begin(Message):
    """A block of this size and CRC-32 is about to be written."""

    KIND = 0x04
    LAYOUT = "<BII"
    region: int
    total: int
    crc: int


@dataclass(frozen=True)
class Offset(Message):
    """How many bytes of the block the board holds: where to go on."""

    KIND = Begin.KIND | ANSWER
    LAYOUT = "<I"
    offset: int


@dataclass(frozen=True)
class Write(Message):
    """Bytes of the block begun."""

    KIND = 0x05
    LAYOUT = "<BI"
    TAIL = "bytes"
    region: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Written(Message):
    """How many bytes of the block the board holds now."""

    KIND = Write.KIND | ANSWER
    LAYOUT = "<I"
    offset: int


@dataclass(frozen=True)
class Read(Message):
    """Ask for bytes of a block."""

    KIND = 0x06
    LAYOUT = "<BIH"
    region: int
    offset: int
    length: int


@dataclass(frozen=True)
class Data(Message):
    """Bytes of a block."""

    KIND = Read.KIND | ANSWER
    TAIL = "bytes"
    data: bytes


@dataclass(frozen=True)
class Load(Message):
    """Take the block in region IMAGE as the program: so many segments, for the topology of this hash."""

    KIND = 0x07
    LAYOUT = "<HI"
    segments: int
    topology: int  # the first 32 bits of its hash


@dataclass(frozen=True)
class Held(Message):
    """What the memory then held: `BoardImage.crc`, bytes on the cable, whether it was read back."""

    KIND = Load.KIND | ANSWER
    LAYOUT = "<IIBd"
    image_crc: int
    n_bytes: int
    read_back: int
    duration_us: float


@dataclass(frozen=True)
class Recall(Message):
    """Put what the memory holds into region IMAGE, to be read."""

    KIND = 0x08


@dataclass(frozen=True)
class Recalled(Message):
    """Segments (0: nothing is loaded), size and CRC-32 of the block."""

    KIND = Recall.KIND | ANSWER
    LAYOUT = "<HII"
    segments: int
    total: int
    crc: int


@dataclass(frozen=True)
class Run(Message):
    """Run the queue in region QUEUE."""

    KIND = 0x09


@dataclass(frozen=True)
class Ran(Message):
    """Size and CRC-32 of what is in region RESULT."""

    KIND = Run.KIND | ANSWER
    LAYOUT = "<II"
    total: int
    crc: int


@dataclass(frozen=True)
class Count(Message):
    """Count frequencies as the block in region QUEUE says."""

    KIND = 0x0A


@dataclass(frozen=True)
class Counted(Message):
    """Size and CRC-32 of what is in region RESULT."""

    KIND = Count.KIND | ANSWER
    LAYOUT = "<II"
    total: int
    crc: int


@dataclass(frozen=True)
class Temperature(Message):
    """Ask for the board's temperature."""

    KIND = 0x0B


@dataclass(frozen=True)
class Warmth(Message):
    """The temperature, degrees Celsius."""

    KIND = Temperature.KIND | ANSWER
    LAYOUT = "<d"
    temperature_c: float


@dataclass(frozen=True)
class Snapshot(Message):
    """Ask for all settings."""

    KIND = 0x0C


@dataclass(frozen=True)
class Settings(Message):
    """Settings as a JSON object of scalars, units in the names."""

    KIND = Snapshot.KIND | ANSWER
    TAIL = "text"
    json: str


@dataclass(frozen=True)
class Status(Message):
    """Ask how the line fares; answered in any state, without a session too."""

    KIND = 0x0D


@dataclass(frozen=True)
class LineStatus(Message):
    """Whether a request is being worked on; frames taken and dropped since the board was switched on."""

    KIND = Status.KIND | ANSWER
    LAYOUT = "<BII"
    busy: int
    accepted: int
    rejected: int


@dataclass(frozen=True)
class Busy(Message):
    """Still at work on the request of this sequence number: so much done, of so much (0: not known)."""

    KIND = 0x7E
    LAYOUT = "<II"
    done: int
    total: int


@dataclass(frozen=True)
class Error(Message):
    """Refused or failed: an ErrorCode and the reason in words."""

    KIND = 0x7F
    LAYOUT = "<B"
    TAIL = "text"
    code: int
    text: str


# each request with its answer
REQUESTS: dict[type[Message], type[Message]] = {
    Hello: Welcome,
    Open: Opened,
    Close: Empty,
    Begin: Offset,
    Write: Written,
    Read: Data,
    Load: Held,
    Recall: Recalled,
    Run: Ran,
    Count: Counted,
    Temperature: Warmth,
    Snapshot: Settings,
    Status: LineStatus,
}
REQUEST_OF: dict[int, type[Message]] = {request.KIND: request for request in REQUESTS}
