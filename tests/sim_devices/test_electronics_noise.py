"""Noise of the electronics twin, one term at a time, against formulas and where the conventions put it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.devices import SettleCodes

N, BATCH = 48, 2000
Q = 1.602176634e-19


def states(twin, *, gain=0.0, leak=1.0, window=False):
    """z [BATCH, n] at one instant long after release (or the window's mean); every row alike, bias 0."""
    spec = twin.electronics.spec
    codes = SettleCodes(
        bias=np.zeros((BATCH, N), np.int64),
        gain=spec.hidden_gain.code(np.full((1, N), gain)),
        leak=np.full((1, N), round(leak * spec.max_leak_code)),
        gain_range=np.ones(N, np.int64),
        start=np.zeros((BATCH, N), np.int64),
        step_id=0,
        sample_id=np.arange(BATCH),
    )
    readout = twin.electronics.settle(codes, wait_us=8 * spec.tau_us / leak, trace=not window)
    counts = readout.counts if window else readout.trace_counts[-1]
    return counts * spec.adc.units_per_code


def light(twin, cells):
    """Open single cells {(path, row, column)}; the panel of this profile turns at once."""
    profile = twin.bench.profile
    levels = np.zeros(profile.panel_shape_px, np.uint16)
    height, width = profile.cell_px
    for path, row, column in cells:
        top, left = profile.path_origin_px[path]
        y, x = top + row * height, left + column * width
        levels[y : y + height, x : x + width] = profile.panel_levels - 1
    twin.panel.show(levels)


def bound(draws):
    """Five standard deviations of a variance estimate, relative."""
    return 5 * math.sqrt(2 / draws)


@pytest.mark.parametrize("tau_us", [0.75, pytest.param(0.2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("leak", [1.0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_loop_noise_is_percent_of_full_scale_at_leak_one(twin, tau_us, leak):
    bench = twin(loop_noise_percent=1.0, tau_us=tau_us)
    z = states(bench, leak=leak)
    assert z.var() == pytest.approx(0.038**2 / leak, rel=bound(z.size) + 2e-3)
    assert np.abs(z.mean(axis=0)).max() < 5 * 0.038 / math.sqrt(leak * BATCH)
    assert np.abs(np.corrcoef(z.T) - np.eye(N)).max() < 6 / math.sqrt(BATCH)


def test_the_window_averages_noise_by_its_correlation_time(twin):
    """Mean of 40 samples of an Ornstein-Uhlenbeck process, 0.16 us apart."""
    bench = twin(loop_noise_percent=1.0)
    lag = np.abs(np.subtract.outer(np.arange(40), np.arange(40))) * 0.16 / 0.75
    expected = 0.038**2 * np.exp(-lag).mean()
    assert expected < 0.038**2 / 3
    z = states(bench, window=True)
    assert z.var() == pytest.approx(expected, rel=bound(z.size) + 5e-3)


@pytest.mark.parametrize(("gain", "leak"), [(1.0, 1.0), (5.0, 0.5)])
def test_detector_noise_needs_no_light_and_goes_through_the_gain(twin, gain, leak):
    bench = twin(detector_pa_rthz=20.0, photocurrent_ua=0.5)
    applied = bench.electronics.spec.hidden_gain
    gain = applied.value(applied.code(np.array([gain])))[0]
    density = (20e-12 / 0.5e-6) ** 2
    z = states(bench, gain=gain, leak=leak)
    assert z.var() == pytest.approx(gain**2 * density / (4 * leak * 0.75e-6), rel=bound(z.size) + 5e-3)
    assert states(bench, gain=0.0).var() == 0.0


def test_shot_noise_follows_the_total_light_of_both_paths(twin):
    """Pedestal included, also where the two paths cancel; independent between outputs."""
    bench = twin(shot_noise=True, photocurrent_ua=0.01)
    both = {(p, row, 40) for p in (0, 1) for row in range(20)}
    light(bench, both | {(0, row, 41) for row in range(20, 30)})
    bench.electronics.set_offset_null(
        np.where(
            (np.arange(N) >= 20) & (np.arange(N) < 30),
            round(1.1 / bench.electronics.spec.offset_dac.units_per_code),
            0,
        )
    )
    z = states(bench, gain=1.0)
    one = 2 * Q / 0.01e-6 * 1.1 / (4 * 0.75e-6)
    assert z[:, :20].var() == pytest.approx(2 * one, rel=bound(20 * BATCH) + 5e-3)
    assert z[:, 20:30].var() == pytest.approx(one, rel=bound(10 * BATCH) + 5e-3)
    assert not z[:, 30:].any()
    assert np.abs(np.corrcoef(z[:, :30].T) - np.eye(30)).max() < 6 / math.sqrt(BATCH)


@pytest.mark.parametrize("tau_us", [0.75, pytest.param(0.2, marks=pytest.mark.slow)])
def test_intensity_noise_is_common_to_all_outputs_of_an_emitter(twin, tau_us):
    """n_RIN multiplies pedestal plus signal and has the sign of the weight; it does not vanish at z = 0."""
    bench = twin(rin_dbc_hz=-100.0, tau_us=tau_us)
    rows = np.arange(16)
    light(bench, {(row % 2, row, 20 + row // 4) for row in rows})
    unit = bench.electronics.spec.offset_dac.units_per_code
    sign = np.where(rows % 2 == 0, 1, -1)
    null = np.zeros(N, np.int64)
    null[rows] = sign * round(1.1 / unit)
    bench.electronics.set_offset_null(null)
    z = states(bench, gain=0.5)[:, rows] * sign
    gain = bench.electronics.spec.hidden_gain
    applied = gain.value(gain.code(np.array([0.5])))[0]
    expected = applied**2 * 1.1**2 * 1e-10 / (4 * tau_us * 1e-6)
    emitters = z[:, ::4]
    assert emitters.var() == pytest.approx(expected, rel=bound(4 * BATCH) + 0.01)
    same = np.corrcoef(z.T)
    for row in rows:
        for other in rows:
            if row // 4 == other // 4:
                assert same[row, other] > 0.999
            else:
                assert abs(same[row, other]) < 6 / math.sqrt(BATCH)


@pytest.mark.parametrize("scale", [0.0, pytest.param(0.5, marks=pytest.mark.slow), 2.0])
def test_noise_scale_multiplies_the_deviation(twin, scale):
    z = states(twin(loop_noise_percent=1.0, noise_scale=scale))
    assert z.std() == pytest.approx(scale * 0.038, rel=bound(z.size))


@pytest.mark.parametrize("term", ["shot", "detector", "rin"])
def test_probes_have_white_noise_that_falls_with_the_time_averaged(twin, term):
    """Variance of a photocurrent averaged over T: one-sided density / (2 T)."""
    options = {
        "shot": {"shot_noise": True, "photocurrent_ua": 0.01},
        "detector": {"detector_pa_rthz": 20.0, "photocurrent_ua": 0.5},
        "rin": {"rin_dbc_hz": -100.0},
    }[term]
    bench = twin(**options)
    light(bench, {(0, row, row) for row in range(N)})
    density = {
        "shot": 2 * Q / 0.01e-6 * 1.1, "detector": (20e-12 / 0.5e-6) ** 2, "rin": 1e-10 * 1.1**2,
    }[term]  # fmt: skip
    for repeats in (1, 4):
        counts = bench.electronics.probe(np.zeros((400, N), np.int64), repeats=repeats).counts
        current = counts * bench.electronics.spec.offset_dac.units_per_code
        assert current.mean() == pytest.approx(1.1, rel=1e-2)
        expected = density / (2 * repeats * 6.4e-6)
        assert current.var(axis=0).mean() == pytest.approx(expected, rel=bound(current.size) + 5e-3)


def test_two_probes_in_a_row_draw_afresh(twin):
    bench = twin("adm")
    light(bench, {(0, row, row) for row in range(N)})
    zeros = np.zeros((1, N), np.int64)
    assert (bench.electronics.probe(zeros).counts != bench.electronics.probe(zeros).counts).any()
