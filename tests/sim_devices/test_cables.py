"""A bench behind scrambled cables, addressed by its wiring, is the bench with straight ones."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration import nominal_panel_record
from labctl_calibration.open_loop import calibrate_open_loop
from labctl_sim_devices import ElectronicsTwin, OpticalBench, PanelTwin, load_profile
from labctl_sim_devices.cables import drawn_cables, mounted

from labctl.devices import SettleCodes, Wiring
from labctl.programs import encode_frame

N = 48


def bench_of(profile, cables=None):
    """(bench, panel, electronics), open, without noise."""
    bench = OpticalBench(profile, seed=3, noise_scale=0.0, cables=cables)
    panel, electronics = PanelTwin("panel", bench), ElectronicsTwin("electronics", bench)
    panel.open()
    electronics.open()
    return bench, panel, electronics


def wiring_of(cables, flip="none", exchanged=False):
    turned = {"rows": flip in ("rows", "both"), "columns": flip in ("columns", "both")}
    return Wiring(
        column=N - 1 - cables.emitter if turned["columns"] else cables.emitter,
        row=N - 1 - cables.detector if turned["rows"] else cables.detector,
        drive_sign=cables.emitter_sign,
        read_sign=-cables.detector_sign if exchanged else cables.detector_sign,
    )


def settled(panel, electronics, weights, wiring):
    """States [B, n] under biases, the frame's offsets nulled; and the effective weights."""
    record = nominal_panel_record(panel.spec, N, "design", wiring)
    panel.show(encode_frame(weights, panel.spec, record).levels)
    measured = calibrate_open_loop(electronics).array("effective_fractions")
    spec, rng = electronics.spec, np.random.default_rng(5)
    bias = np.rint(rng.uniform(-1, 1, (32, N)) / spec.dac.units_per_code).astype(np.int64)
    read = electronics.settle(
        SettleCodes(
            bias=bias,
            gain=spec.hidden_gain.code(np.full((1, N), 0.1)),
            leak=np.full((1, N), spec.max_leak_code),
            gain_range=np.ones(N, np.int64),
            start=np.zeros_like(bias),
            step_id=1,
            sample_id=np.arange(32),
        ),
        wait_us=40.0,
    )
    return measured, read.counts * spec.adc.units_per_code


@pytest.mark.parametrize(("flip", "exchanged"), [("none", False), ("rows", True), ("both", False)])
def test_with_its_wiring_it_does_as_the_straight_one(flip, exchanged):
    weights = np.random.default_rng(2).choice([-1.0, -0.5, 0.5, 1.0], size=(N, N))
    plain = load_profile("ideal")
    _, panel, electronics = bench_of(plain)
    expected_weights, expected = settled(panel, electronics, weights, None)
    cables = drawn_cables(7, N, inverted_share=0.3)
    _, panel, electronics = bench_of(mounted(plain, flip, exchanged), cables)
    found_weights, found = settled(panel, electronics, weights, wiring_of(cables, flip, exchanged))
    np.testing.assert_allclose(found_weights, expected_weights, atol=2e-4)
    assert np.abs(found - expected).max() < 2e-3
    # and without it, it does not: the test would notice a scramble that does nothing
    other_weights, _ = settled(panel, electronics, weights, None)
    assert np.abs(other_weights - expected_weights).max() > 0.5


def test_an_emitter_without_a_cable_is_dark():
    cables = drawn_cables(1, N, permuted=False, unplugged=3)
    _, panel, electronics = bench_of(load_profile("ideal"), cables)
    panel.show(encode_frame(np.ones((N, N)), panel.spec, nominal_panel_record(panel.spec, N, "d")).levels)
    codes = np.eye(N, dtype=np.int64) * electronics.spec.probe_dac.max_code
    light = electronics.probe(codes, at="emitter").counts.sum(axis=1)
    unplugged = np.flatnonzero(cables.emitter_sign == 0)
    assert len(unplugged) == 3
    assert np.abs(light[unplugged]).max() < 1e-3 * np.median(light)
    assert np.delete(light, unplugged).min() > 0.5 * np.median(light)


def test_straight_cables_change_no_bit():
    weights = np.random.default_rng(2).uniform(-1, 1, size=(N, N))
    without = settled(*bench_of(load_profile("adm"))[1:], weights, None)
    straight = drawn_cables(0, N, permuted=False)
    behind = settled(*bench_of(load_profile("adm"), straight)[1:], weights, None)
    np.testing.assert_array_equal(without[0], behind[0])
    np.testing.assert_array_equal(without[1], behind[1])
