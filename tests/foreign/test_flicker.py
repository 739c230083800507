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


def test_each_rows_own_swing_is_found_and_moves_its_draws():
    bench = ForeignBench(drawn_unit(2), seed=2)
    made = Foreign(2, bench)
    panel = nominal_panel_record(made.panel.spec, N, "by design")
    fractions = np.random.default_rng(1).uniform(-1, 1, (N, N))
    made.panel.show(encode_frame(fractions, made.panel.spec, panel).levels)
    bench.advance(PANEL_SETTLE_US)
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
