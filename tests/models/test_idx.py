"""IDX files: what is written is read, and nothing damaged is let through."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labctl.devices.errors import DataError
from labctl.models.idx import TYPES, read_idx, write_idx

ARRAYS = st.sampled_from(list(TYPES.values())).flatmap(
    lambda dtype: hnp.arrays(
        dtype.newbyteorder("="), hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(array=ARRAYS, zipped=st.booleans())
def test_round_trip(tmp_path: Path, array: np.ndarray, zipped: bool) -> None:
    path = tmp_path / ("a.idx.gz" if zipped else "a.idx")
    write_idx(path, array)
    back = read_idx(path, shape=array.shape, dtype=array.dtype.type)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == np.ascontiguousarray(array).tobytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(array=ARRAYS, cut=st.integers(1, 40), zipped=st.booleans())
def test_every_truncation_is_refused(tmp_path: Path, array: np.ndarray, cut: int, zipped: bool) -> None:
    path = tmp_path / ("a.gz" if zipped else "a")
    write_idx(path, array)
    data = path.read_bytes()
    path.write_bytes(data[: max(0, len(data) - cut)])
    with pytest.raises(DataError, match=r"truncated|damaged") as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_layout_is_the_published_one(tmp_path: Path) -> None:
    path = tmp_path / "labels-idx1-ubyte"
    write_idx(path, np.array([7, 2, 1], dtype=np.uint8))
    assert path.read_bytes() == bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1])
    write_idx(path, np.array([[-2]], dtype=np.int16))
    assert path.read_bytes() == bytes([0, 0, 0x0B, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0xFF, 0xFE])


def test_same_array_same_gzip_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, np.arange(9, dtype=np.int32))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "truncated in the magic number: 0 bytes of 4"),
        (b"\x89PNG", "magic number 0x89504e47 is not IDX"),
        (bytes([0, 0, 0x0A, 1]), "0x00000a01"),
        (bytes([0, 0, 8, 0]), "1 to 8 dimensions"),
        (bytes([0, 0, 8, 9]), "1 to 8 dimensions"),
        (bytes([0, 0, 8, 2, 0, 0, 0, 1]), "truncated in the dimensions: 4 bytes of 8"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 2, 1]), "truncated in the values: 1 bytes of 2"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 2, 1, 2, 3]), "bytes follow the 2 bytes"),
        # claims 2^96 values: must be refused without trying to allocate them
        (bytes([0, 0, 8, 3]) + b"\xff" * 12 + b"x", "truncated in the values: 1 bytes of"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_bad_files_are_named(tmp_path: Path, data: bytes, words: str, zipped: bool) -> None:
    path = tmp_path / "bad"
    path.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_wrong_shape_and_type_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "images"
    write_idx(path, np.zeros((3, 28, 27), np.uint8))
    with pytest.raises(DataError, match="dimensions 3 x 28 x 27; allowed: any x 28 x 28"):
        read_idx(path, shape=(None, 28, 28))
    with pytest.raises(DataError, match="allowed: 3 x 756"):
        read_idx(path, shape=(3, 756))
    with pytest.raises(DataError, match="values are uint8; allowed: float32"):
        read_idx(path, dtype=np.float32)
    assert read_idx(path, shape=(None, 28, None)).shape == (3, 28, 27)


def test_missing_and_unwritable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written"):
        write_idx(tmp_path / "file" / "a", np.zeros(1, np.uint8))
    with pytest.raises(DataError, match="dtype complex128"):
        write_idx(tmp_path / "a", np.zeros(1, complex))
    with pytest.raises(DataError, match="0 dimensions"):
        write_idx(tmp_path / "a", np.array(1, np.uint8))
    assert not list(tmp_path.glob("*.part"))
