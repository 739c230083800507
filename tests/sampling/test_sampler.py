"""The loop over steps: host noise, observers, pairing, the final denoise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.devices import ConfigError
from labctl.sampling import SCHEMES, Sampler, scheme, sigmas, start_noise

ONE_STEP = [name for name, card in SCHEMES.items() if card.one_step]


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["implicit-midpoint", "heun"])
def test_every_step_has_the_variance_of_noised_gaussian_data(gaussian, name, eta):
    """x at sigma' is data plus noise: variance sd^2 + sigma'^2 for any eta."""
    batch, sd = 30_000, 0.7
    ids = np.arange(batch)
    sampler = Sampler(scheme(name), sigmas("log", 40, 6.0, 0.05), eta=eta)
    x = start_noise(ids, 2, seed=1, sigma_max=6.0, sigma_data=sd)
    seen = []
    sampler.run(gaussian(sd), x, sample_id=ids, seed=2, observe=seen.append)
    bound = 5 * math.sqrt(2 / (2 * batch)) + 4e-3
    for at in seen[:-1]:
        assert at.x.var() == pytest.approx(sd**2 + at.sigma_next**2, rel=bound)
    correlation = np.corrcoef(seen[-1].x[:, 0], x[:, 0])[0, 1]
    assert correlation > 0.999 if eta == 0 else correlation < 0.999


def test_fresh_noise_has_the_published_size():
    """sigma_up = eta sigma' sqrt(1 - rho^2) (Song et al. 2020, eq. 16, in EDM coordinates)."""
    sampler = Sampler(scheme("ddim"), np.array([5.0, 3.0, 1.0]), eta=0.5)
    down, up = sampler.split(0)
    assert up == pytest.approx(0.5 * 3 * 0.8)
    assert math.hypot(down, up) == pytest.approx(3.0)
    assert Sampler(scheme("ddim"), np.array([5.0, 3.0]), eta=1.0).split(0)[0] == pytest.approx(9 / 5)
    assert Sampler(scheme("ddim"), np.array([5.0, 3.0])).split(0) == (3.0, 0.0)


def test_steps_draw_independent_noise(gaussian):
    ids = np.arange(5000)
    sampler = Sampler(scheme("ddim"), np.array([5.0, 3.0, 1.0]), eta=1.0)
    seen = []
    sampler.run(gaussian(), np.zeros((5000, 2)), sample_id=ids, seed=3, observe=lambda s: seen.append(s.x))
    first = seen[0]
    rho_down, factor = (1 / 3) / 3, 1 / (1 + 9)
    second = seen[1] - (rho_down + (1 - rho_down) * factor) * first
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / math.sqrt(10_000)


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("name", ONE_STEP)
def test_observers_change_nothing(gaussian, name, eta):
    sampler = Sampler(scheme(name), sigmas("flow", 5, 6.0, 0.1), eta=eta)
    ids = np.arange(8)
    x = start_noise(ids, 3, seed=1, sigma_max=6.0)
    plain = sampler.run(gaussian(), x, sample_id=ids, seed=4)
    seen = []
    watched = sampler.run(gaussian(), x, sample_id=ids, seed=4, observe=seen.append)
    np.testing.assert_array_equal(plain, watched)
    assert [s.step for s in seen] == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal([s.sigma for s in seen], sampler.sigmas)
    np.testing.assert_array_equal([s.sigma_next for s in seen], [*sampler.sigmas[1:], 0.0])
    np.testing.assert_array_equal(seen[-1].x, watched)


@pytest.mark.parametrize("name", ["implicit-midpoint", "ddim"])
def test_a_sample_is_the_same_in_any_batch(gaussian, name):
    sampler = Sampler(scheme(name), sigmas("flow", 5, 6.0, 0.1), eta=0.8)

    def run(ids):
        x = start_noise(ids, 3, seed=1, sigma_max=6.0)
        return sampler.run(gaussian(), x, sample_id=ids, seed=4)

    together = run(np.arange(30))
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_array_equal(run(order), together[order])
    np.testing.assert_array_equal(run(np.array([11])), together[[11]])
    assert (run(np.arange(30, 60)) != together).all()


def test_the_samplers_seed_is_its_own(gaussian):
    sampler = Sampler(scheme("ddim"), sigmas("flow", 5, 6.0, 0.1), eta=0.8)
    ids = np.arange(4)
    x = start_noise(ids, 2, seed=1, sigma_max=6.0)
    runs = [sampler.run(gaussian(), x, sample_id=ids, seed=s) for s in (4, 4, 5)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).all()


def test_start_noise_is_paired_and_has_the_noised_datas_variance():
    ids = np.arange(40_000)
    x = start_noise(ids, 2, seed=5, sigma_max=10.0)
    assert x.var() == pytest.approx(101.0, rel=5 * math.sqrt(2 / 80_000))
    wide = start_noise(ids, 2, seed=5, sigma_max=3.0, sigma_data=4.0)
    np.testing.assert_allclose(wide / 5.0, x / math.sqrt(101.0), rtol=1e-12)
    np.testing.assert_array_equal(start_noise(ids[7:9], 2, seed=5, sigma_max=10.0), x[7:9])
    assert (start_noise(ids, 2, seed=6, sigma_max=10.0) != x).mean() > 0.99
    assert x.dtype == np.float64


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_an_eta_outside_zero_to_one_is_refused(eta):
    with pytest.raises(ConfigError, match=f"eta is {eta}; allowed: 0 to 1"):
        Sampler(scheme("ddim"), np.array([2.0, 1.0]), eta=eta)


@pytest.mark.parametrize("name", sorted(set(SCHEMES) - set(ONE_STEP)))
def test_schemes_with_memory_take_no_fresh_noise(name):
    with pytest.raises(ConfigError, match=r"eta is 0\.5, but .* reuses earlier slopes"):
        Sampler(scheme(name), np.array([2.0, 1.0]), eta=0.5)
