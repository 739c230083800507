"""What a DLPC900 makes of an image that was loaded: 24 planes of mirrors.

Written from TI's guide DLPU018J (image header; RLE and enhanced RLE), apart from the encoder of the driver.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HEADER = struct.Struct("<4sHHI8x4sBBB21x")
PLANES = 24


class BadImage(Exception):
    """An image that a controller cannot make anything of."""


def planes_of(
    image: bytes, shape_px: tuple[int, int], wanted: Sequence[int] = range(PLANES)
) -> NDArray[np.uint16]:
    """Planes [wanted, height, width] of 0 and 1; plane k is bit k of a pixel read as a big-endian number."""
    if len(image) < HEADER.size:
        raise BadImage(f"{len(image)} bytes are no image")
    signature, width, height, length, _, _, compression, _ = HEADER.unpack_from(image)
    if signature != b"Spld" or (height, width) != shape_px:
        raise BadImage(f"an image of {height} x {width} with signature {signature!r}")
    data = image[HEADER.size :]
    if length != len(data):
        raise BadImage(f"{len(data)} bytes came, the header says {length}")
    if compression != 2:
        raise BadImage(f"compression type {compression}")
    pixels = _expanded(data, height, width)
    return np.stack([(pixels >> np.uint32(plane) & 1).astype(np.uint16) for plane in wanted])


def _expanded(data: bytes, height: int, width: int) -> NDArray[np.uint32]:
    rows = np.zeros((height, width), np.uint32)
    y, x, at = 0, 0, 0

    def length() -> int:
        """One byte, or two where the first has its highest bit set."""
        nonlocal at
        low = data[at]
        at += 1
        if low < 128:
            return low
        at += 1
        return low & 0x7F | data[at - 1] << 7

    try:
        while True:
            n = length()
            if n:  # repeat the pixel that follows
                value = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
                at += 3
                _require(n, x, width, y, height)
                rows[y, x : x + n] = value
                x += n
                continue
            word = length()
            if word == 0:  # the line ends
                y, x = y + 1, 0
            elif word == 1:
                n = length()
                if n == 0:  # the image ends
                    break
                _require(n, x, width, y, height)
                if y == 0:
                    raise BadImage("the first line copies from the one before")
                rows[y, x : x + n] = rows[y - 1, x : x + n]
                x += n
            else:  # pixels as they are
                _require(word, x, width, y, height)
                raw = np.frombuffer(data, np.uint8, 3 * word, at).reshape(word, 3).astype(np.uint32)
                rows[y, x : x + word] = raw[:, 0] << 16 | raw[:, 1] << 8 | raw[:, 2]
                at += 3 * word
                x += word
    except (IndexError, ValueError):
        raise BadImage(f"the image breaks off after {len(data)} bytes") from None
    if y < height - 1:
        raise BadImage(f"the image ends at line {y}")
    return rows


def _require(n: int, x: int, width: int, y: int, height: int) -> None:
    if y >= height or x + n > width:
        raise BadImage(f"{n} pixels from ({y}, {x}) on do not fit")
