"""IDX, the file form of the MNIST family: a magic number, sizes, then the values, all big-endian.

    0x00 0x00 TYPE NDIM | NDIM x uint32 | values in C order

The reader is strict: a file that is short, long, or not what was asked for is refused by name, before its
header can make us allocate what is not there.
"""

from __future__ import annotations

import gzip
import math
import os
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labctl.devices.errors import DataError

TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
MAX_DIMENSIONS = 8


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


def read_idx(
    path: str | os.PathLike[str],
    *,
    shape: Sequence[int | None] | None = None,
    dtype: type[np.generic] | None = None,
) -> NDArray[Any]:
    """Read one IDX file, gzipped or raw (told apart by content, not by name).

    `shape` is what the caller expects, None where any size is allowed; `dtype` likewise. The result has the
    machine's byte order. Raises DataError, which names the file, the field, its value and what is allowed.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if zipped:
                with gzip.open(raw, "rb") as stream:
                    return _parse(stream, str(path), shape, dtype)
            return _parse(raw, str(path), shape, dtype)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: gzip stream is damaged or truncated ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write `array` as IDX; gzipped when the name ends in .gz; whole or not at all."""
    path = Path(path)
    array = np.asarray(array)
    code = next((c for c, t in TYPES.items() if t == array.dtype.newbyteorder(">")), None)
    if code is None:
        allowed = ", ".join(t.newbyteorder("=").name for t in TYPES.values())
        raise DataError(f"{path}: dtype {array.dtype} has no IDX type; allowed: {allowed}")
    if not 1 <= array.ndim <= MAX_DIMENSIONS:
        raise DataError(f"{path}: {array.ndim} dimensions; allowed: 1 to {MAX_DIMENSIONS}")
    if max(array.shape) >= 1 << 32:
        raise DataError(f"{path}: size {max(array.shape)} of a dimension; allowed: below 2^32")
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    data = header + array.astype(TYPES[code], order="C").tobytes()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)  # no time stamp: same array, same bytes
    write_atomically(path, data)


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one rename. Raises DataError when the place cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(data)
            Path(name).chmod(0o644)  # mkstemp's 0600 would hide a shared data directory from colleagues
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error


def _parse(
    stream: _Stream, name: str, shape: Sequence[int | None] | None, dtype: type[np.generic] | None
) -> NDArray[Any]:
    magic = _take(stream, 4, name, "magic number")
    if magic[:2] != b"\x00\x00" or magic[2] not in TYPES or not 1 <= magic[3] <= MAX_DIMENSIONS:
        raise DataError(
            f"{name}: magic number 0x{magic.hex()} is not IDX; allowed: 0x0000, a type of "
            f"{', '.join(f'0x{c:02x}' for c in TYPES)}, 1 to {MAX_DIMENSIONS} dimensions"
        )
    kind, ndim = TYPES[magic[2]], magic[3]
    if dtype is not None and kind.newbyteorder("=") != np.dtype(dtype):
        wanted = np.dtype(dtype).name
        raise DataError(f"{name}: values are {kind.newbyteorder('=').name}; allowed: {wanted}")
    found = tuple(int(n) for n in np.frombuffer(_take(stream, 4 * ndim, name, "dimensions"), dtype=">u4"))
    if shape is not None and (
        len(found) != len(shape) or any(w is not None and w != n for n, w in zip(found, shape, strict=True))
    ):
        wanted = " x ".join("any" if n is None else str(n) for n in shape)
        raise DataError(f"{name}: dimensions {' x '.join(map(str, found))}; allowed: {wanted}")
    data = _take(stream, math.prod(found) * kind.itemsize, name, "values")
    if stream.read(1):
        raise DataError(f"{name}: bytes follow the {len(data)} bytes of values; allowed: none")
    return np.frombuffer(data, dtype=kind).reshape(found).astype(kind.newbyteorder("="))


def _take(stream: _Stream, size: int, name: str, field: str) -> bytes:
    """Exactly `size` bytes, in chunks: a header that claims terabytes must not allocate them."""
    parts: list[bytes] = []
    got = 0
    while got < size:
        part = stream.read(min(_CHUNK, size - got))
        if not part:
            raise DataError(f"{name}: truncated in the {field}: {got} bytes of {size}")
        parts.append(part)
        got += len(part)
    return b"".join(parts)
