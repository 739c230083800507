"""Metrics against closed forms, independent code and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import energy_distance as energy_distance_1d

from labctl.models.metrics import (
    EnergyReference,
    energy_distance,
    mean_distance,
    mode_shares,
    mode_total_variation,
    path_error,
    sliced_wasserstein,
    t_bound,
)


def test_mean_distances_are_scipys_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((157, 3)), rng.standard_normal((83, 3)) + 1.0
    for elements in (1, 1000, 10_000_000):
        monkeypatch.setattr("labctl.models.metrics._CHUNK_ELEMENTS", elements)
        assert mean_distance(x, y) == pytest.approx(cdist(x, y).mean(), rel=1e-6)
        assert mean_distance(x) == pytest.approx(pdist(x).mean(), rel=1e-6)


def test_energy_distance_in_one_dimension_is_twice_scipys_square() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal(600), 1.5 * rng.standard_normal(500) + 0.4
    # scipy's is the square root of half of it, and biased: it counts the zero distance of a point to itself.
    within = pdist(x[:, None]).mean() / 600 + pdist(y[:, None]).mean() / 500
    expected = 2.0 * energy_distance_1d(x, y) ** 2 / 2.0 - within
    assert energy_distance(x[:, None], y[:, None]) == pytest.approx(expected, rel=1e-5)


def test_energy_distance_of_shifted_normals_is_the_closed_form() -> None:
    # One dimension: E|N(m, s^2)| is the folded normal's mean.
    def folded(m: float, s: float) -> float:
        return s * math.sqrt(2 / math.pi) * math.exp(-0.5 * (m / s) ** 2) + m * math.erf(m / s / math.sqrt(2))

    expected = 2 * folded(0.5, math.sqrt(2)) - 2 * folded(0.0, math.sqrt(2))
    rng = np.random.default_rng(2)
    values = [
        energy_distance(rng.standard_normal((2000, 1)), rng.standard_normal((2000, 1)) + 0.5)
        for _ in range(8)
    ]
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / math.sqrt(8))


def test_energy_distance_is_unbiased() -> None:
    rng = np.random.default_rng(3)
    values = [
        energy_distance(rng.standard_normal((100, 2)), rng.standard_normal((100, 2))) for _ in range(200)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(200)
    assert min(values) < 0


def test_a_reference_gives_the_same_distance() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((50, 2)), rng.standard_normal((60, 2))
    assert EnergyReference.of(y).distance(x) == energy_distance(x, y)


def test_sliced_wasserstein_of_a_shift() -> None:
    x = np.random.default_rng(5).standard_normal((4000, 2))
    # A shift by v moves every projection by v . e: in the mean over directions |v|^2 / d.
    shifted = x + np.array([0.6, 0.8])
    assert sliced_wasserstein(x, shifted, projections=1000) == pytest.approx(math.sqrt(0.5), rel=0.03)
    assert sliced_wasserstein(x, x[::-1]) == 0.0


def test_modes() -> None:
    centres = [[0.0, 0.0], [10.0, 0.0]]
    samples = [[0.1, 0.2], [-0.3, 0.1], [0.0, 0.0], [9.0, 1.0]]
    assert mode_shares(samples, centres).tolist() == [0.75, 0.25]
    assert mode_total_variation(samples, centres, [0.5, 0.5]) == pytest.approx(0.25)


def test_path_error_is_the_root_mean_square_distance() -> None:
    assert path_error([[0.0, 0.0], [1.0, 1.0]], [[3.0, 4.0], [1.0, 1.0]]) == pytest.approx(math.sqrt(12.5))
    with pytest.raises(ValueError, match="equal shapes"):
        path_error([[0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]])


def test_t_bound_is_the_textbook_one() -> None:
    result = t_bound([1.0, 2.0, 3.0, 4.0, 5.0])
    assert result.mean == 3.0
    assert result.standard_error == pytest.approx(math.sqrt(2.5 / 5))
    assert result.bound == pytest.approx(3.0 + 2.131847 * math.sqrt(0.5), rel=1e-6)  # t(.95, 4)
    with pytest.raises(ValueError, match="2 values"):
        t_bound([1.0])


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="no distance"):
        mean_distance(np.zeros((3, 2)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"\[n, d\]"):
        mean_distance(np.zeros(3))
    with pytest.raises(ValueError, match="2 points"):
        mean_distance(np.zeros((1, 2)))
