"""The gain ramp against the onset that the twin's true parameters have; what happens where it overshoots."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from labctl_calibration import calibrate_open_loop, gain_ramp
from labctl_calibration.closed_loop import measure_rows
from labctl_calibration.effective_map import measure_map
from labctl_calibration.gain_ramp import SAFE, ramp_gain
from labctl_calibration.panel_bringup import bring_up_panel
from scipy.optimize import brentq

from labctl.devices import DeviceFault
from labctl.programs import encode_frame

N = 48


@pytest.fixture(scope="module")
def measured(panels):
    """Records of the panel and the rows of a unit, measured once: measured(unit_seed, profile)."""

    @cache
    def make(unit_seed, profile):
        _, modulator, electronics = panels.opened(unit_seed, profile=profile)
        record = bring_up_panel(modulator, electronics).record
        show_dense(modulator, electronics, record)
        return record, measure_rows(electronics, measure_map(electronics, probes=1200))

    return make


def show_dense(modulator, electronics, record):
    """A dense random frame, and the offsets nulled on it."""
    dense = np.random.default_rng(0).choice([-1.0, -0.5, 0.5, 1.0], size=(N, N))
    modulator.show(encode_frame(dense, modulator.spec, record).levels)
    calibrate_open_loop(electronics)


@pytest.fixture
def ready(panels, measured):
    """Factory: (bench, modulator, electronics, panel's record, rows); the records are of its unit."""

    def make(unit_seed=1, *, profile, **how):
        bench, modulator, electronics = panels.opened(unit_seed, profile=profile, **how)
        record, rows = measured(unit_seed, profile)
        show_dense(modulator, electronics, record)
        return bench, modulator, electronics, record, rows

    return make


def true_onset(bench, ring):
    """Loop gain, as asked, at which a ring of three rows with true leaks, gains, time constants and delay
    would oscillate: prod (i w tau + leak) = -(prod of gains) exp(-3 i w trip)."""
    truth = bench.truth()
    loop = truth.law.loop
    tau = np.broadcast_to(truth.tau_us, N)[list(ring)]
    leak = (loop.leak_scale + loop.leak_offset).numpy() * np.ones(N)
    scale = loop.scale.numpy() * np.ones(N)
    leak, scale = leak[list(ring)], scale[list(ring)]

    def phase(w):
        return np.angle(1j * w * tau + leak).sum() + 3 * w * truth.trip_us - np.pi

    w = brentq(phase, 0.1 / tau.mean(), 5 / tau.mean())
    return float((np.abs(1j * w * tau + leak).prod() / scale.prod()) ** (1 / 3)), w / (2 * np.pi)


@pytest.mark.parametrize(
    ("profile", "unit_seed"),
    [("adm", 1), *(pytest.param("unit", seed, marks=pytest.mark.slow) for seed in (1, 2))],
)
def test_the_onset_is_foreseen_and_not_reached(ready, profile, unit_seed, no_damage):
    bench, modulator, electronics, record, rows = ready(unit_seed, profile=profile)
    before = modulator.shown()
    margin = ramp_gain(modulator, electronics, record, rows)
    order = record.array("channel_order").astype(int)
    lives = order[record.array("dead_channels")[order] == 0]
    onsets = [true_onset(bench, ring) for ring in lives[: len(lives) // 3 * 3].reshape(-1, 3)]
    lowest, frequency = min(onsets)
    assert margin.onset == pytest.approx(lowest, rel=0.07)
    assert margin.frequency_mhz == pytest.approx(frequency, rel=0.15)
    assert margin.reached < 0.9 * lowest
    assert margin.safe == pytest.approx(SAFE * margin.onset)
    assert not margin.oscillated
    decays = [step.decay for step in margin.steps]
    assert all(later < earlier for earlier, later in pairwise(decays))
    np.testing.assert_array_equal(modulator.shown(), before)
    assert no_damage == []
    stored = margin.record(electronics.open())
    assert stored.array("safe_loop_gain")[0] == margin.safe
    assert "safe maximum" in margin.finding


def test_an_oscillation_is_ended_at_once_and_said(ready, no_damage):
    """A ramp that takes too large a step meets it: gain off in the next settle, the last good gain kept."""
    _, modulator, electronics, record, rows = ready(profile="adm")
    asked = []
    settle = electronics.settle

    def noted(codes, **how):
        asked.append(int(codes.gain.max()))
        return settle(codes, **how)

    electronics.settle = noted
    margin = ramp_gain(modulator, electronics, record, rows, factor=6.0)
    assert margin.oscillated
    assert asked[-1] == 0
    assert 0 < asked[-3] < asked[-2]
    assert [step.quiet for step in margin.steps] == [True, False]
    assert margin.safe == pytest.approx(SAFE * 0.5)
    assert margin.finding.startswith("oscillation at 0.")
    assert "turned off at once" in margin.finding
    assert no_damage == []


def test_gains_that_do_not_reach_so_far_are_said(ready):
    _, modulator, electronics, record, rows = ready(profile="adm", hidden_gain_range=[0.02, 0.8])
    margin = ramp_gain(modulator, electronics, record, rows)
    assert margin.safe == margin.reached
    assert margin.reached == pytest.approx(0.8, rel=0.15)
    assert "as far as the rows' gains go" in margin.finding


def test_a_loop_that_oscillates_from_the_start_is_one_fault(ready, monkeypatch, no_damage):
    _, modulator, electronics, record, rows = ready(profile="adm")
    monkeypatch.setattr(gain_ramp, "FIRST", 3.0)
    with pytest.raises(DeviceFault, match=r"oscillates at 0\.\d+ MHz at the first loop gain .* allowed"):
        ramp_gain(modulator, electronics, record, rows)
    assert no_damage == []
