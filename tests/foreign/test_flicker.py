"""Flicker of one frame: what a panel that retards light makes of it, row by row."""

from __future__ import annotations

import numpy as np
import torch
from foreign import Foreign
from foreign_bench import ForeignBench, drawn_unit
from foreign_bench.bench import PANEL_SETTLE_US
from labctl_calibration import calibrate_steady, nominal_panel_record
from labctl_calibration.frame_flicker import measure_flicker

from labctl.programs import encode_frame

N = 48


def shown(noise_scale: float = 1.0) -> Foreign:
    """A unit with a frame of random weights on display."""
    made = Foreign(2, ForeignBench(drawn_unit(2), seed=2, noise_scale=noise_scale))
    panel = nominal_panel_record(made.panel.spec, N, "by design")
    fractions = np.random.default_rng(1).uniform(-1, 1, (N, N))
    made.panel.show(encode_frame(fractions, made.panel.spec, panel).levels)
    made.bench.advance(PANEL_SETTLE_US)
    return made


def test_each_rows_own_swing_is_found_and_moves_its_draws():
    made = shown()
    bench = made.bench
    calibrate_steady(made.electronics)
    found = measure_flicker(made.electronics, 1.0)
    light = bench.light(torch.float64)
    rest = light.emitted(torch.full((1, N), bench.unit.pedestal_units, dtype=torch.float64))

    def net(flicker: float) -> np.ndarray:
        plus, minus = light.photocurrents(rest, torch.tensor([[flicker]], dtype=torch.float64))
        return (plus - minus).numpy()[0]

    true = net(bench.unit.flicker) - net(0.0)
    np.testing.assert_allclose(found.frequency_hz, [bench.unit.flicker_hz], rtol=1e-3)
    turned = found.amplitude[0] / np.exp(1j * np.angle(found.amplitude[0] @ true))
    assert np.abs(turned.real - true).max() < 0.05 * np.abs(true).max()
    assert np.abs(turned.imag).max() < 0.05 * np.abs(true).max()
    drawn = found.at(46.4 * np.arange(5000), np.array([0.3]))
    np.testing.assert_allclose(drawn.std(axis=0), np.abs(found.amplitude[0]) / np.sqrt(2), rtol=0.02)


def test_a_long_reading_is_the_mean_of_its_windows():
    """A null that is read over 100 ms has no phase of a flicker of 460 Hz in it."""
    windows = 2500
    codes, seen = np.zeros((windows, N), np.int64), []
    for repeats in (1, windows):
        made = shown(noise_scale=0.0)
        seen.append(made.electronics.probe(codes if repeats == 1 else codes[:1], repeats=repeats).counts)
    each, whole = seen
    assert np.ptp(each, axis=0).max() > 20
    np.testing.assert_allclose(whole[0], each.mean(axis=0), atol=0.02)  # codes; detectors bend it a little
