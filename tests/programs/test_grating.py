"""Gratings: the law of the first order, and the field's own Fourier transform as the independent check."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration import nominal_panel_record

from labctl.devices import ModulatorSpec, ProgramError
from labctl.programs import encode_frame
from labctl.programs.grating import first_order

N = 6
SPEC = ModulatorSpec((132, 240), 256, 1.0, 60.0, "lcos-phase")
RECORD = nominal_panel_record(SPEC, N, "test")


def orders(frame, path, row, column):
    """Power [height, width] of a cell's field by a 2-D FFT: share of its light in each direction."""
    height, width = (int(v) for v in RECORD.array("cell_px"))
    top, left = RECORD.array("path_origin_px").astype(int)[path]
    y, x = top + row * height, left + column * width
    field = np.exp(2j * np.pi * frame[y : y + height, x : x + width] / 256)
    return np.abs(np.fft.fft2(field) / field.size) ** 2


def test_the_fft_of_every_cell_has_the_weight_in_its_first_order():
    fractions = np.random.default_rng(0).uniform(-1, 1, (N, N))
    fractions[0, :3] = 0.0, 1.0, -1.0
    encoded = encode_frame(fractions, SPEC, RECORD)
    assert encoded.levels.dtype == np.uint16
    np.testing.assert_allclose(encoded.realised, fractions, atol=0.004)  # staircases of 256 levels
    for path, sign in ((0, 1), (1, -1)):
        for row in range(N):
            for column in range(N):
                power = orders(encoded.levels, path, row, column)
                want = max(sign * encoded.realised[row, column], 0.0)
                assert power[0, 20 // 4] == pytest.approx(want, abs=1e-12)
                assert power.sum() == pytest.approx(
                    1.0
                )  # a phase panel absorbs nothing: the rest goes elsewhere
                if want == 0:
                    assert power[0, 0] == pytest.approx(1.0)  # flat: all in the order that is blocked


def test_the_law_is_that_of_the_literature():
    depth = np.linspace(0, 1, 101)
    for period in (4, 8):
        pixels = 2j * np.pi * np.arange(period) / period
        sums = np.abs(np.exp(np.outer(depth, pixels) - pixels).mean(axis=1)) ** 2
        np.testing.assert_allclose(first_order(depth, period), sums, atol=1e-12)
    np.testing.assert_allclose(first_order(depth, 10_000), np.sinc(1 - depth) ** 2, atol=1e-6)
    assert (np.diff(first_order(depth, 4)) > 0).all()


def test_two_pixels_a_period_are_the_binary_gratings_law():
    """Phases 0 and phi: sin^2(phi / 2) of what a full one gives."""
    depth = np.linspace(0, 1, 11)
    np.testing.assert_allclose(first_order(depth, 2), np.sin(np.pi * depth / 2) ** 2, atol=1e-12)


def test_cells_of_broken_periods_are_refused():
    record = nominal_panel_record(ModulatorSpec((132, 228), 256, 1.0, 60.0, "lcos-phase"), N, "test")
    with pytest.raises(
        ProgramError, match="cells are 19 pixels wide, gratings have 4 a period; allowed: whole"
    ):
        encode_frame(np.zeros((N, N)), ModulatorSpec((132, 228), 256, 1.0, 60.0, "lcos-phase"), record)
