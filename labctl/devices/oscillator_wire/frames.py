"""Frames on a byte stream: COBS between zero bytes, a header of eight bytes, a payload, CRC-32.

    0x00 | COBS( version u8, kind u8, session u16, sequence u32, payload, CRC-32 u32 ) | 0x00

Little-endian. The CRC is zlib's, over header and payload. COBS as S. Cheshire and M. Baker describe it
("Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on Networking 7(2), 1999): no zero byte is left
inside, so that a zero always ends a frame, whatever was lost before.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from labctl.devices.errors import LabctlError

HEADER = struct.Struct("<BBHI")
CRC = struct.Struct("<I")
MAX_PAYLOAD = 8192  # no message of any version is longer
_LONGEST_RUN = 254
MAX_ENCODED = (HEADER.size + MAX_PAYLOAD + CRC.size) * 255 // _LONGEST_RUN + 2


class FormatError(LabctlError):
    """Bytes that are no frame, message or block of this protocol."""


@dataclass(frozen=True)
class Frame:
    """One message on the line. `sequence` numbers a session's requests; an answer bears its request's."""

    version: int
    kind: int
    session: int
    sequence: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """On the line, with a zero on either side."""
        if len(self.payload) > MAX_PAYLOAD:
            raise FormatError(f"frame: payload has {len(self.payload)} bytes; allowed: 0 to {MAX_PAYLOAD}")
        try:
            head = HEADER.pack(self.version, self.kind, self.session, self.sequence)
        except struct.error as error:
            raise FormatError(
                f"frame: {self.version, self.kind, self.session, self.sequence}: {error}"
            ) from None
        body = head + self.payload
        return b"\0" + cobs_encode(body + CRC.pack(zlib.crc32(body))) + b"\0"

    @classmethod
    def decode(cls, encoded: bytes) -> Frame:
        """What stood between two zeros; FormatError where it is no whole, unharmed frame."""
        if len(encoded) > MAX_ENCODED:
            raise FormatError(f"frame: {len(encoded)} bytes; allowed: up to {MAX_ENCODED}")
        body = cobs_decode(encoded)
        if len(body) < HEADER.size + CRC.size:
            raise FormatError(f"frame: {len(body)} bytes; allowed: {HEADER.size + CRC.size} or more")
        kept, (crc,) = body[: -CRC.size], CRC.unpack(body[-CRC.size :])
        if zlib.crc32(kept) != crc:
            raise FormatError(f"frame: CRC-32 is {zlib.crc32(kept):08x}; the frame says {crc:08x}")
        version, kind, session, sequence = HEADER.unpack(kept[: HEADER.size])
        return cls(version, kind, session, sequence, kept[HEADER.size :])


class FrameReader:
    """Cuts a byte stream into frames; what is none is counted and dropped."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._skipping = False  # too long already: nothing is kept until the next zero
        self.accepted = 0
        self.rejected = 0

    def feed(self, received: bytes) -> list[Frame]:
        """The frames that these bytes complete."""
        frames = []
        *ended, rest = received.split(b"\0")
        for part in ended:
            self._hold(part)
            encoded, skipped = bytes(self._held), self._skipping
            self._held.clear()
            self._skipping = False
            if skipped:
                self.rejected += 1
            elif encoded:  # nothing between two zeros is no frame and no mistake
                try:
                    frames.append(Frame.decode(encoded))
                    self.accepted += 1
                except FormatError:
                    self.rejected += 1
        self._hold(rest)
        return frames

    def _hold(self, part: bytes) -> None:
        if self._skipping or len(self._held) + len(part) > MAX_ENCODED:
            self._held.clear()
            self._skipping = True
        else:
            self._held += part


def cobs_encode(data: bytes) -> bytes:
    """`data` without a zero byte: one byte longer, and another for every 254."""
    out = bytearray()
    runs = data.split(b"\0")
    for number, run in enumerate(runs):
        whole = len(run) // _LONGEST_RUN
        for at in range(0, whole * _LONGEST_RUN, _LONGEST_RUN):
            out.append(_LONGEST_RUN + 1)
            out += run[at : at + _LONGEST_RUN]
        rest = run[whole * _LONGEST_RUN :]
        if rest or not whole or number + 1 < len(runs):  # a full last run says itself that no zero follows
            out.append(len(rest) + 1)
            out += rest
    return bytes(out)


def cobs_decode(encoded: bytes) -> bytes:
    """The bytes before encoding; FormatError where a run is cut off or a zero stands inside."""
    out, at, end = bytearray(), 0, len(encoded)
    if 0 in encoded:
        raise FormatError("COBS: a zero byte inside; allowed: none")
    while at < end:
        code = encoded[at]
        if at + code > end:
            raise FormatError(
                f"COBS: a run of {code - 1} bytes with {end - at - 1} left; allowed: whole runs"
            )
        out += encoded[at + 1 : at + code]
        at += code
        if code <= _LONGEST_RUN and at < end:
            out.append(0)
    return bytes(out)
