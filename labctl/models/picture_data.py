"""Labelled pictures of both splits at a side of 8, 14 or 28 pixels, for whatever trains or judges on them.

    data = picture_data("fashion-mnist", 14)      # mean of 2 x 2 pixels of the fetched set
    data = picture_data("digits", 8)              # scikit-learn's digits, which its package carries

The 1,797 digits (Alpaydin & Kaynak 1998, UCI optical recognition of handwritten digits, CC BY 4.0) come in
one piece: 500 of them, by a fixed permutation, are the test split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from labctl.devices.errors import DataError
from labctl.models.data_sets import DATA_SETS, data_set
from labctl.models.fetch import checksums, load
from labctl.models.pictures import SIDE, Labels, Pictures, as_labels, as_pictures

DIGITS: Final = "digits"
DIGITS_SIDE: Final = 8
DIGITS_TEST: Final = 500
_DIGITS_TOP = 16.0  # the brightest pixel
_DIGITS_SHA256 = "65e5b4619795efb40c1082f4c350c049e4ad552200d369b6ae99e21eef5e72c5"
_DIGITS_LICENCE = "CC BY 4.0, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository"


@dataclass(frozen=True, eq=False)
class PictureData:
    """Pictures float32 [N, side, side] in 0..1 and labels int64 [N] of both splits, with their origin."""

    name: str
    side: int
    classes: tuple[str, ...]
    licence: str
    checksums: Mapping[str, str | None]
    train_pictures: Pictures
    train_labels: Labels
    test_pictures: Pictures
    test_labels: Labels

    def card(self) -> dict[str, Any]:
        """Name, licence and checksums; the side where it is not the set's own of 28."""
        size = {} if self.side == SIDE else {"side": self.side}
        return {"name": self.name, **size, "licence": self.licence, "checksums": dict(self.checksums)}


def sides(name: str) -> tuple[int, ...]:
    """The sides in pixels at which the set `name` is to be had; DataError for an unknown set."""
    if name == DIGITS:
        return (DIGITS_SIDE,)
    if name not in DATA_SETS:
        raise DataError(f"data set {name!r} is not known; allowed: {', '.join((DIGITS, *DATA_SETS))}")
    return (SIDE // 2, SIDE)


def picture_data(name: str, side: int = SIDE, cache_dir: Path | str | None = None) -> PictureData:
    """Both splits of a set; `cache_dir` is where fetched sets lie (default: the user's data directory).

    Raises DataError for an unknown set, a side it does not come in, and files that are not there.
    """
    if side not in (allowed := sides(name)):
        raise DataError(f"{name}: side {side}; allowed: {', '.join(map(str, allowed))}")
    if name == DIGITS:
        return _digits()
    entry = data_set(name)
    (train, train_labels), (test, test_labels) = (load(name, s, cache_dir) for s in ("train", "test"))
    return PictureData(
        name=name,
        side=side,
        classes=entry.classes,
        licence=entry.licence,
        checksums=checksums(name, cache_dir),
        train_pictures=_at(train, side),
        train_labels=as_labels(train_labels, len(train), len(entry.classes)),
        test_pictures=_at(test, side),
        test_labels=as_labels(test_labels, len(test), len(entry.classes)),
    )


def halved(pictures: Pictures) -> Pictures:
    """Pictures [N, 2 s, 2 s] at half the side [N, s, s]: the mean of each 2 x 2 pixels."""
    n, height, width = pictures.shape
    blocks = pictures.reshape(n, height // 2, 2, width // 2, 2)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def _at(pictures: NDArray[np.uint8], side: int) -> Pictures:
    full = as_pictures(pictures)
    return full if side == SIDE else halved(full)


def _digits() -> PictureData:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError(
            f"{DIGITS}: scikit-learn, which carries this set, is not installed; "
            "pip install 'analog-labctl[train]' brings it"
        ) from None
    raw = load_digits()
    levels = np.ascontiguousarray(raw.images, dtype=np.uint8)
    labels = np.ascontiguousarray(raw.target, dtype=np.int64)
    found = hashlib.sha256(levels.tobytes() + labels.tobytes()).hexdigest()
    if found != _DIGITS_SHA256:
        raise DataError(f"{DIGITS}: sha256 {found}; allowed: {_DIGITS_SHA256} (another release of the set?)")
    pictures = as_pictures(levels.astype(np.float32) / np.float32(_DIGITS_TOP), DIGITS, DIGITS_SIDE)
    order = np.random.Generator(np.random.Philox(0)).permutation(len(pictures))
    train, test = order[:-DIGITS_TEST], order[-DIGITS_TEST:]
    return PictureData(
        name=DIGITS,
        side=DIGITS_SIDE,
        classes=tuple(map(str, range(10))),
        licence=_DIGITS_LICENCE,
        checksums={"pictures and labels": found},
        train_pictures=pictures[train],
        train_labels=labels[train],
        test_pictures=pictures[test],
        test_labels=labels[test],
    )
