"""The micromirror twin: area patterns, dips while mirrors are reset, and settles gated between them."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_sim_devices import DmdTwin, ElectronicsTwin, OpticalBench, load_profile

from labctl.devices import SettleCodes

N = 48


@pytest.fixture
def mirrors():
    """Factory: a bench with mirrors and electronics, noise off."""

    def make(*, gated=True, dip=1.0, **overrides):
        resets = {"dip": dip, "period_us": 1000.0, "reset_us": 8.0, "gated": gated}
        bench = OpticalBench(
            load_profile("dmd", {"unit": {"mirror_resets": resets}, **overrides}), noise_scale=0.0
        )
        dmd, electronics = DmdTwin("mirrors", bench), ElectronicsTwin("electronics", bench)
        dmd.open()
        electronics.open()
        return bench, dmd, electronics

    return make


def area_frame(profile, counts):
    """counts [2, n, n] of mirrors on in every cell, row after row."""
    frame = np.zeros(profile.panel_shape_px, np.uint16)
    height, width = profile.cell_px
    for path, (top, left) in enumerate(profile.path_origin_px):
        for i in range(N):
            for j in range(N):
                cell = (np.arange(height * width) < counts[path, i, j]).reshape(height, width)
                y, x = top + i * height, left + j * width
                frame[y : y + height, x : x + width] = cell
    return frame


def settle(electronics, *, batch, wait_us=None):
    spec = electronics.spec
    zero = np.zeros((batch, N), np.int64)
    codes = SettleCodes(
        zero + round(0.5 / spec.dac.units_per_code), spec.hidden_gain.code(np.full((1, N), 0.5)),
        np.full((1, N), spec.max_leak_code), np.ones(N, np.int64), zero, 0, np.arange(batch),
    )  # fmt: skip
    return electronics.settle(codes, wait_us=wait_us).counts * spec.adc.units_per_code


def test_a_weight_is_the_share_of_mirrors_that_are_on(mirrors):
    bench, dmd, _ = mirrors()
    counts = np.random.default_rng(0).integers(0, 441, (2, N, N))
    receipt = dmd.show(area_frame(bench.profile, counts))
    assert dmd.spec.kind == "dmd"
    assert dmd.spec.n_levels == 2
    assert receipt.duration_us == 120.0
    off = bench.profile.transmittance_off
    np.testing.assert_allclose(bench.transmittances(), off + (1 - off) * counts / 440, atol=1e-9)


def test_settles_wait_for_the_time_between_resets(mirrors):
    bench, dmd, electronics = mirrors()
    dmd.show(np.ones(bench.profile.panel_shape_px, np.uint16))
    start = bench.now_us
    each = int((1000 - 8) // 14.9)
    gated = bench.clock.gated(start, 14.9, 14.9, 200)
    phase = np.mod(gated, 1000.0)
    assert (phase >= 8 - 1e-6).all()
    assert (phase + 14.9 <= 1000 + 1e-6).all()
    assert np.diff(gated).min() >= 14.9 - 1e-6
    assert (np.mod(gated, 1000) < 8.001).sum() == -(-200 // each)
    z = settle(electronics, batch=200)
    assert np.ptp(z, axis=0).max() < 2e-3  # all alike: none met a reset
    assert bench.now_us >= gated[-1] + 14.9 - 1e-6
    assert dmd.duty == pytest.approx(1 - 8 / 1000)


def test_without_the_gate_some_settles_meet_a_reset(mirrors):
    gated, loose = mirrors(gated=True), mirrors(gated=False)
    states = []
    for bench, dmd, electronics in (gated, loose):
        frame = np.zeros(bench.profile.panel_shape_px, np.uint16)
        frame[:, :960] = 1
        dmd.show(frame)
        rest = np.rint(bench.truth().rest() / electronics.spec.offset_dac.units_per_code)
        electronics.set_offset_null(rest.astype(np.int64))
        states.append(settle(electronics, batch=200))
    spread = np.ptp(states[1], axis=0).max()
    assert np.ptp(states[0], axis=0).max() < 2e-3 < 0.05 < spread
    assert gated[0].now_us > loose[0].now_us  # waiting takes time


def test_open_loop_windows_see_the_mean_of_the_dips(mirrors):
    bench, dmd, electronics = mirrors(gated=False)
    dmd.show(np.ones(bench.profile.panel_shape_px, np.uint16))
    frame = np.zeros(bench.profile.panel_shape_px, np.uint16)
    frame[:, :960] = 1
    dmd.show(frame)
    probe = np.full((1, N), electronics.spec.probe_dac.max_code)
    window_us, repeats = 6.4, 625  # 4 ms: four resets
    seen = electronics.probe(probe, at="emitter", repeats=repeats).counts[0]
    seen = seen * electronics.spec.offset_dac.units_per_code
    off = bench.profile.transmittance_off
    lost = 4 * 8 / (window_us * repeats)
    np.testing.assert_allclose(seen, N * (1 - off) * (1 - lost), rtol=1e-4)
