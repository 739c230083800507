"""Shares of variance that a twin predicts: right whatever the noise, and with an honest error."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration.agreement import agreement

PROBES, N = 2000, 6


def runs(share, noise, seed=1):
    """Two noisy runs of signals whose prediction leaves 1 - share of their variance."""
    rng = np.random.default_rng(seed)
    predicted = rng.standard_normal((PROBES, N))
    missed = np.sqrt((1 - share) / share) * rng.standard_normal((PROBES, N))
    return [predicted + missed + noise * rng.standard_normal((PROBES, N)) for _ in range(2)], predicted


@pytest.mark.parametrize("noise", [0.0, 0.3, 3.0])
def test_noise_neither_helps_nor_hurts(noise):
    """Within four of its own standard errors, at noise ten times the misfit and more."""
    (first, second), predicted = runs(0.9, noise)
    found = agreement(first, second, predicted)
    assert abs(found.share - 0.9) < 4 * found.sd
    assert found.sd < 0.003 + 0.12 * noise**2 / np.sqrt(PROBES * N) * 10
    assert found.noise == pytest.approx(noise**2, rel=0.05)


def test_its_error_is_what_it_scatters_by():
    shares, errors = [], []
    for seed in range(40):
        (first, second), predicted = runs(0.95, 0.5, seed)
        found = agreement(first, second, predicted)
        shares.append(found.share)
        errors.append(found.sd)
    # 40 draws tell a standard deviation to 11%, 16 parts to 18%
    assert np.mean(errors) == pytest.approx(np.std(shares), rel=0.4)


def test_a_channel_that_is_not_predicted_is_seen():
    (first, second), predicted = runs(0.999, 0.1)
    predicted = predicted.copy()
    predicted[:, 2] = 0
    found = agreement(first, second, predicted)
    assert found.channels[2] < 0.1
    assert found.channels[3] > 0.99


def test_predictions_by_few_draws_neither_help_nor_hurt():
    """Means of two draws each, as noisy as the signal is large: unbiased, where one mean for both is not."""
    rng = np.random.default_rng(5)
    (first, second), predicted = runs(0.9, 0.3)
    one, other = (predicted + rng.standard_normal(predicted.shape) for _ in range(2))
    found = agreement(first, second, one, other)
    assert abs(found.share - 0.9) < 4 * found.sd
    assert agreement(first, second, one).share < 0.2
