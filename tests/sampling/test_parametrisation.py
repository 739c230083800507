"""EDM, flow-matching and VP networks are one denoiser in three coats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.sampling import (
    SCHEMES,
    HostMachine,
    Preconditioning,
    RowTables,
    Sampler,
    scheme,
    sigmas,
)

KINDS = ("edm", "flow", "vp")
TRUE_SD = 0.6  # of the data; the networks below believe in 1


class GaussianNetwork:
    """The optimal F of each kind for Gaussian data, for |u| so small that tanh is linear."""

    sizes, n_classes = (2, 2), 0

    def __init__(self, kind):
        self.kind = kind
        self.preconditioning = Preconditioning(kind)

    def weights(self):
        return [np.eye(2), np.eye(2)]

    def slope(self, sigma):
        """F per u = c_in x, from each paper's own target in its own coordinates."""
        variance = TRUE_SD**2
        x_per_u = math.sqrt(sigma**2 + 1)
        if self.kind == "flow":  # -E[e - x0 | x_t], x_t = (1 - t) x0 + t e = x / (1 + sigma)
            t = sigma / (1 + sigma)
            velocity = (t - (1 - t) * variance) / ((1 - t) ** 2 * variance + t**2)
            return -velocity * x_per_u / (1 + sigma)
        if self.kind == "vp":  # -E[e | x]
            return -sigma / (variance + sigma**2) * x_per_u
        # edm: (E[x0 | x] - c_skip x) / c_out, Karras et al. 2022, table 1, sigma_data = 1
        denoised = variance / (variance + sigma**2)
        return (denoised - 1 / (sigma**2 + 1)) * math.sqrt(sigma**2 + 1) / sigma * x_per_u

    def rows(self, sigma):
        zero = np.zeros((1, 2))
        return RowTables((np.ones((1, 2)), np.full((1, 2), self.slope(sigma))), (zero, zero))


@pytest.mark.parametrize("kind", KINDS)
@given(sigma=st.floats(0.02, 50.0))
def test_the_optimal_network_of_each_kind_gives_the_posterior_mean(kind, sigma):
    x = np.array([[1e-5, -3e-5]])
    expected = TRUE_SD**2 / (TRUE_SD**2 + sigma**2) * x
    np.testing.assert_allclose(HostMachine(GaussianNetwork(kind)).denoise(x, sigma), expected, rtol=1e-6)


@pytest.mark.parametrize("name", SCHEMES)
def test_equivalent_networks_give_the_same_samples(name):
    sampler = Sampler(scheme(name), sigmas("flow", 6, 10.0, 0.1))
    x = np.array([[1e-5, -3e-5], [2e-5, 1e-5]])
    runs = [
        sampler.run(HostMachine(GaussianNetwork(kind)), x, sample_id=np.arange(2), seed=0) for kind in KINDS
    ]
    np.testing.assert_allclose(runs[1], runs[0], rtol=1e-5)
    np.testing.assert_allclose(runs[2], runs[0], rtol=1e-5)


@given(kind=st.sampled_from(KINDS), sigma=st.floats(1e-3, 100.0), sd=st.floats(0.1, 5.0))
def test_u_has_unit_variance_and_row_gains_stay_positive(kind, sigma, sd):
    c_skip, c_out, c_in = Preconditioning(kind, sd).coefficients(sigma)
    assert c_in**2 * (sigma**2 + sd**2) == pytest.approx(1.0)
    assert c_out > 0
    assert 0 <= c_skip <= 1  # so that no leak 1 - g c_skip is negative or above 1


def test_coefficients_are_karras_table_1():
    c_skip, c_out, c_in = Preconditioning("edm", 0.5).coefficients(2.0)
    assert c_skip == pytest.approx(0.25 / 4.25)
    assert c_out == pytest.approx(1.0 / math.sqrt(4.25))
    assert c_in == pytest.approx(1 / math.sqrt(4.25))
