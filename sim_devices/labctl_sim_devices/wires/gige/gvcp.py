"""GVCP, the control protocol of GigE Vision: its messages as bytes, and the device's fixed registers.

Numbers are the standard's (AIA GigE Vision 1.2), as its open implementations print them: Wireshark's
packet-gvcp.c, Aravis' arvgvcpprivate.h. Everything is big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

PORT = 3956
KEY = 0x42
ACK_REQUIRED = 0x01
HEADER = struct.Struct(">BBHHH")  # command: key, flags, command, length, id; answer: status in the first two
ACK_HEADER = struct.Struct(">HHHH")
MAX_READ = 536  # bytes of one READMEM, so that an answer stays below 576


class Command(IntEnum):
    """What a host asks for; the answer's code is one more."""

    DISCOVERY = 0x0002
    FORCE_IP = 0x0004
    RESEND = 0x0040
    READ_REGISTER = 0x0080
    WRITE_REGISTER = 0x0082
    READ_MEMORY = 0x0084
    WRITE_MEMORY = 0x0086
    PENDING = 0x0088  # only its answer, PENDING_ACK, is ever sent


class Status(IntEnum):
    """How a command ended."""

    SUCCESS = 0x0000
    RESENT = 0x0100
    NOT_IMPLEMENTED = 0x8001
    INVALID_PARAMETER = 0x8002
    INVALID_ADDRESS = 0x8003
    WRITE_PROTECTED = 0x8004
    BAD_ALIGNMENT = 0x8005
    ACCESS_DENIED = 0x8006
    BUSY = 0x8007
    PACKET_UNAVAILABLE = 0x800C
    ERROR = 0x8FFF


class Refusal(Exception):
    """A command that the device answers with an error status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


class Bootstrap(IntEnum):
    """Addresses of the registers that every GigE Vision device has."""

    VERSION = 0x0000
    DEVICE_MODE = 0x0004
    MAC_HIGH = 0x0008
    MAC_LOW = 0x000C
    SUPPORTED_IP = 0x0010
    CURRENT_IP = 0x0014
    IP_ADDRESS = 0x0024
    SUBNET_MASK = 0x0034
    MANUFACTURER = 0x0048
    MODEL = 0x0068
    DEVICE_VERSION = 0x0088
    MANUFACTURER_INFO = 0x00A8
    SERIAL = 0x00D8
    USER_NAME = 0x00E8
    DISCOVERY_END = 0x00F8
    FIRST_URL = 0x0200
    SECOND_URL = 0x0400
    NETWORK_INTERFACES = 0x0600
    MESSAGE_CHANNELS = 0x0900
    STREAM_CHANNELS = 0x0904
    GVCP_CAPABILITY = 0x0934
    HEARTBEAT_MS = 0x0938
    TICKS_HIGH = 0x093C
    TICKS_LOW = 0x0940
    TIMESTAMP_CONTROL = 0x0944
    TIMESTAMP_HIGH = 0x0948
    TIMESTAMP_LOW = 0x094C
    PRIVILEGE = 0x0A00
    STREAM_PORT = 0x0D00
    STREAM_PACKET_SIZE = 0x0D04
    STREAM_PACKET_DELAY = 0x0D08
    STREAM_ADDRESS = 0x0D18
    STREAM_SOURCE_PORT = 0x0D1C
    END = 0x0E00


STRINGS = {  # bytes of each
    Bootstrap.MANUFACTURER: 32,
    Bootstrap.MODEL: 32,
    Bootstrap.DEVICE_VERSION: 32,
    Bootstrap.MANUFACTURER_INFO: 48,
    Bootstrap.SERIAL: 16,
    Bootstrap.USER_NAME: 16,
}
EXCLUSIVE, CONTROL = 0x1, 0x2  # privilege
# bits of the capability register: concatenated registers, WRITEMEM, resend, PENDING_ACK, serial, user name
CAPABILITY = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 5 | 1 << 30 | 1 << 31
FIRE_TEST_PACKET = 1 << 31
LATCH_TIMESTAMP = 0x2


@dataclass(frozen=True)
class Request:
    """One command of a host."""

    command: int
    flags: int
    number: int
    body: bytes

    @property
    def wants_answer(self) -> bool:
        """Whether the host asked for an acknowledgement."""
        return bool(self.flags & ACK_REQUIRED)


def parse(datagram: bytes) -> Request | None:
    """A command, or None for bytes that are none: they are left unanswered, as the standard wants it."""
    if len(datagram) < HEADER.size:
        return None
    key, flags, command, length, number = HEADER.unpack_from(datagram)
    body = datagram[HEADER.size :]
    if key != KEY or len(body) != length or number == 0:
        return None
    return Request(command, flags, number, body)


def answer(request: Request, body: bytes = b"", status: Status = Status.SUCCESS) -> bytes:
    """The acknowledgement of a command."""
    return ACK_HEADER.pack(status, request.command + 1, len(body), request.number) + body


def pending(request: Request, wait_ms: int) -> bytes:
    """Ask the host for more time."""
    return ACK_HEADER.pack(Status.SUCCESS, Command.PENDING + 1, 4, request.number) + struct.pack(
        ">HH", 0, wait_ms
    )


def addresses(body: bytes) -> list[int]:
    """Registers that a READREG asks for."""
    if not body or len(body) % 4:
        raise Refusal(Status.INVALID_PARAMETER)
    return [word for (word,) in struct.iter_unpack(">I", body)]


def writes(body: bytes) -> list[tuple[int, bytes]]:
    """Registers and values of a WRITEREG."""
    if not body or len(body) % 8:
        raise Refusal(Status.INVALID_PARAMETER)
    return [(address, value) for address, value in struct.iter_unpack(">I4s", body)]


def block(body: bytes) -> tuple[int, int]:
    """Address and count of a READMEM."""
    if len(body) != 8:
        raise Refusal(Status.INVALID_PARAMETER)
    address, _, count = struct.unpack(">IHH", body)
    if address % 4 or count % 4:
        raise Refusal(Status.BAD_ALIGNMENT)
    if not 0 < count <= MAX_READ:
        raise Refusal(Status.INVALID_PARAMETER)
    return address, count


def written(body: bytes) -> tuple[int, bytes]:
    """Address and data of a WRITEMEM."""
    if len(body) < 8:
        raise Refusal(Status.INVALID_PARAMETER)
    (address,) = struct.unpack_from(">I", body)
    if address % 4 or len(body) % 4:
        raise Refusal(Status.BAD_ALIGNMENT)
    return address, body[4:]


@dataclass(frozen=True)
class Resend:
    """Packets of a block that a host lacks: ids from `first` to `last`, both included."""

    block_id: int
    first: int
    last: int


def resend(body: bytes) -> Resend:
    """What a PACKETRESEND asks for."""
    if len(body) < 12:
        raise Refusal(Status.INVALID_PARAMETER)
    channel, block_id, first, last = struct.unpack_from(">HHII", body)
    if channel:
        raise Refusal(Status.INVALID_PARAMETER)
    return Resend(block_id, first & 0xFFFFFF, last & 0xFFFFFF)
