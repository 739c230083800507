"""GVSP, the stream protocol of GigE Vision: a block (an image) as a leader, payload packets and a trailer.

Layouts and numbers are the standard's, as Wireshark's packet-gvsp.c and Aravis' arvgvspprivate.h print them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl_sim_devices.wires.gige.gvcp import Status

LEADER, TRAILER, PAYLOAD = 1, 2, 3
IMAGE, IMAGE_WITH_CHUNKS = 0x0001, 0x4001
HEADER = struct.Struct(">HHI")  # status, block, format and packet
OVERHEAD = 36  # of SCPS: IP, UDP and GVSP headers count as part of a packet
IMAGE_CHUNK = 0x0001
# PixelFormat: code of the pixel format naming convention (PFNC), bits
PIXEL_FORMATS = {
    "Mono8": (0x01080001, 8),
    "Mono10": (0x01100003, 10),
    "Mono12": (0x01100005, 12),
    "Mono14": (0x01100025, 14),
    "Mono16": (0x01100007, 16),
}


def pixels(counts: NDArray[np.uint16], bits: int, pixel_format: str) -> bytes:
    """A frame of `bits` bits as the bytes of a pixel format, little-endian (PFNC).

    Into fewer bits its lowest are left out; into Mono16 it is shifted to the top, as cameras do.
    """
    wanted = PIXEL_FORMATS[pixel_format][1]
    shifted = counts >> (bits - wanted) if wanted < bits else counts << (wanted - bits)
    return shifted.astype("u1" if wanted == 8 else "<u2").tobytes()


@dataclass(frozen=True)
class Block:
    """One image on its way: what its leader says, and its payload (image, then chunks if there are any)."""

    number: int
    timestamp_ns: int
    pixel_format: str
    width_px: int
    height_px: int
    offset_x_px: int
    offset_y_px: int
    payload: bytes
    chunks: bool
    step: int  # payload bytes of a packet

    @property
    def packets(self) -> int:
        """Payload packets: ids 1 to this; the leader is 0, the trailer one more."""
        return -(-len(self.payload) // self.step)

    def packet(self, place: int, status: Status = Status.SUCCESS) -> tuple[bytes, memoryview | bytes]:
        """Header and content of the packet with this id."""
        kind = LEADER if place == 0 else TRAILER if place > self.packets else PAYLOAD
        header = HEADER.pack(status, self.number, kind << 24 | place)
        if kind == PAYLOAD:
            return header, memoryview(self.payload)[(place - 1) * self.step : place * self.step]
        return header, self._leader() if kind == LEADER else self._trailer()

    def _leader(self) -> bytes:
        code = PIXEL_FORMATS[self.pixel_format][0]
        where = (self.width_px, self.height_px, self.offset_x_px, self.offset_y_px)
        return struct.pack(">HHQIIIIIHH", 0, self._kind, self.timestamp_ns, code, *where, 0, 0)

    def _trailer(self) -> bytes:
        if not self.chunks:
            return struct.pack(">HHI", 0, self._kind, self.height_px)
        return struct.pack(">HHIII", 0, self._kind, len(self.payload), self.height_px, 0)

    @property
    def _kind(self) -> int:
        return IMAGE_WITH_CHUNKS if self.chunks else IMAGE


def unavailable(number: int, place: int) -> bytes:
    """The answer to a resend request for a packet that is not kept any more."""
    return HEADER.pack(Status.PACKET_UNAVAILABLE, number, PAYLOAD << 24 | place)


def with_chunks(image: bytes, chunks: Sequence[tuple[int, bytes]]) -> bytes:
    """Image and chunks in a row, each followed by its id and length, so that a reader starts at the end."""
    parts = [image + struct.pack(">II", IMAGE_CHUNK, len(image))]
    parts += [data + struct.pack(">II", chunk, len(data)) for chunk, data in chunks]
    return b"".join(parts)
