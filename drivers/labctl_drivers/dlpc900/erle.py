"""Images of 24 planes of mirrors in the DLPC900's enhanced run-length encoding.

Source: TI DLPU018J, "Pattern image header" and "Enhanced RLE compression". Two things the guide leaves open
are as the open implementations Pycrafter6500 (csi-dcsc) and mcSIM (QI2lab) have them, which agree: a length
of 128 or more has its low 7 bits first, and plane k is bit k mod 8 of the pixel's last byte for k < 8, of the
middle one for k < 16, of the first for the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 48
SIGNATURE = b"Spld"
ENHANCED_RLE = 2
ALL_PLANES = (1 << 24) - 1
END_OF_LINE, END_OF_IMAGE = b"\x00\x00", b"\x00\x01\x00"


def encode(planes: NDArray[np.uint16]) -> bytes:
    """Header and image of planes [P <= 24, height, width] of 0 and 1, padded to whole 4 bytes."""
    pixels = np.zeros(planes.shape[1:], np.uint32)
    for place, plane in enumerate(planes):
        pixels |= plane.astype(np.uint32) << np.uint32(place)
    return _imaged(pixels)


def encode_still(plane: NDArray[np.uint16]) -> bytes:
    """The same of 24 planes that are all this one [height, width]: nothing depends on their order."""
    return _imaged(plane.astype(np.uint32) * np.uint32(ALL_PLANES))


def _imaged(pixels: NDArray[np.uint32]) -> bytes:
    data = _compressed(pixels)
    height, width = pixels.shape
    return _header(width, height, len(data)) + data


def _header(width: int, height: int, data_bytes: int) -> bytes:
    return b"".join(
        (
            SIGNATURE,
            width.to_bytes(2, "little"),
            height.to_bytes(2, "little"),
            data_bytes.to_bytes(4, "little"),
            b"\xff" * 8,
            bytes(4),  # background: black
            bytes([0, ENHANCED_RLE, 1]),
            bytes(21),
        )
    )


def _compressed(pixels: NDArray[np.uint32]) -> bytes:
    """Whatever is longer from each pixel on: equal to the row above, or equal pixels."""
    height, width = pixels.shape
    above = np.zeros(pixels.shape, np.bool_)
    above[1:] = pixels[1:] == pixels[:-1]
    whole_row = b"\x00\x01" + length_bytes(width) + END_OF_LINE
    alike: list[bool] = np.all(above, axis=1).tolist()
    differs = np.ones((height, width), np.bool_)
    differs[:, :-1] = pixels[:, 1:] != pixels[:, :-1]
    colours = pixels.astype(">u4").tobytes()
    out: list[bytes] = []
    for y in range(height):
        if alike[y]:
            out.append(whole_row)
            continue
        copy_to, repeat_to = _ends(~above[y]).tolist(), _ends(differs[y]).tolist()
        x = 0
        while x < width:
            until = repeat_to[x] + 1  # the last of the equal ones is at repeat_to
            if copy_to[x] > x and copy_to[x] >= until:
                out.append(b"\x00\x01" + length_bytes(copy_to[x] - x))
                x = copy_to[x]
            else:
                at = 4 * (y * width + x)
                out.append(length_bytes(until - x) + colours[at + 1 : at + 4])
                x = until
        out.append(END_OF_LINE)
    out.append(END_OF_IMAGE)
    data = b"".join(out)
    return data + bytes(-len(data) % 4)


def _ends(stops: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each pixel of a row the first one from it on that stops; the width where none does."""
    places = np.where(stops, np.arange(len(stops)), len(stops))
    return np.minimum.accumulate(places[::-1])[::-1]


def length_bytes(n: int) -> bytes:
    """1 to 32,767 as one byte, or two."""
    return bytes([n]) if n < 128 else bytes([n & 0x7F | 0x80, n >> 7])
