"""A map corrected by settles at rest: planted errors are found, noise is not taken in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from labctl_calibration.operating import Operated, corrected, known

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
    return queued(z, y)


def queued(z, y):
    """In two queues of settles that are 36 us apart."""
    half = len(z) // 2
    queue = np.repeat([0, 1], [half, len(z) - half])
    return Operated(
        z, y, np.ones_like(z), queue, 36.0 * np.concatenate([np.arange(half), np.arange(len(z) - half)])
    )


def wrong(light, size):
    rng = np.random.default_rng(3)
    powers = light.powers.clone()
    powers[0] += torch.from_numpy(rng.normal(0, size, (N, N)))
    return replace(light, powers=powers, offset=light.offset + 0.02)


def test_planted_errors_of_weights_and_offsets_are_found(light):
    true = wrong(light, 0.01)
    found = corrected(light, seen_of(true, 2000, 0.005))
    assert float((found.powers[0] - true.powers[0]).std()) < 5e-4
    assert float((found.offset - true.offset).abs().max()) < 1e-3


def test_a_map_that_is_right_stays_right(light):
    """However noisy the settles are: the prior holds it."""
    found = corrected(light, seen_of(light, 100, 0.3))
    assert float((found.powers[0] - light.powers[0]).abs().max()) < 0.02
    assert float((found.offset - light.offset).abs().max()) < 0.04


def test_what_is_left_uncertain_is_what_errors_scatter_by(light):
    """Errors over stated uncertainties, in the directions that the covariance tells apart: rms of 1."""
    true = wrong(light, 0.01)
    found = known(light, seen_of(true, 300, 0.05))
    missed, offset = true.powers[0] - found.light.powers[0], true.offset - found.light.offset
    white = np.linalg.solve(found.root, torch.cat([missed, offset[:, None]], 1).numpy()[:, :, None])
    assert 0.85 < float(np.sqrt((white**2).mean())) < 1.2


def test_flicker_does_not_pass_for_weights(light):
    """States that follow the light explain it too well, until each row's own wave is fitted beside them."""
    rng, settles = np.random.default_rng(6), 1200
    z = rng.normal(0, 1.0, (settles, N))
    seen = queued(z, z)
    turns = 2 * np.pi * (460e-6 * seen.time_us + np.where(seen.queue, 0.3, 0.8))
    swing = 0.05 * np.sin(turns)[:, None] * rng.choice([-1.0, 1.0], N)
    z = z + 2 * swing
    y = light(torch.from_numpy(z)).numpy() + swing + 0.002 * rng.standard_normal((settles, N))
    seen = queued(z, y)

    def moved(found):
        return float((found.light.powers[0] - light.powers[0]).std())

    taken_in, beside = known(light, seen), known(light, seen, lines_hz=np.array([460.0]))
    assert moved(taken_in) > 8 * moved(beside)
    assert moved(beside) < 2e-4
    missed = torch.cat([light.powers[0] - beside.light.powers[0],
                        (light.offset - beside.light.offset)[:, None]], 1).numpy()  # fmt: skip
    white = np.linalg.solve(beside.root, missed[:, :, None])
    assert 0.85 < float(np.sqrt((white**2).mean())) < 1.2


def test_rows_that_say_nothing_are_left_alone(light):
    seen = seen_of(wrong(light, 0.01), 500, 0.001)
    weight = seen.weight.copy()
    weight[:, 4] = 0
    found = corrected(light, replace(seen, weight=weight))
    assert torch.equal(found.powers[:, 4], light.powers[:, 4])
    assert not torch.equal(found.powers[:, 5], light.powers[:, 5])
