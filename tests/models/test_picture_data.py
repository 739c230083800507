"""Pictures at 8, 14 and 28 pixels a side, and the controls that know nothing but pixels."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.devices.errors import DataError
from labctl.models.data_sets import DATA_SETS
from labctl.models.fetch import fetch
from labctl.models.idx import write_idx
from labctl.models.picture_data import DIGITS, halved, picture_data
from labctl.models.pixel_controls import PixelCentres, PixelGaussian


def test_digits_are_split_once_and_for_all() -> None:
    data = picture_data(DIGITS, 8)
    assert data.train_pictures.shape == (1297, 8, 8)
    assert data.test_pictures.shape == (500, 8, 8)
    assert data.train_pictures.min() == 0
    assert data.train_pictures.max() == 1
    assert set(data.test_labels) == set(range(10))
    assert np.bincount(data.train_labels).min() > 100
    together = np.concatenate([data.train_pictures, data.test_pictures]).reshape(1797, -1)
    assert len(np.unique(together, axis=0)) == 1797  # nothing is in both
    np.testing.assert_array_equal(picture_data(DIGITS, 8).test_pictures, data.test_pictures)
    assert data.card()["side"] == 8
    assert data.card()["name"] == "digits"


def test_without_scikit_learn_the_way_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DataError, match=r"digits: scikit-learn.* pip install 'analog-labctl\[train\]'"):
        picture_data(DIGITS, 8)


@pytest.mark.parametrize(
    ("name", "side", "said"),
    [
        ("digits", 28, "digits: side 28; allowed: 8"),
        ("mnist", 8, "mnist: side 8; allowed: 14, 28"),
        ("cats", 28, "data set 'cats' is not known; allowed: digits, fashion-mnist, mnist"),
    ],
)
def test_sides_that_a_set_does_not_come_in(name: str, side: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        picture_data(name, side)


def test_halves_are_means_of_four(tmp_path: Path) -> None:
    entry = DATA_SETS["emnist-letters"]
    rng = np.random.default_rng(0)
    for split, n in (("train", 6), ("test", 3)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        write_idx(tmp_path / entry.images[split].name, images)  # type: ignore[index]
        write_idx(tmp_path / entry.labels[split].name, np.arange(1, n + 1, dtype=np.uint8))  # type: ignore[index]
    fetch("emnist-letters", tmp_path / "kept", from_dir=tmp_path)
    full = picture_data("emnist-letters", 28, tmp_path / "kept")
    half = picture_data("emnist-letters", 14, tmp_path / "kept")
    assert "side" not in full.card()
    assert half.card()["side"] == 14
    block = full.test_pictures[1, 4:6, 10:12]
    assert half.test_pictures[1, 2, 5] == pytest.approx(block.mean(), abs=1e-6)
    np.testing.assert_array_equal(halved(full.train_pictures), half.train_pictures)
    np.testing.assert_array_equal(half.train_labels, full.train_labels)


def test_gaussian_has_the_moments_of_the_pictures() -> None:
    rng = np.random.default_rng(0)
    mixing = 0.03 * rng.standard_normal((16, 16))
    pictures = (0.5 + rng.standard_normal((4000, 16)) @ mixing).astype(np.float32).reshape(-1, 4, 4)
    found = PixelGaussian.of(pictures).draw(20_000, np.random.default_rng(1)).reshape(-1, 16)
    np.testing.assert_allclose(found.mean(axis=0), pictures.reshape(-1, 16).mean(axis=0), atol=0.005)
    np.testing.assert_allclose(
        np.cov(found, rowvar=False), np.cov(pictures.reshape(-1, 16), rowvar=False), atol=0.002
    )
    with pytest.raises(DataError, match="pictures: 1; allowed: 2 or more"):
        PixelGaussian.of(pictures[:1])


def test_centres_are_those_of_clear_clusters_with_their_shares() -> None:
    rng = np.random.default_rng(0)
    centres = rng.random((3, 2, 2)).astype(np.float32)
    which = rng.choice(3, 600, p=[0.5, 0.3, 0.2])
    pictures = np.clip(centres[which] + 0.01 * rng.standard_normal((600, 2, 2)), 0, 1).astype(np.float32)
    found = PixelCentres.of(pictures, centres=3)
    order = [int(np.abs(found.centres - c).sum(axis=(1, 2)).argmin()) for c in centres]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(found.centres[order], centres, atol=0.01)
    np.testing.assert_allclose(found.shares[order], np.bincount(which) / 600)
    drawn = found.draw(2000, np.random.default_rng(0))
    assert {tuple(p.ravel()) for p in drawn} <= {tuple(c.ravel()) for c in found.centres}
    with pytest.raises(DataError, match="pictures: 2; allowed: 3 or more"):
        PixelCentres.of(pictures[:2], centres=3)
