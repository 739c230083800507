"""Objectives against analytic answers and independent implementations; the penalty against autograd."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import ndtri
from scipy.stats import wasserstein_distance

from labctl.models import metrics
from labctl.models.oscillators.critic import CriticGame, gradient_penalty, make_critic
from labctl.models.oscillators.objectives import (
    energy,
    energy_within,
    median_distance,
    mmd,
    mmd_within,
    sliced_wasserstein,
    unit_directions,
)
from labctl.models.oscillators.settings import CriticSettings


def _clouds(seed: int, *sizes: int, dim: int = 5) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(size, dim, generator=draw) + 0.3 * i for i, size in enumerate(sizes)]


def test_mmd_by_hand() -> None:
    x, y = _clouds(0, 6, 9)
    scales = (0.7, 2.0)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return sum(math.exp(-float(((a - b) ** 2).sum()) / (2 * s * s)) for s in scales)

    own = np.mean([kernel(a, b) for a, b in itertools.permutations(x, 2)])
    theirs = np.mean([kernel(a, b) for a, b in itertools.permutations(y, 2)])
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert float(mmd(x, y, scales)) == pytest.approx(own + theirs - 2 * across, abs=2e-6)
    assert torch.equal(mmd(x, y, scales, mmd_within(y, scales)), mmd(x, y, scales))


def test_mmd_of_two_gaussians_is_the_analytic_one() -> None:
    # one kernel of width s, two normals of unit variance at distance d in one dimension (Gretton et al. 2012)
    s, d, n = 1.0, 1.5, 2000
    x = torch.as_tensor(ndtri((np.arange(n) + 0.5) / n), dtype=torch.float32)[:, None]
    y = x + d
    spread = s / math.sqrt(s**2 + 2)
    expected = 2 * spread * (1 - math.exp(-(d**2) / (2 * (s**2 + 2))))
    assert float(mmd(x, y, (s,))) == pytest.approx(expected, abs=2e-3)


def test_energy_is_that_of_the_metrics() -> None:
    x, y = _clouds(2, 40, 55)
    wanted = metrics.energy_distance(x.numpy(), y.numpy())
    assert float(energy(x, y)) == pytest.approx(wanted, abs=2e-5)
    assert torch.equal(energy(x, y, energy_within(y)), energy(x, y))


def test_sliced_distance_in_one_dimension_is_scipys() -> None:
    x, y = _clouds(3, 50, 50, dim=1)
    one = torch.ones(1, 1)
    wanted = wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert float(sliced_wasserstein(x, y, one, order=1)) == pytest.approx(wanted, rel=1e-5)


def test_sliced_distance_is_the_square_of_the_metrics() -> None:
    x, y = _clouds(4, 60, 60)
    rng = np.random.Generator(np.random.Philox(7))
    directions = rng.standard_normal((5, 64))
    directions /= np.linalg.norm(directions, axis=0)
    wanted = metrics.sliced_wasserstein(x.numpy(), y.numpy(), projections=64, seed=7)
    found = sliced_wasserstein(x, y, torch.as_tensor(directions, dtype=torch.float32))
    assert math.sqrt(float(found)) == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(ValueError, match="equal shapes"):
        sliced_wasserstein(x, y[:-1], torch.ones(5, 1))


def test_directions_have_unit_length() -> None:
    directions = unit_directions(9, 20, torch.Generator().manual_seed(0))
    assert directions.norm(dim=0).numpy() == pytest.approx(1.0, abs=1e-6)


def test_median_distance_is_numpys() -> None:
    (y,) = _clouds(5, 30)
    pairs = [float((a - b).norm()) for a, b in itertools.combinations(y, 2)]
    # torch takes the lower of two middle values
    assert median_distance(y) == pytest.approx(sorted(pairs)[(len(pairs) - 1) // 2], rel=1e-6)


@pytest.mark.parametrize("distance", ["mmd", "energy", "sliced"])
def test_equal_clouds_pull_at_nothing_and_others_do(distance: str) -> None:
    x, y = _clouds(6, 300, 300)
    y = y - 0.3  # the same law now

    def of(a: torch.Tensor, b: torch.Tensor) -> float:
        if distance == "mmd":
            return float(mmd(a, b, (3.0,)))
        if distance == "energy":
            return float(energy(a, b))
        return float(sliced_wasserstein(a, b, unit_directions(5, 50, torch.Generator().manual_seed(0))))

    assert of(x, y + 1.0) > 20 * abs(of(x, y))


def test_gradient_penalty_of_a_linear_critic_is_analytic() -> None:
    weights = torch.tensor([[3.0], [4.0]])  # slope 5 everywhere
    real, made = _clouds(7, 8, 8, dim=2)
    found = gradient_penalty(lambda x: x @ weights, real, made, torch.rand(8, 1))
    assert float(found) == pytest.approx((5.0 - 1.0) ** 2, rel=1e-6)


def test_gradient_penalty_is_what_autograd_gives_row_by_row() -> None:
    draw = torch.Generator().manual_seed(0)
    critic = make_critic(4, CriticSettings(widths=(7, 6)), draw)
    real, made = _clouds(8, 5, 5, dim=4)
    share = torch.rand(5, 1, generator=draw)
    between = share * real + (1 - share) * made
    slopes = [torch.autograd.functional.jacobian(lambda p: critic(p[None])[0, 0], row) for row in between]
    wanted = np.mean([(float(slope.norm()) - 1) ** 2 for slope in slopes])
    found = gradient_penalty(critic, real, made, share)
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-5)
    torch.autograd.backward(found)  # it trains the critic
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in critic.parameters())


def test_a_critic_learns_to_tell_two_clouds_apart() -> None:
    real, made = _clouds(9, 64, 64, dim=3)
    made = made + 2.0
    settings = CriticSettings(widths=(16,), learning_rate=5e-3)
    game = CriticGame(3, settings, torch.Generator().manual_seed(1), "cpu")
    gaps = [game.update(real, made) for _ in range(150)]
    # with slopes near 1 the gap approaches the distance of the means
    assert gaps[-1] > 1.5 > abs(gaps[0])
    assert gaps[-1] < 1.5 * float((real.mean(0) - made.mean(0)).norm())
