"""The well-known MNIST pickle, read without running anything in it.

A pickle is a program. This reader lets it call two things, the making of a numpy array and of a dtype, both
through stand-ins that refuse any array but an empty one to be filled and any dtype but the two in use; an
array's content comes from the pickle's own bytes, so that its size is bounded by theirs.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.devices.errors import DataError

Split = tuple[NDArray[np.uint8], NDArray[np.uint8]]
SIDE = 28
GREY_LEVELS = 256  # the pickle holds k/256 in float32, exactly

# numpy's own rebuilder of an array, under whichever private name this version of numpy has it.
_REBUILD: Any = np.empty(0).__reduce__()[0]


def read_pickled_splits(data: bytes, name: str) -> tuple[Split, Split, Split]:
    """(train, valid, test) of images uint8 [N, 28, 28] and labels uint8 [N].

    Raises DataError for anything but three pairs of float32 [N, 784] in steps of 1/256 and int64 [N].
    """
    try:
        content = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:
        raise DataError(f"{name}: not a readable pickle ({type(error).__name__}: {error})") from error
    if not isinstance(content, tuple) or len(content) != 3:
        raise DataError(f"{name}: holds {type(content).__name__}; allowed: a tuple of 3 splits")
    train, valid, test = (_split(part, f"{name}: split {i}") for i, part in enumerate(content))
    return train, valid, test


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name in ("numpy.core.multiarray", "numpy._core.multiarray"):
            if global_name == "_reconstruct":
                return _empty_array
        elif module_name == "numpy":
            if global_name == "ndarray":
                return np.ndarray
            if global_name == "dtype":
                return _plain_dtype
        raise DataError(f"the pickle asks for {module_name}.{global_name}; allowed: numpy arrays")


def _empty_array(kind: Any, shape: Any, typecode: Any) -> Any:
    if kind is not np.ndarray or shape != (0,):
        raise DataError(f"the pickle makes an array of shape {shape!r}; allowed: (0,), then filled")
    return _REBUILD(np.ndarray, (0,), b"b")


def _plain_dtype(code: Any, *_flags: Any) -> np.dtype[Any]:
    if code not in ("f4", "i8"):
        raise DataError(f"the pickle makes a dtype {code!r}; allowed: f4, i8")
    plain: np.dtype[Any] = np.dtype(code)
    return plain


def _split(part: Any, name: str) -> Split:
    if not isinstance(part, tuple) or len(part) != 2 or not all(isinstance(a, np.ndarray) for a in part):
        raise DataError(f"{name}: not a pair of arrays; allowed: images and labels")
    images, labels = part
    if images.dtype != np.float32 or images.ndim != 2 or images.shape[1] != SIDE * SIDE:
        raise DataError(f"{name}: images {images.dtype} {images.shape}; allowed: float32 [N, 784]")
    if labels.dtype != np.int64 or labels.shape != (len(images),):
        raise DataError(f"{name}: labels {labels.dtype} {labels.shape}; allowed: int64 ({len(images)},)")
    grey = images * np.float32(GREY_LEVELS)
    if grey.size and not ((grey == np.rint(grey)).all() and grey.min() >= 0 and grey.max() < GREY_LEVELS):
        raise DataError(f"{name}: images are not in steps of 1/{GREY_LEVELS}; allowed: 0 to 255/256")
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= 9:
        raise DataError(f"{name}: labels from {labels.min()} to {labels.max()}; allowed: 0 to 9")
    return grey.astype(np.uint8).reshape(-1, SIDE, SIDE), labels.astype(np.uint8)
