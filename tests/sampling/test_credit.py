"""Noise credit: levels that count what a settle adds, evaluations below, corrected by what was measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.devices import ConfigError
from labctl.sampling import (
    CreditedSampler,
    EvaluationError,
    asks_of,
    axis_noise,
    credited_sampler,
    scheme,
    start_noise,
)

MIDPOINT = scheme("implicit-midpoint")


class NoisyMachine:
    """The exactly solvable machine, with read noise of one size on every settle."""

    def __init__(self, exact, sd, seed=3):
        self.exact, self.sd = exact, sd
        self.rng = np.random.Generator(np.random.Philox(key=seed))

    def settle(self, c, g, sigma, start):
        z = self.exact.settle(c, g, sigma, start)
        return z + self.sd * self.rng.normal(size=z.shape)

    def denoise(self, x, sigma):
        return self.exact.denoise(x, sigma)


class Known:
    """A probe that knows the machine's read noise (sd on the first axis, `ratio` times that on the second);
    evaluations are exact.
    """

    def __init__(self, sd, ratio=1.0):
        self.covariance = np.diag([sd**2, (ratio * sd) ** 2])

    def state_noise(self, scheme, sigma, sigma_next):
        return self.covariance * (1 + math.sqrt(sigma_next / sigma)) ** 2

    def evaluation_error(self, sigma):
        return EvaluationError()


def run(sampler, machine, batch=30_000, sd=1.0):
    ids = np.arange(batch)
    x = start_noise(ids, 2, seed=1, sigma_max=float(sampler.sigmas[0]), sigma_data=sd)
    seen = []
    sampler.run(machine, x, sample_id=ids, seed=2, observe=seen.append)
    return seen


def test_the_credited_level_is_the_noise_that_is_there(gaussian):
    """x has variance 1 + level^2 after every step; uncredited, the last would have far more than sigma'."""
    sampler = credited_sampler(Known(0.1), MIDPOINT, "log", 24, 10.0, 0.05)
    for at in run(sampler, NoisyMachine(gaussian(1.0), 0.1))[:-1]:
        assert at.x.var() == pytest.approx(1 + at.sigma_next**2, rel=0.04), at.step


def test_levels_follow_the_noise():
    sampler = credited_sampler(Known(0.1), MIDPOINT, "flow", 8, 10.0, 0.06)
    assert sampler.settled == 4
    assert sampler.level(4) == pytest.approx(math.hypot(sampler.sigmas[4], axis_noise(sampler.noise[3])))
    assert 0.1 < axis_noise(sampler.noise[-1]) < 0.2 < sampler.sigmas[4]
    kinds = [ask.kind for ask in asks_of(sampler)]
    assert kinds == ["implicit"] * 4 + ["evaluate"] * 5
    levels = [sampler.level(k) for k in range(9)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] >= 0.06 - 1e-12


def test_unequal_noise_counts_with_the_mean_variance_of_an_axis():
    sampler = credited_sampler(Known(0.1, ratio=2.0), MIDPOINT, "flow", 8, 10.0, 0.06)
    both = np.diag(sampler.noise[0])
    assert both[1] == pytest.approx(4 * both[0])
    assert sampler.level(1) ** 2 == pytest.approx(sampler.sigmas[1] ** 2 + both.mean())


def test_without_noise_every_step_settles_on_the_plain_levels():
    sampler = credited_sampler(Known(0.0), MIDPOINT, "flow", 8, 10.0, 0.06)
    assert sampler.settled == 8
    assert sampler.level(8) == pytest.approx(0.06)
    assert [ask.kind for ask in asks_of(sampler)] == ["implicit"] * 8 + ["evaluate"]


def test_a_mean_error_is_taken_out():
    rng = np.random.Generator(np.random.Philox(key=5))
    x, true = rng.normal(size=(2, 50, 3))
    error = EvaluationError(-0.02, 0.15)
    seen = true + error.on_denoised * true + error.on_residual * (x - true)
    np.testing.assert_allclose(error.corrected(seen, x), true, atol=1e-12)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="steps is 1; allowed with noise credit: 2 or more"):
        credited_sampler(Known(0.1), MIDPOINT, "flow", 1, 10.0, 0.06)
    with pytest.raises(ConfigError, match=r"the machine adds .* at the last settle; allowed: below 7\.14"):
        credited_sampler(Known(9.0), MIDPOINT, "flow", 8, 10.0, 0.06)
    with pytest.raises(ConfigError, match="scheme 'ddim'; allowed: 0, 'denoise', implicit-midpoint"):
        CreditedSampler(scheme("ddim"), np.array([1.0, 0.1]), noise=(), errors=(EvaluationError(),) * 2)
    with pytest.raises(ConfigError, match="1 evaluation errors; allowed: 2"):
        CreditedSampler(
            MIDPOINT, np.array([1.0, 0.5, 0.1]), noise=(0.01 * np.eye(2),), errors=(EvaluationError(),)
        )
