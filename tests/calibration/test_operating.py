"""A map corrected by settles at rest: planted errors are found, noise is not taken in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from labctl_calibration.operating import Operated, known

from labctl.physics import FittedCurve, FittedMap

N = 12


@pytest.fixture
def light():
    rng = np.random.default_rng(1)
    return FittedMap(
        torch.from_numpy(rng.normal(0, 0.4, (3, N, N)) * np.array([1, 0.05, 0.02])[:, None, None]),
        FittedCurve.nominal(N),
        torch.from_numpy(rng.normal(0, 0.02, N)),
    )


def seen_of(true, settles, noise, seed=2):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.0, (settles, N))
    y = true(torch.from_numpy(z)).numpy() + noise * rng.standard_normal((settles, N))
    return Operated(z, y, np.ones((settles, N)))


def wrong(light, size):
    rng = np.random.default_rng(3)
    powers = light.powers.clone()
    powers[0] += torch.from_numpy(rng.normal(0, size, (N, N)))
    return replace(light, powers=powers, offset=light.offset + 0.02)


def test_planted_errors_of_weights_and_offsets_are_found(light):
    true = wrong(light, 0.01)
    found = known(light, seen_of(true, 2000, 0.005)).light
    assert float((found.powers[0] - true.powers[0]).std()) < 5e-4
    assert float((found.offset - true.offset).abs().max()) < 1e-3


def test_a_map_that_is_right_stays_right(light):
    """However noisy the settles are: the prior holds it."""
    found = known(light, seen_of(light, 100, 0.3)).light
    assert float((found.powers[0] - light.powers[0]).abs().max()) < 0.02
    assert float((found.offset - light.offset).abs().max()) < 0.04


def test_what_is_left_uncertain_is_what_errors_scatter_by(light):
    """Errors over stated uncertainties, in the directions that the covariance tells apart: rms of 1."""
    true = wrong(light, 0.01)
    found = known(light, seen_of(true, 300, 0.05))
    missed, offset = true.powers[0] - found.light.powers[0], true.offset - found.light.offset
    white = np.linalg.solve(found.root, torch.cat([missed, offset[:, None]], 1).numpy()[:, :, None])
    assert 0.85 < float(np.sqrt((white**2).mean())) < 1.2


def test_what_curves_the_light_is_found_where_it_is_asked_for(light):
    """Errors of every power: with first powers alone they stay, with all of them little is left, and no more
    than is stated.
    """
    true, rng = wrong(light, 0.01), np.random.default_rng(4)
    true.powers[1:] += torch.from_numpy(rng.normal(0, 0.03, (2, N, N)))
    seen, fresh = seen_of(true, 2000, 0.01), seen_of(true, 500, 0.0, seed=5)

    def missed(found):
        return float(np.sqrt(np.mean((found(torch.from_numpy(fresh.z)).numpy() - fresh.y) ** 2)))

    straight, curved = known(light, seen), known(light, seen, powers=3)
    assert missed(straight.light) > 0.03
    assert missed(curved.light) < 0.003
    drawn = [missed(curved.drawn(np.random.default_rng(k))) for k in range(20)]
    assert 0.7 < float(np.mean(drawn)) / (2**0.5 * missed(curved.light)) < 1.4


def test_rows_that_say_nothing_are_left_alone(light):
    seen = seen_of(wrong(light, 0.01), 500, 0.001)
    weight = seen.weight.copy()
    weight[:, 4] = 0
    found = known(light, replace(seen, weight=weight)).light
    assert torch.equal(found.powers[:, 4], light.powers[:, 4])
    assert not torch.equal(found.powers[:, 5], light.powers[:, 5])
