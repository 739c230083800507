"""The DLPC900's commands as far as patterns on the fly need them.

Source: TI, DLPC900 Programmer's Guide, DLPU018J (June 2024), by its USB command numbers. Byte order is
little-endian throughout.
"""

from __future__ import annotations

from typing import Final

VENDOR_ID: Final = 0x0451  # as in the open implementation Pycrafter6500
PRODUCT_ID: Final = 0xC900

REPORT_BYTES: Final = 64  # of a transfer, report ID apart (1.2)
BUFFER_BYTES: Final = 512  # of the controller's, header included (1.2)
LOAD_BYTES: Final = 504  # of an image in one LOAD_IMAGE: the buffer less header, command and length

WRITE: Final = 0x00  # flag byte (1.2.2, 1.2.3)
READ: Final = 0x80
REPLY: Final = 0x40  # an answer is wanted
FAILED: Final = 0x20  # in an answer: not a command, or it failed

ERROR_CODE: Final = 0x0100  # read: 1 byte
VERSION: Final = 0x0205  # read: 4 x 4 bytes, of each patch (16 bits), minor, major
FIRMWARE_TYPE: Final = 0x0206  # read: 1 byte, 31 characters
MAIN_STATUS: Final = 0x1A0C  # read: 1 byte
RUN: Final = 0x1A24  # STOP, PAUSE or START
DISPLAY_MODE: Final = 0x1A1B  # ON_THE_FLY
INIT_LOAD: Final = 0x1A2A  # image (2), its bytes with header (4)
LOAD_IMAGE: Final = 0x1A2B  # bytes (2), up to LOAD_BYTES of them
CONFIGURE: Final = 0x1A31  # entries (2), patterns to display, 0 for ever (4)
DEFINE: Final = 0x1A34  # see `definition`

STOP, START = 0, 2
ON_THE_FLY = 3
RUNNING = 0x02  # bit of MAIN_STATUS: the sequencer runs
OLDEST_FIRMWARE: Final = "1"  # what says 0 is no release
MIRRORS: Final = {1: ("DLP6500", (1080, 1920))}  # by FIRMWARE_TYPE: with one controller
TWO_CONTROLLERS: Final = {2: "DLP9000", 3: "DLP670S", 4: "DLP500YX"}
PLANES: Final = 24  # bits of an image
MAX_EXPOSURE_US: Final = 2**24 - 1

ERRORS: Final = {
    1: "batch file checksum error",
    2: "device failure",
    3: "invalid command number",
    4: "incompatible controller and DMD",
    5: "command not allowed in current mode",
    6: "invalid command parameter",
    7: "item referred to is not present",
    8: "out of resource (RAM or flash)",
    9: "invalid compression type",
    10: "pattern bit number out of range",
    11: "pattern image not present in flash",
    12: "pattern dark time out of range",
    13: "signal delay out of range",
    14: "pattern exposure time out of range",
    15: "pattern number out of range",
    16: "invalid pattern definition",
    17: "pattern image memory address out of range",
    255: "internal error",
}


def definition(index: int, exposure_us: int, plane: int) -> bytes:
    """DEFINE: entry `index` shows a plane of image 0, 1 bit, white, without trigger or dark time."""
    white_one_bit = 0b111 << 4
    return b"".join(
        (
            index.to_bytes(2, "little"),
            exposure_us.to_bytes(3, "little"),
            bytes([white_one_bit]),
            bytes(3),  # dark time
            bytes(1),  # second trigger output enabled
            (plane << 11).to_bytes(2, "little"),
        )
    )
