"""What a display says of itself: the first 128 bytes of its EDID.

Source: VESA Enhanced EDID Standard, Release A Revision 2 (2006), chapter 3 (base block).
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.devices import DataError

BLOCK_BYTES = 128
HEADER = bytes.fromhex("00ffffffffffff00")
DESCRIPTORS = (54, 72, 90, 108)  # of 18 bytes each
NAME, SERIAL_TEXT = 0xFC, 0xFF  # tags of descriptors that are texts


@dataclass(frozen=True)
class Edid:
    """Who a display is. manufacturer: three letters; product: its maker's number; serial: its text, else its
    number, else ""; preferred_px: (height, width) of its first detailed timing, None without one.
    """

    manufacturer: str
    product: int
    name: str
    serial: str
    year: int
    preferred_px: tuple[int, int] | None

    @property
    def model(self) -> str:
        """Its name, and its maker's number, which every display has."""
        return f"{self.name} ({self.product:04x})".strip()

    @property
    def words(self) -> str:
        """In one line."""
        return f"{self.manufacturer} {self.model}, serial {self.serial or 'unknown'}, of {self.year}"


def parse(data: bytes, where: str) -> Edid:
    """The base block of an EDID; extension blocks may follow. DataError naming `where` for anything else."""
    if len(data) < BLOCK_BYTES:
        raise DataError(f"{where}: EDID of {len(data)} bytes; allowed: {BLOCK_BYTES} or more")
    block = data[:BLOCK_BYTES]
    if not block.startswith(HEADER):
        raise DataError(f"{where}: EDID begins with {block[:8].hex()}; allowed: {HEADER.hex()}")
    if remainder := sum(block) % 256:
        raise DataError(f"{where}: the bytes of its EDID add up to {remainder} modulo 256; allowed: 0")
    letters = int.from_bytes(block[8:10], "big")
    codes = [letters >> shift & 0x1F for shift in (10, 5, 0)]
    if not all(1 <= code <= 26 for code in codes):
        raise DataError(f"{where}: EDID has the manufacturer {block[8:10].hex()}; allowed: three letters")
    number = int.from_bytes(block[12:16], "little")
    text = _text(block, SERIAL_TEXT)
    return Edid(
        manufacturer="".join(chr(ord("A") + code - 1) for code in codes),
        product=int.from_bytes(block[10:12], "little"),
        name=_text(block, NAME),
        serial=text or (str(number) if number else ""),
        year=1990 + block[17],
        preferred_px=_preferred_px(block[DESCRIPTORS[0] : DESCRIPTORS[1]]),
    )


def _text(block: bytes, tag: int) -> str:
    """Of the descriptor with this tag, up to its line feed; "" without one."""
    for at in DESCRIPTORS:
        if block[at : at + 5] == bytes((0, 0, 0, tag, 0)):
            return block[at + 5 : at + 18].split(b"\n")[0].decode("cp437").strip()
    return ""


def _preferred_px(timing: bytes) -> tuple[int, int] | None:
    if not any(timing[:2]):  # a pixel clock of 0: another kind of descriptor
        return None
    return timing[5] | (timing[7] & 0xF0) << 4, timing[2] | (timing[4] & 0xF0) << 4
