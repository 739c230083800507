"""An exactly solvable machine: Gaussian data, whose denoiser, settle and ODE have closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest


class GaussianMachine:
    """D(x; s) = x sd^2 / (sd^2 + s^2); z = c + g D(z; s) solved by division. Keeps what it was asked."""

    def __init__(self, sd=1.0):
        self.sd = sd
        self.settles, self.evaluations = [], []

    def factor(self, sigma):
        return self.sd**2 / (self.sd**2 + sigma**2)

    def denoise(self, x, sigma):
        self.evaluations.append((x, sigma))
        return self.factor(sigma) * x

    def settle(self, c, g, sigma, start):
        z = c / (1 - g * self.factor(sigma))
        self.settles.append((c, g, sigma, start, z))
        return z

    def exact(self, x, sigma, sigma_next):
        """The ODE's own solution."""
        return x * math.sqrt((self.sd**2 + sigma_next**2) / (self.sd**2 + sigma**2))


@pytest.fixture
def gaussian():
    """Factory of Gaussian machines."""
    return GaussianMachine


@pytest.fixture
def final_state():
    """Run a sampler; the state at sigma_min (before the final denoise)."""

    def run(sampler, machine, x, seed=0):
        seen = []
        ids = np.arange(len(x))
        sampler.run(machine, x, sample_id=ids, seed=seed, observe=lambda s: seen.append(s.x))
        return seen[-2]

    return run
