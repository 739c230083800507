"""The shipped sets: standardised, seeded, of the shape they say."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.models.datasets import EQUAL_WEIGHTS, TOY_SETS, UNEQUAL_WEIGHTS, Affine
from labctl.models.metrics import mode_total_variation


@pytest.mark.parametrize("name", TOY_SETS)
def test_sets_are_standardised_and_seeded(name: str) -> None:
    source = TOY_SETS[name]
    x, labels = source.draw(200_000, np.random.default_rng(0))
    assert labels is None
    assert x.shape == (200_000, source.dim)
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=0.01)
    np.testing.assert_allclose(x.std(axis=0), 1.0, atol=0.01)
    again, _ = source.draw(100, np.random.default_rng(7))
    np.testing.assert_array_equal(again, source.draw(100, np.random.default_rng(7))[0])
    assert source.checksum() == source.checksum()


def test_checksums_differ() -> None:
    assert len({s.checksum() for s in TOY_SETS.values()}) == len(TOY_SETS)


@pytest.mark.parametrize(
    ("name", "weights"), [("gaussians", EQUAL_WEIGHTS), ("gaussians_unequal", UNEQUAL_WEIGHTS)]
)
def test_mixtures_have_their_weights(name: str, weights: np.ndarray) -> None:
    source = TOY_SETS[name]
    x, _ = source.draw(100_000, np.random.default_rng(1))
    assert source.centres is not None
    assert mode_total_variation(x, source.centres, weights) < 0.01
    assert weights.sum() == pytest.approx(1.0)
    assert UNEQUAL_WEIGHTS[7] == pytest.approx(8 * UNEQUAL_WEIGHTS[0])


def test_checkerboard_leaves_the_light_squares_empty() -> None:
    source = TOY_SETS["checkerboard"]
    own = source.affine.restore(source.draw(10_000, np.random.default_rng(2))[0])
    col, row = np.floor(own + 2.0).astype(int).T
    assert ((col + row) % 2 == 0).all()
    assert len(set(zip(col.tolist(), row.tolist(), strict=True))) == 8


def test_moons_have_the_shape_of_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    theirs, _ = sklearn.make_moons(20_000, noise=0.07, random_state=0)
    source = TOY_SETS["moons"]
    ours = source.affine.restore(source.draw(20_000, np.random.default_rng(0))[0])
    np.testing.assert_allclose(np.cov(ours.T), np.cov(theirs.T), atol=0.02)
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=0.02)


def test_affine_there_and_back() -> None:
    affine = Affine((1.0, -2.0), (0.5, 3.0))
    own = np.array([[1.5, 4.0]])
    np.testing.assert_allclose(affine.standardise(own), [[1.0, 2.0]])
    np.testing.assert_allclose(affine.restore(affine.standardise(own)), own)
