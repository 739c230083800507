"""Random loops, random oscillators, and solvers that share no code with labctl.physics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from labctl.physics import LoopLaw
from labctl.physics.oscillators import Edges, OscillatorLaw


class Net:
    """A loop in plain numpy: tau dz/dt = -leak z + gain W tanh(z) + bias, time in tau."""

    def __init__(self, n=12, batch=4, *, strength=0.8, seed=0):
        rng = np.random.default_rng(seed)
        self.weights = strength * rng.normal(size=(n, n)) / np.sqrt(n)
        self.gain = rng.uniform(0.5, 1.0, (1, n))
        self.leak = rng.uniform(0.7, 1.0, (1, n))
        self.bias = rng.normal(size=(batch, n))
        self.start = rng.normal(size=(batch, n))

    @property
    def law(self):
        return LoopLaw(*(torch.from_numpy(a) for a in (self.weights, self.gain, self.leak, self.bias)))

    @property
    def z0(self):
        return torch.from_numpy(self.start.copy())

    def forcing(self, z):
        return self.gain * (np.tanh(z) @ self.weights.T) + self.bias

    def flow(self, times):
        """States [len(times), B, n] by DOP853 at tight tolerance."""
        shape = self.start.shape

        def slope(_, flat):
            z = flat.reshape(shape)
            return (self.forcing(z) - self.leak * z).ravel()

        found = solve_ivp(
            slope, (0, times[-1]), self.start.ravel(), method="DOP853", t_eval=times, rtol=1e-12, atol=1e-13
        )
        return found.y.T.reshape(len(times), *shape)

    def delayed_flow(self, end, trip, steps):
        """State at `end` of dz/dt = -leak z + N(z(t - trip)), constant history; Heun, trip = whole steps."""
        dt = end / steps
        lag = round(trip / dt)
        assert abs(lag * dt - trip) < 1e-9
        past = [self.start] * (lag + 1)  # past[0] is z(t - trip)
        z = self.start
        for _ in range(steps):
            n0, n1 = self.forcing(past[0]), self.forcing(past[1]) if lag else None
            k0 = n0 - self.leak * z
            guess = z + dt * k0
            k1 = (n1 if lag else self.forcing(guess)) - self.leak * guess
            z = z + dt * (k0 + k1) / 2
            past = [*past[1:], z]
        return z


@pytest.fixture
def net():
    """Factory of random loops."""
    return Net


def _oscillators(n=9, share=0.5, segments=2, batch=3, seed=0, dtype=torch.float64, strength=0.5):
    """(edges, law, theta [B, n], (a, b) [B, n]) of oscillators with random directed edges."""
    rng = np.random.default_rng(seed)
    pairs = np.argwhere((rng.random((n, n)) < share) & ~np.eye(n, dtype=bool))
    edges = Edges.of_pairs(n, pairs[:, 0], pairs[:, 1])

    def table(width, size=1.0):
        return torch.from_numpy(size * rng.normal(size=(segments, width))).to(dtype)

    law = OscillatorLaw(table(len(edges), strength), table(n), table(n), table(n, 0.5), table(n, 0.5))
    theta = torch.from_numpy(rng.uniform(-np.pi, np.pi, (batch, n))).to(dtype)
    inject = tuple(torch.from_numpy(rng.normal(size=(batch, n))).to(dtype) for _ in range(2))
    return edges, law, theta, inject


@pytest.fixture
def oscillators():
    """Factory of random oscillators."""
    return _oscillators
