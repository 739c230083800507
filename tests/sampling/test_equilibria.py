"""Whole steps as equilibria: coordinates, levels, and the linear denoiser that stands beside."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.devices import ConfigError, ProgramError
from labctl.programs.pixel_maps import RAD_PER_PIXEL
from labctl.sampling import (
    AnchoredChain,
    EquilibriumMachine,
    Sampler,
    alpha_of,
    cosine_levels,
    scheme,
    start_noise,
)
from labctl.sampling.gaussian import WienerMachine

IDS = np.arange(6)


def chain_of(levels: int = 4, *, shared: bool = False, hidden: int = 2) -> AnchoredChain:
    return AnchoredChain(
        sigmas=cosine_levels(levels, 10.0),
        strength=np.full((levels, 3), 1.5),
        visible=np.arange(3),
        n=3 + hidden,
        segments=np.zeros(levels, np.int64) if shared else np.arange(levels),
    )


class Still:
    """Oscillators that stay at their anchors."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def rest(self, level, segment, start, anchors):
        self.asked.append((level, segment))
        np.testing.assert_allclose(np.arctan2(*anchors)[:, :3], np.angle(np.exp(1j * start[:, :3])))
        np.testing.assert_allclose(np.hypot(*anchors)[:, :3], 1.5)
        assert not np.any([part[:, 3:] for part in (start, *anchors)])
        return start


def run(chain: AnchoredChain, settler, sampler: Sampler | None = None):
    sampler = sampler or chain.sampler()
    start = chain.start(IDS, seed=3)
    return start, sampler.run(EquilibriumMachine(chain, settler), start, sample_id=IDS, seed=3)


@pytest.mark.parametrize("shared", [False, True])
def test_what_stays_at_its_anchor_keeps_its_phase_through_all_levels(shared) -> None:
    """Without couplings x_VP stays: in the sampler's coordinates x shrinks by the ratio of the alphas."""
    chain, still = chain_of(shared=shared), Still()
    start, out = run(chain, still)
    phase = RAD_PER_PIXEL * alpha_of(float(chain.sigmas[0])) * start
    np.testing.assert_allclose(out, np.angle(np.exp(1j * phase)) / RAD_PER_PIXEL, rtol=1e-9)
    assert still.asked == [(k, 0 if shared else k) for k in range(4)]


def test_levels_are_uniform_in_the_angle_and_end_without_noise() -> None:
    np.testing.assert_allclose(np.arctan(cosine_levels(5, np.tan(1.5))), [1.5, 1.2, 0.9, 0.6, 0.3, 0])
    with pytest.raises(ConfigError, match="levels is 1; allowed: 2 or more"):
        cosine_levels(1, 10.0)


def test_another_scheme_or_another_schedule_is_refused() -> None:
    chain = chain_of()
    x = np.ones((6, 3))
    with pytest.raises(ConfigError, match="allowed on oscillators: implicit-euler"):
        EquilibriumMachine(chain, Still()).settle(0.5 * x, 0.2, 1.0, x)
    with pytest.raises(ConfigError, match=r"no level goes from sigma 10 to 4\.45"):
        run(chain, Still(), Sampler(scheme("implicit-midpoint"), chain.sigmas[:-1]))
    with pytest.raises(ConfigError, match="no level goes from sigma 10 to 3"):
        run(chain, Still(), Sampler(scheme("implicit-euler"), np.array([10.0, 3.0, 1.0])))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sigmas": np.array([3.0, 1.0, 2.0, 0.5, 0.0])}, "5 levels that descend to 0"),
        ({"sigmas": np.array([3.0, 2.0, 1.0, 0.5, 0.1])}, "5 levels that descend to 0"),
        ({"strength": np.ones((4, 2))}, r"strength has shape \(4, 2\); allowed: \(4, 3\)"),
        ({"strength": np.zeros((4, 3))}, "above 0"),
    ],
)
def test_a_chain_that_makes_no_sense_is_refused(change, said) -> None:
    chain = chain_of()
    fields = {name: getattr(chain, name) for name in ("sigmas", "strength", "visible", "n", "segments")}
    with pytest.raises(ProgramError, match=said):
        AnchoredChain(**{**fields, **change})


@pytest.fixture
def gaussian():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(4000, 3)) @ rng.normal(size=(3, 3)) + [1.0, -2.0, 0.5]
    return data, WienerMachine.of(data)


def test_the_linear_denoiser_is_the_best_linear_one(gaussian) -> None:
    data, machine = gaussian
    sigma = 0.7
    noisy = data + sigma * np.random.default_rng(1).normal(size=data.shape)
    centred, wanted = noisy - noisy.mean(0), data - data.mean(0)
    best = np.linalg.lstsq(centred, wanted, rcond=None)[0]
    found = machine.denoise(noisy, sigma) - machine.denoise(noisy.mean(0)[None], sigma)
    np.testing.assert_allclose(found, centred @ best, atol=0.15)


def test_its_settle_is_a_root(gaussian) -> None:
    data, machine = gaussian
    c, g, sigma = data[:5], 0.6, 0.4
    z = machine.settle(c, g, sigma, c)
    np.testing.assert_allclose(z, c + g * machine.denoise(z, sigma), rtol=1e-10)


def test_its_sampler_ends_in_the_gaussian(gaussian) -> None:
    data, machine = gaussian
    ids = np.arange(4000)
    levels = cosine_levels(200, 50.0)[:-1]
    start = start_noise(ids, 3, seed=0, sigma_max=50.0)
    out = Sampler(scheme("ddim"), levels).run(machine, start, sample_id=ids, seed=0)
    np.testing.assert_allclose(out.mean(0), data.mean(0), atol=0.15)
    np.testing.assert_allclose(np.cov(out.T), np.cov(data.T), atol=0.4)
