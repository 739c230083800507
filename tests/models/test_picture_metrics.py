"""Picture metrics against cases with known answers and formulas written another way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from labctl.devices.errors import DataError
from labctl.models.picture_metrics import (
    FeatureMoments,
    density_coverage,
    frechet_distance,
    frechet_star,
    nearest_pictures,
)

RNG = np.random.default_rng(0)


def _random(features: int, seed: int) -> FeatureMoments:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((features, features))
    return FeatureMoments(rng.standard_normal(features), root @ root.T)


@pytest.mark.parametrize("seed", range(5))
def test_frechet_distance_as_pytorch_fid_writes_it(seed: int) -> None:
    a, b = _random(20, seed), _random(20, seed + 100)
    # pytorch-fid: |m1 - m2|^2 + tr(C1 + C2 - 2 sqrtm(C1 C2))
    root = sqrtm(a.covariance @ b.covariance)
    gap = a.mean - b.mean
    wanted = gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.trace(root.real)
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(wanted, rel=1e-8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_commuting_covariances() -> None:
    a = FeatureMoments(np.array([1.0, 2.0, 0.0]), np.diag([4.0, 9.0, 0.0]))
    b = FeatureMoments(np.array([1.0, 0.0, 1.0]), np.diag([1.0, 1.0, 16.0]))
    assert frechet_distance(a, b) == pytest.approx(4 + 1 + (2 - 1) ** 2 + (3 - 1) ** 2 + 4**2)


def test_frechet_distance_of_fewer_pictures_than_features() -> None:
    few = FeatureMoments.of(RNG.standard_normal((5, 40)))
    many = FeatureMoments.of(RNG.standard_normal((4000, 40)))
    values = np.linalg.eigvals(few.covariance @ many.covariance).real
    overlap = np.sqrt(values.clip(0)).sum()
    gap = few.mean - many.mean
    wanted = gap @ gap + np.trace(few.covariance) + np.trace(many.covariance) - 2 * overlap
    assert frechet_distance(few, many) == pytest.approx(wanted, rel=1e-5)


def test_moments_are_numpys() -> None:
    x = RNG.standard_normal((50, 4))
    moments = FeatureMoments.of(x)
    np.testing.assert_allclose(moments.mean, x.mean(axis=0))
    np.testing.assert_allclose(moments.covariance, np.cov(x.T))


def test_frechet_star_is_zero_at_the_floor_and_one_at_the_gaussian() -> None:
    assert frechet_star(0.05, 0.05, 9.0) == 0
    assert frechet_star(9.0, 0.05, 9.0) == 1
    with pytest.raises(DataError, match="not above the floor"):
        frechet_star(1.0, 2.0, 2.0)


def test_density_and_coverage_by_hand() -> None:
    real = np.array([[0.0], [1.0], [3.0]])  # radii to the first neighbour: 1, 1, 2
    samples = np.array([[0.5], [2.5], [10.0]])
    # 0.5 is in the balls of 0 and 1; 2.5 in that of 3; 10 in none: 3 of 1 x 3; every ball holds one.
    found = density_coverage(real, samples, neighbours=1)
    assert found.density == pytest.approx(1.0)
    assert found.coverage == pytest.approx(1.0)
    alone = density_coverage(real, np.array([[0.5]]), neighbours=1)
    assert alone.density == pytest.approx(2.0)
    assert alone.coverage == pytest.approx(2 / 3)


def test_density_and_coverage_of_the_same_distribution_and_of_one_mode() -> None:
    real, same = RNG.standard_normal((1000, 6)), RNG.standard_normal((1000, 6))
    alike = density_coverage(real, same)
    assert alike.density == pytest.approx(1.0, abs=0.08)
    # Naeem et al. 2020, equal sizes: 1 - (N-1)...(N-k) / ((2N-1)...(2N-k)), about 1 - 2^-5.
    assert alike.coverage == pytest.approx(1 - 2.0**-5, abs=0.03)
    collapsed = density_coverage(real, 0.2 * same)
    assert collapsed.density > 1.5
    assert collapsed.coverage < 0.6
    assert density_coverage(real, same + 100).coverage == 0


def test_density_and_coverage_refuse_what_makes_no_sense() -> None:
    with pytest.raises(DataError, match="more than 5"):
        density_coverage(np.zeros((5, 2)), np.zeros((3, 2)))
    with pytest.raises(DataError, match="3 a picture; allowed: 2"):
        density_coverage(np.zeros((9, 2)), np.zeros((3, 3)))
    with pytest.raises(DataError, match="finite"):
        density_coverage(np.full((9, 2), np.nan), np.zeros((3, 2)))
    with pytest.raises(DataError, match="1 pictures; allowed: 2 or more"):
        FeatureMoments.of(np.zeros((1, 3)))


def test_nearest_pictures_find_a_copy() -> None:
    train = RNG.random((300, 28, 28)).astype(np.float32)
    fresh = RNG.random((4, 28, 28)).astype(np.float32)
    asked = np.concatenate([train[[17, 250]], fresh])
    found = nearest_pictures(asked, train)
    assert found.row[:2].tolist() == [17, 250]
    assert found.distance[:2] == pytest.approx(0, abs=1e-3)
    by_hand = np.sqrt(((fresh[:, None] - train) ** 2).mean(axis=(2, 3)))
    np.testing.assert_allclose(found.distance[2:], by_hand.min(axis=1), rtol=1e-4)
    assert found.row[2:].tolist() == by_hand.argmin(axis=1).tolist()
    with pytest.raises(DataError, match=r"allowed: \[M, H, W\]"):
        nearest_pictures(asked, train[:, :27])
