"""Value types as bytes and back, bit for bit: what a batch, a read-out or a data sheet is on a wire.

Layout: b"LCR1", length of the head (uint32), head (JSON, UTF-8), arrays, CRC-32 (zlib) of all before it
(uint32). Numbers are little endian. The head is {"record": tree, "arrays": [[dtype, shape], ...]}; in the
tree an array stands as {"array": its number}. dtype is one of |b1, |u1, |i1, <i2, <i4, <i8, <u2, <f8: the
narrowest that holds the integers. Arrays follow each other without gaps, in C order.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import types
import typing
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

MAGIC = b"LCR1"
DTYPES = ("|b1", "|u1", "|i1", "<i2", "<i4", "<i8", "<u2", "<f8")
_WORD = struct.Struct("<I")
Array = NDArray[Any]
T = TypeVar("T")


class RecordProblem(ValueError):
    """Bytes that are no record, or one of something else."""


def record_bytes(record: Any) -> bytes:
    """A mapping or a frozen dataclass: arrays, numbers, text, tuples and dataclasses in it."""
    arrays: list[Array] = []
    tree = _tree(record, arrays)
    head = json.dumps(
        {"record": tree, "arrays": [[a.dtype.str, list(a.shape)] for a in arrays]}, allow_nan=False
    ).encode()
    body = b"".join([MAGIC, _WORD.pack(len(head)), head, *(a.tobytes() for a in arrays)])
    return body + _WORD.pack(zlib.crc32(body))


def record_of(kind: type[T], data: bytes) -> T:
    """The record of this dataclass in `data`; RecordProblem for damaged bytes, or another record's."""
    tree, arrays = _read(data)
    try:
        made = _made(kind, tree, arrays)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise RecordProblem(f"no {kind.__name__}: {error}") from None
    return typing.cast(T, made)


def crc_of(data: bytes) -> str:
    """CRC-32 of bytes as eight hexadecimal digits."""
    return f"{zlib.crc32(data):08x}"


def _read(data: bytes) -> tuple[Any, list[Array]]:
    if len(data) < 12 or data[:4] != MAGIC:
        raise RecordProblem(f"{len(data)} bytes that begin {data[:4]!r}; allowed: records begin {MAGIC!r}")
    if zlib.crc32(data[:-4]) != _WORD.unpack(data[-4:])[0]:
        raise RecordProblem(f"the CRC-32 of {len(data)} bytes is {crc_of(data[:-4])}, another came with them")
    (length,) = _WORD.unpack(data[4:8])
    try:
        head = json.loads(data[8 : 8 + length])
        tree, listed = head["record"], [(str(d), tuple(int(n) for n in shape)) for d, shape in head["arrays"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordProblem(f"a head that cannot be read: {error}") from None
    at, arrays = 8 + length, []
    for dtype, shape in listed:
        if dtype not in DTYPES or any(n < 0 for n in shape):
            raise RecordProblem(f"an array of {dtype}, shape {shape}; allowed: {', '.join(DTYPES)}")
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if at + size > len(data) - 4:
            raise RecordProblem(f"an array of shape {shape} is cut short")
        arrays.append(np.frombuffer(data, dtype, math.prod(shape), at).reshape(shape))
        at += size
    if at != len(data) - 4:
        raise RecordProblem(f"{len(data) - 4 - at} bytes after the last array")
    return tree, arrays


def _tree(value: Any, arrays: list[Array]) -> Any:
    if isinstance(value, np.ndarray):
        arrays.append(_narrow(value))
        return {"array": len(arrays) - 1}
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value))
        return {name: _tree(getattr(value, name), arrays) for name in fields}
    if isinstance(value, Mapping):
        return {str(name): _tree(entry, arrays) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_tree(entry, arrays) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _narrow(values: Array) -> Array:
    """Of the narrowest type that holds every value."""
    if values.dtype == np.bool_:
        return values
    if np.issubdtype(values.dtype, np.floating):
        return values.astype("<f8")
    if values.dtype == np.uint16:
        return values.astype("|u1" if not values.size or values.max() <= 255 else "<u2")
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for dtype in ("|i1", "<i2", "<i4"):
        info = np.iinfo(dtype)
        if info.min <= low and high <= info.max:
            return values.astype(dtype)
    return values.astype("<i8")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _made(kind: Any, tree: Any, arrays: list[Array]) -> Any:
    """A value of the annotated type `kind`; TypeError or ValueError where the tree holds another."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if tree is None:
            return None
        wanted = [option for option in get_args(kind) if option is not type(None)]
        if len(wanted) == 1:
            return _made(wanted[0], tree, arrays)
        if type(tree) not in wanted:
            raise TypeError(f"{tree!r} is no {kind}")
        return tree
    if kind is np.ndarray or origin is np.ndarray:
        return _array(kind, arrays[tree["array"]])
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        unknown = set(tree) - set(names)
        if unknown:
            raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
        return kind(**{name: _made(hints[name], tree[name], arrays) for name in names if name in tree})
    if origin is tuple:
        inner = get_args(kind)
        each = [inner[0]] * len(tree) if inner[-1] is Ellipsis else list(inner)
        return tuple(_made(option, entry, arrays) for option, entry in zip(each, tree, strict=True))
    if origin is not None and origin is not Literal and issubclass(origin, Mapping):
        _, inner = get_args(kind)
        return {str(name): _made(inner, entry, arrays) for name, entry in tree.items()}
    if origin is Literal:
        if tree not in get_args(kind):
            raise ValueError(f"{tree!r}; allowed: {', '.join(map(str, get_args(kind)))}")
        return tree
    if kind is float and isinstance(tree, int) and not isinstance(tree, bool):
        return float(tree)
    if type(tree) is not kind:
        raise TypeError(f"{tree!r} is no {getattr(kind, '__name__', kind)}")
    return tree


def _array(kind: Any, stored: Array) -> Array:
    """A copy in the annotated element type: int64, float64, bool or uint16."""
    wanted = np.dtype(get_args(get_args(kind)[1])[0])
    same_kind = (
        np.issubdtype(wanted, np.integer)
        if np.issubdtype(stored.dtype, np.integer)
        else wanted == stored.dtype.newbyteorder("=")
    )
    if not same_kind:
        raise TypeError(f"an array of {stored.dtype} where {wanted} should be")
    return stored.astype(wanted)
