"""What carries a chain without the host says the same as the scheme that the host would step."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.devices import ConfigError
from labctl.sampling import CHAIN_RULES, SCHEMES, Sampler, fresh_noise, scheme, sigmas, updates_of

START = np.array([[1.0, -2.0], [0.3, 0.7]]) * 5
IDS = np.arange(2)


def stepped(name, gaussian, eta=0.0, steps=6):
    """(machine, states after each step, D at the end) of the host-stepped run."""
    machine, seen = gaussian(0.8), []
    sampler = Sampler(scheme(name), sigmas("flow", steps, 8.0, 0.2), eta, "last-settle")
    end = sampler.run(machine, START, sample_id=IDS, seed=5, observe=seen.append)
    return sampler, machine, [s.x for s in seen], end


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("name", CHAIN_RULES)
def test_updates_reproduce_every_injection_and_start(gaussian, name, eta):
    if eta and not SCHEMES[name].one_step:
        return
    sampler, machine, states, _ = stepped(name, gaussian, eta)
    updates = updates_of(sampler)
    assert len(updates) == len(machine.settles) == 6
    for k, update in enumerate(updates):
        c, _, _, _, z = machine.settles[k]
        noise = np.zeros_like(c)
        if eta:
            noise = fresh_noise(IDS, 2, seed=5, step=k, sigma_up=update.sigma_up)
            assert np.abs(noise).max() > 0
        x = update.e * z + update.f * c + noise
        np.testing.assert_allclose(x, states[k], rtol=1e-12)
        if k + 1 < len(updates):
            np.testing.assert_allclose(machine.settles[k + 1][3], x, rtol=1e-12)
            given = update.p * z + update.q * c + update.w * noise
            np.testing.assert_allclose(machine.settles[k + 1][0], given, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", CHAIN_RULES)
def test_the_last_settle_knows_the_denoiser_at_its_root(gaussian, name):
    _, machine, _, end = stepped(name, gaussian)
    _, _, sigma, _, z = machine.settles[-1]
    np.testing.assert_allclose(end, machine.factor(sigma) * z, rtol=1e-12)
    assert not [s for _, s in machine.evaluations if s == 0.2]  # no denoise at sigma_min was paid for


@pytest.mark.parametrize("name", sorted(set(SCHEMES) - set(CHAIN_RULES)))
def test_schemes_that_need_the_host_say_so(name):
    levels = sigmas("flow", 4, 8.0, 0.2)
    with pytest.raises(ConfigError, match=f"scheme '{name.replace('+', '.')}' needs the host"):
        updates_of(Sampler(scheme(name), levels))
    if not SCHEMES[name].settles:
        with pytest.raises(ConfigError, match=r"ending is 'last-settle', but .* never settles"):
            Sampler(scheme(name), levels, ending="last-settle")
