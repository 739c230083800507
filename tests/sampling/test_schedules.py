"""Noise levels: what every schedule promises and what each is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.devices import ConfigError
from labctl.sampling import alpha_of, sigma_of_time, sigmas, time_of_sigma

NAMES = ("flow", "edm", "log", "cosine")


@given(
    name=st.sampled_from(NAMES),
    steps=st.integers(1, 200),
    sigma_min=st.floats(1e-3, 1.0),
    span=st.floats(1.5, 1e4),
)
def test_levels_fall_strictly_between_exact_ends(name, steps, sigma_min, span):
    levels = sigmas(name, steps, sigma_min * span, sigma_min)
    assert levels.shape == (steps + 1,)
    assert levels.dtype == np.float64
    assert (levels[0], levels[-1]) == (sigma_min * span, sigma_min)
    assert (np.diff(levels) < 0).all()


def test_flow_is_uniform_in_flow_matching_time():
    levels = sigmas("flow", 4, 9.0, 0.25)  # t from 0.9 to 0.2
    np.testing.assert_allclose(levels / (1 + levels), [0.9, 0.725, 0.55, 0.375, 0.2], rtol=1e-12)


def test_log_has_one_ratio():
    np.testing.assert_allclose(sigmas("log", 3, 8.0, 1.0), [8, 4, 2, 1], rtol=1e-14)


def test_cosine_is_uniform_in_the_angle_whose_cosine_is_alpha():
    levels = sigmas("cosine", 2, math.tan(1.5), math.tan(0.3))
    np.testing.assert_allclose(np.arctan(levels), [1.5, 0.9, 0.3], rtol=1e-12)
    np.testing.assert_allclose([alpha_of(s) for s in levels], np.cos([1.5, 0.9, 0.3]), rtol=1e-12)


def test_edm_is_karras_equation_5():
    levels = sigmas("edm", 18, 80.0, 0.002)
    i = np.arange(19)
    expected = (80 ** (1 / 7) + i / 18 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(levels, expected, rtol=1e-12)
    np.testing.assert_allclose(sigmas("edm", 4, 5.0, 1.0, rho=1.0), [5, 4, 3, 2, 1], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(name, steps):
    with pytest.raises(ConfigError, match=f"steps is {steps}; allowed: 1 or more"):
        sigmas(name, steps, 10.0, 0.1)


@pytest.mark.parametrize(
    ("high", "low"),
    [(10.0, 0.0), (10.0, -0.1), (0.1, 10.0), (1.0, 1.0), (math.inf, 0.1), (math.nan, 0.1), (10.0, math.nan)],
)
def test_levels_out_of_order_are_refused(high, low):
    with pytest.raises(ConfigError, match=f"sigma_min is {low}, sigma_max {high}"):
        sigmas("flow", 4, high, low)


def test_an_unknown_schedule_names_the_known():
    with pytest.raises(ConfigError, match="schedule is 'linear'; allowed: flow, edm, log, cosine"):
        sigmas("linear", 4, 10.0, 0.1)


@given(t=st.floats(1e-6, 1 - 1e-6))
def test_time_and_sigma_are_inverse(t):
    assert time_of_sigma(sigma_of_time(t)) == pytest.approx(t, rel=1e-9)
