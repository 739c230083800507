"""Settle times on traces whose crossing is known, and cycles that averaging would hide."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.physics import LoopLaw, Settling, cycling, delayed_map, settle_times


@given(
    amplitude=st.floats(0.1, 100.0),
    tau=st.floats(0.2, 3.0),
    band=st.floats(1e-3, 0.05),
    sign=st.sampled_from([-1.0, 1.0]),
)
def test_an_exponential_settles_when_it_enters_the_band(amplitude, tau, band, sign):
    time = np.linspace(0, 60, 3001)
    trace = 0.7 + sign * amplitude * np.exp(-time / tau)
    found = settle_times(time, trace[:, None, None], np.array([[0.7]]), band)
    # linear interpolation on a convex curve: late by at most step^2 / (8 tau)
    assert found[0] == pytest.approx(tau * math.log(amplitude / band), abs=0.02**2 / (8 * tau) + 1e-9)


def test_the_last_entry_counts_and_the_worst_row():
    time = np.linspace(0, 30, 30_001)
    ringing = np.exp(-time / 4) * np.cos(2 * np.pi * time)
    quick = np.exp(-time)
    trace = np.stack([quick, ringing], axis=1)[:, None, :]
    found = settle_times(time, trace, np.zeros((1, 2)), 0.05)[0]
    last_outside = time[np.flatnonzero(np.abs(ringing) > 0.05)[-1]]
    assert found == pytest.approx(last_outside, abs=2e-3)
    assert found > math.log(20) + 1


def test_a_sample_still_moving_is_unsettled_and_one_at_rest_settled_at_once():
    time = np.linspace(0, 5, 51)
    drifting, resting = 10 - time, np.full(51, 0.001)
    trace = np.stack([drifting, resting], axis=1)[:, :, None]
    found = settle_times(time, trace, np.zeros((2, 1)), 0.01)
    assert math.isnan(found[0])
    assert found[1] == 0.0
    assert Settling(found, np.zeros(2)).unsettled_share == 0.5


def test_each_sample_has_its_own_time():
    time = np.linspace(0, 20, 2001)
    taus = np.array([0.5, 1.0, 2.0])
    trace = np.exp(-time[:, None] / taus)[:, :, None]
    np.testing.assert_allclose(
        settle_times(time, trace, np.zeros((3, 1)), 0.01), taus * math.log(100), atol=1e-3
    )


def test_a_cycle_that_averages_away_is_found_in_the_spread():
    """The period-2 cycle of the map: both halves of an even window have the mean of the fixed point."""
    import torch

    parts = [torch.tensor([[v]], dtype=torch.float64) for v in (-1.0, 1.5, 1.0, 0.0)]
    states = torch.stack(list(delayed_map(LoopLaw(*parts), torch.tensor([[0.3]]).double(), trips=440)))
    window = states[-40:, :, :].numpy()
    assert abs(window[:20].mean() - window[20:].mean()) < 1e-9
    assert cycling(window.std(axis=0), noise=0.004, band=0.038).all()


def test_noise_alone_is_no_cycle_and_a_cycle_in_one_row_is_enough():
    rng = np.random.default_rng(0)
    noise = 0.02
    window = noise * rng.normal(size=(40, 500, 3))
    assert not cycling(window.std(axis=0), noise=noise, band=0.038).any()
    window[:, 7, 1] += 0.3 * np.sin(np.arange(40))
    assert np.flatnonzero(cycling(window.std(axis=0), noise=noise, band=0.038)).tolist() == [7]
