"""Datasets that grow by one row a step, and how their rows are packed.

Rows are packed as ordinary `shuffle` + `deflate` chunks, which every HDF5 reader opens, but by zlib's
run-length strategy: noisy floats have no repeats to look for, only skewed bytes, and looking costs several
times as much for a larger result.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 1 << 20
_SCALAR_CHUNK = 64

Packed = NDArray[Any] | tuple[tuple[int, bytes], ...]  # a scalar, or chunks by their first entry; () is none


def text_type(length: int) -> np.dtype[Any]:
    """Fixed-length UTF-8: the only text that may grow while a second process reads (SWMR)."""
    dtype: np.dtype[Any] = h5py.string_dtype("utf-8", length)
    return dtype


def clip_text(text: str, length: int) -> bytes:
    """UTF-8 bytes of `text`, cut at a character boundary to fit `length` bytes."""
    return text.encode()[:length].decode(errors="ignore").encode()


def create_growing(
    group: h5py.Group, name: str, row_shape: Sequence[int], dtype: np.dtype[Any], fill: Any
) -> h5py.Dataset:
    """An empty dataset [0, *row_shape] that can grow; rows of arrays are packed, scalars are not."""
    shape = tuple(row_shape)
    if not shape:
        return group.create_dataset(
            name, shape=(0,), maxshape=(None,), chunks=(_SCALAR_CHUNK,), dtype=dtype, fillvalue=fill
        )
    entry_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    per_chunk = max(1, min(shape[0], CHUNK_BYTES // entry_bytes))
    return group.create_dataset(
        name,
        shape=(0, *shape),
        maxshape=(None, *shape),
        chunks=(1, per_chunk, *shape[1:]),
        dtype=dtype,
        fillvalue=fill,
        shuffle=True,
        compression="gzip",
        compression_opts=1,
    )


class GrowingColumn:
    """Appends rows to a dataset made by `create_growing`; a row given as None stays at the fill value."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self.row_shape: tuple[int, ...] = tuple(dataset.shape[1:])
        self._dtype: np.dtype[Any] = dataset.dtype
        self._chunk: tuple[int, ...] = tuple(dataset.chunks)
        self._fill = dataset.fillvalue
        self._extent = int(dataset.shape[0])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row before packing."""
        return self._dtype.itemsize * int(np.prod(self.row_shape, dtype=np.int64))

    def pack(self, row: Any) -> Packed:
        """`row` as its bytes in the file. Needs neither the file nor, for the most part, Python's lock."""
        if row is None:
            return ()
        if not self.row_shape:
            return np.array([row], dtype=self._dtype)
        values = np.asarray(row, dtype=self._dtype, order="C")
        rows = self._chunk[1]
        return tuple(
            (start, pack(self._whole(values[start : start + rows])))
            for start in range(0, self.row_shape[0], rows)
        )

    def write(self, index: int, row: Any) -> None:
        """Write row `index`, growing the dataset to hold it. Raises OSError when the disk is full."""
        self.write_packed(index, self.pack(row))

    def write_packed(self, index: int, packed: Packed) -> None:
        """`write` for a row that `pack` made."""
        low = self._dataset.id
        if index >= self._extent:
            low.set_extent((index + 1, *self.row_shape))
            self._extent = index + 1
        if isinstance(packed, np.ndarray):
            where = low.get_space()
            where.select_hyperslab((index,), (1,))
            low.write(h5py.h5s.create_simple((1,)), where, packed)
            return
        trailing = (0,) * (len(self.row_shape) - 1)
        for start, chunk in packed:
            low.write_direct_chunk((index, start, *trailing), chunk)

    def _whole(self, block: NDArray[Any]) -> NDArray[Any]:
        """An edge chunk is stored whole."""
        missing = self._chunk[1] - len(block)
        if not missing:
            return block
        return np.concatenate([block, np.full((missing, *block.shape[1:]), self._fill, dtype=self._dtype)])


def pack(block: NDArray[Any]) -> bytes:
    """One chunk as shuffle + deflate bytes.

    Incompressible rows grow by some bytes: leaving deflate out by a chunk's filter mask is no way around it,
    because a reader in the writing process then fails on the newest chunk (seen with HDF5 2.0.0).
    """
    shuffled = np.ascontiguousarray(block.view(np.uint8).reshape(-1, block.dtype.itemsize).T).data
    squeeze = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return squeeze.compress(shuffled) + squeeze.flush()
