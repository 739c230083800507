"""The restricted reader of the MNIST pickle: arrays come through, nothing else does, nothing runs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.devices.errors import DataError
from labctl.models.pickled import read_pickled_splits


def _pair(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, (n, 784)).astype(np.float32) / 256
    return grey, rng.integers(0, 10, n)


def test_every_grey_level_comes_back_exactly() -> None:
    ramp = (np.arange(784) % 256).astype(np.float32) / 256
    splits = ((np.stack([ramp, ramp]), np.array([3, 9])), _pair(1), _pair(2))
    for protocol in (3, 4):
        train, valid, test = read_pickled_splits(pickle.dumps(splits, protocol), "file")
        np.testing.assert_array_equal(train[0][0].ravel(), np.arange(784) % 256)
        assert train[0].dtype == train[1].dtype == np.uint8
        assert train[1].tolist() == [3, 9]
        assert valid[0].shape == (1, 28, 28)
        np.testing.assert_array_equal(test[1], splits[2][1])


class _Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch {}",)),
        (eval, ("open('{}', 'w')",)),
        (np.fromfile, ("{}",)),
        (np.zeros, (10**12,)),
        (getattr, ("text", "join")),
    ],
)
def test_calls_are_refused_and_not_made(
    tmp_path: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    mark = tmp_path / "mark"
    filled = tuple(a.format(mark) if isinstance(a, str) else a for a in arguments)
    with pytest.raises(DataError, match=r"file: the pickle asks for .*; allowed: numpy arrays"):
        read_pickled_splits(pickle.dumps(_Calls(function, *filled), 4), "file")
    assert not mark.exists()


def test_no_array_larger_than_its_bytes() -> None:
    rebuild = np.empty(0).__reduce__()[0]
    huge = pickle.dumps(_Calls(rebuild, np.ndarray, (10**12,), b"b"), 4)
    with pytest.raises(DataError, match=r"makes an array of shape"):
        read_pickled_splits(huge, "file")
    objects = pickle.dumps(_Calls(np.dtype, "O8", False, True), 2)
    with pytest.raises(DataError, match="makes a dtype 'O8'; allowed: f4, i8"):
        read_pickled_splits(objects, "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds list; allowed: a tuple of 3 splits"),
        ((_pair(1), _pair(1), 5), "split 2: not a pair of arrays"),
        ((_pair(1), _pair(1), (_pair(2)[0], _pair(1)[1])), r"split 2: labels int64 \(1,\)"),
        (((_pair(1)[0][:, :700], _pair(1)[1]), _pair(1), _pair(1)), r"split 0: images float32 \(1, 700\)"),
        (((_pair(1)[0] + np.float32(0.001), _pair(1)[1]), _pair(1), _pair(1)), "not in steps of 1/256"),
        (((_pair(1)[0], np.array([10])), _pair(1), _pair(1)), "labels from 10 to 10; allowed: 0 to 9"),
    ],
)
def test_other_content_is_refused(content: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pickled_splits(pickle.dumps(content, 4), "file")


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_cut_pickle_is_refused(cut: int) -> None:
    whole = pickle.dumps((_pair(1), _pair(1), _pair(1)), 4)
    with pytest.raises(DataError, match="file: not a readable pickle"):
        read_pickled_splits(whole[:cut], "file")
