"""SCPI messages as bytes (IEEE 488.2-1992, chapters 7 and 8): where one ends, its parts, blocks in it.

Quoted strings and definite-length blocks hide separators and line ends. An indefinite-length block ("#0")
can only be told by END, which a socket does not have: it is refused.
"""

from __future__ import annotations

import math
import re

MAX_BLOCK_BYTES = 256 * 2**20
BLANKS = b" \t\r"
NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")  # NR1, NR2 and NR3 (8.7.2 to 8.7.4)
_SPECIAL = {sep: re.compile(b"[\"'#\n%c]" % ord(sep)) for sep in (b";", b",", b"\n")}


class SyntaxProblem(ValueError):
    """Bytes that are no SCPI message."""


def block(payload: bytes) -> bytes:
    """A definite-length block: #, digits of the length, length, payload."""
    length = str(len(payload)).encode()
    if len(length) > 9:
        raise SyntaxProblem(f"a block of {len(payload)} bytes; allowed: below 1e9")
    return b"#%d%b%b" % (len(length), length, payload)


def payload_of(element: bytes) -> bytes:
    """What is in a block; SyntaxProblem where `element` is none, or longer or shorter than it says."""
    if not element.startswith(b"#"):
        raise SyntaxProblem(f"{element[:20]!r} is no block")
    end = _after_block(element, 0)
    if end is None or end != len(element):
        raise SyntaxProblem(f"a block of {len(element)} bytes that begins {element[:12]!r}")
    return element[2 + int(element[1:2]) :]


def number_of(element: bytes) -> float:
    """A decimal number; SyntaxProblem where `element` is anything else, or too large for a float."""
    value = float(element) if NUMBER.fullmatch(element.strip(BLANKS)) else math.inf
    if math.isinf(value):
        raise SyntaxProblem(f"{element[:40]!r} is no number")
    return value


def message_length(data: bytes | bytearray, begin: int = 0) -> int | None:
    """Length of the message that starts at `begin`, its line feed included; None where it is not whole."""
    at, _ = _next(data, begin, b"\n")
    return None if at is None else at + 1 - begin


def missing_bytes(data: bytes | bytearray) -> int:
    """How many bytes certainly come before the end of a message that begins so; 0 where it is whole."""
    at, special = 0, _SPECIAL[b"\n"]
    while found := special.search(data, at):
        at = found.start()
        mark = data[at : at + 1]
        if mark == b"\n":
            return 0
        if mark == b"#":
            header = _block_header(data, at)
            if header is None:
                return 1
            start, length = header
            if start + length > len(data):
                return start + length - len(data) + 1
            at = start + length
            continue
        end = data.find(mark, at + 1)
        if end < 0:
            return 1
        at = end + 1
    return 1


def parts(message: bytes, separator: bytes) -> list[bytes]:
    """The elements between separators (b";" or b","), blanks around them removed; a line feed ends all."""
    found, begin = [], 0
    while True:
        at, kept = _next(message, begin, separator)
        end = len(message) if at is None else at
        found.append((message[begin:kept] + message[kept:end].rstrip(BLANKS)).lstrip(BLANKS))
        if at is None or message[at : at + 1] == b"\n":
            return found
        begin = at + 1


def _next(data: bytes | bytearray, begin: int, separator: bytes) -> tuple[int | None, int]:
    """Where the next separator or line feed outside strings and blocks is, and where the last string or block
    before it ends.
    """
    at, special = begin, _SPECIAL[separator]
    while found := special.search(data, at):
        here = found.start()
        mark = bytes(data[here : here + 1])
        if mark in (separator, b"\n"):
            return here, at
        end = _after_block(data, here) if mark == b"#" else data.find(mark, here + 1) + 1 or None
        if end is None:
            return None, len(data)
        at = end
    return None, at


def _after_block(data: bytes | bytearray, at: int) -> int | None:
    """Where the block ends whose # is at `at`; None where it is not whole."""
    header = _block_header(data, at)
    if header is None:
        return None
    end = header[0] + header[1]
    return end if end <= len(data) else None


def _block_header(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Start and length of a block's payload; (at + 1, 0) for #H, #Q, #B numbers; None: more must come."""
    digit = bytes(data[at + 1 : at + 2])
    if not digit:
        return None
    if digit.upper() in b"HQB":
        return at + 1, 0
    if not digit.isdigit() or digit == b"0":
        raise SyntaxProblem(f"a block that begins {bytes(data[at : at + 4])!r}; allowed: #1 to #9")
    start = at + 2 + int(digit)
    digits = bytes(data[at + 2 : start])
    if digits and not digits.isdigit():
        raise SyntaxProblem(f"a block that begins {bytes(data[at:start])!r}")
    if start > len(data):
        return None
    if int(digits) > MAX_BLOCK_BYTES:
        raise SyntaxProblem(f"a block of {int(digits)} bytes; allowed: up to {MAX_BLOCK_BYTES}")
    return start, int(digits)
