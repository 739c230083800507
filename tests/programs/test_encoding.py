"""Fractions to light: what the twin's own optics decode from the host's frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labctl_calibration import nominal_panel_record
from labctl_sim_devices import OpticalBench, PanelTwin, load_profile

from labctl.devices import CalibrationMissing, CalibrationRecord, ModulatorSpec, ProgramError
from labctl.programs import encode_frame


def small(profile="adm", **overrides):
    """A panel of 4 x 4 cells, with its record."""
    values = {
        "n_channels": 4, "panel_shape_px": (50, 104), "cell_px": (12, 13),
        "path_origin_px": ((1, 0), (1, 52)), "panel_tau_us": 0.0,
    }  # fmt: skip
    bench = OpticalBench(load_profile(profile, {**values, **overrides}))
    panel = PanelTwin("panel", bench)
    panel.open()
    return bench, panel, nominal_panel_record(panel.spec, 4, "test")


def decode(bench, panel, frame):
    panel.show(frame.levels)
    light = bench.optics.transmittances(bench.now_us)
    return light[0] - light[1]


def half_level(fractions, levels):
    """Half the step of T = sin^2(pi g / 2 (levels - 1)) around each |fraction|: slope pi sqrt(T (1 - T))."""
    t = np.abs(fractions)
    step = np.pi / (levels - 1)
    return 0.5 * step * np.sqrt(t * (1 - t)) + step**2 / 4


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1.0, 0.3, 0.01]))
def test_light_decodes_to_what_was_encoded_within_half_a_level(seed, scale):
    bench, panel, record = small()
    fractions = scale * np.random.default_rng(seed).uniform(-1, 1, (4, 4))
    frame = encode_frame(fractions, panel.spec, record)
    seen = decode(bench, panel, frame)
    assert (np.abs(seen - fractions) <= half_level(fractions, 256) + 1e-12).all()
    np.testing.assert_allclose(seen, frame.realised, atol=1e-12)


def test_the_full_machine_decodes_within_half_a_level():
    bench = OpticalBench(load_profile("adm", {"panel_tau_us": 0.0}))
    panel = PanelTwin("panel", bench)
    panel.open()
    fractions = np.random.default_rng(0).uniform(-1, 1, (48, 48))
    fractions[np.random.default_rng(1).random((48, 48)) < 0.5] = 0.0
    frame = encode_frame(fractions, panel.spec, nominal_panel_record(panel.spec, 48, "test"))
    seen = decode(bench, panel, frame)
    assert (np.abs(seen - fractions) <= half_level(fractions, 256) + 1e-12).all()
    assert (seen[fractions == 0] == 0).all()
    np.testing.assert_allclose(seen, frame.realised, atol=1e-12)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_the_ends_and_zero_are_exact(value):
    bench, panel, record = small()
    frame = encode_frame(np.full((4, 4), value), panel.spec, record)
    np.testing.assert_array_equal(decode(bench, panel, frame), value)
    np.testing.assert_array_equal(frame.realised, value)


@given(a=st.floats(-1, 1), b=st.floats(-1, 1))
def test_encoding_is_monotone(a, b):
    _, panel, record = small()
    fractions = np.zeros((4, 4))
    fractions[0, 0], fractions[1, 2] = a, b
    realised = encode_frame(fractions, panel.spec, record).realised
    assert (realised[0, 0] - realised[1, 2]) * (a - b) >= 0


def test_a_panel_whose_response_falls_or_folds_is_inverted_by_its_record():
    """The record is a measured table; nothing says that it rises with the level."""
    spec = ModulatorSpec((50, 104), 6, 1.0, 60.0, "lcos-intensity")
    table = np.array([1.0, 0.6, 0.0, 0.25, 0.8, 0.4])
    record = replace(small()[2], arrays={**small()[2].arrays, "panel_transmittance": table})
    fractions = np.zeros((4, 4))
    fractions[0] = [0.62, -0.38, 0.1, 1.0]
    frame = encode_frame(fractions, spec, record)
    np.testing.assert_allclose(frame.realised[0], [0.6, -0.4, 0.0, 1.0])
    assert frame.levels[1 + 5, 5] == 1
    assert frame.levels[1 + 5, 52 + 13 + 5] == 5
    assert frame.levels[1 + 5, 39 + 5] == 0


def test_light_that_cannot_be_switched_off_is_told():
    """Finite contrast: both paths leak the same, so the difference stays, and full scale shrinks."""
    bench, panel, record = small(transmittance_off=0.05)
    measured = replace(
        record,
        arrays={**record.arrays, "panel_transmittance": 0.05 + 0.95 * record.array("panel_transmittance")},
    )
    fractions = np.random.default_rng(0).uniform(-0.9, 0.9, (4, 4))
    frame = encode_frame(fractions, panel.spec, measured)
    np.testing.assert_allclose(decode(bench, panel, frame), frame.realised, atol=1e-12)
    assert frame.realised.max() <= 0.95


def test_cells_under_ten_pixels_are_refused():
    _, panel, record = small()
    for cell in ((9, 13), (12, 9)):
        tight = replace(record, arrays={**record.arrays, "cell_px": np.array(cell, float)})
        with pytest.raises(
            ProgramError, match=f"cells of {cell[0]} x {cell[1]} pixels; allowed: at least 10 x 10"
        ):
            encode_frame(np.zeros((4, 4)), panel.spec, tight)


def test_96_channels_fit_the_panel_and_110_do_not():
    spec = ModulatorSpec((1080, 1920), 256, 1.0, 60.0, "lcos-intensity")
    encode_frame(np.zeros((96, 96)), spec, nominal_panel_record(spec, 96, "test"))
    with pytest.raises(ProgramError, match="allowed: at least 10 x 10"):
        encode_frame(np.zeros((110, 110)), spec, nominal_panel_record(spec, 110, "test"))


def test_a_matrix_that_leaves_the_panel_is_refused():
    _, panel, record = small()
    for origin in (((-1, 0), (1, 52)), ((1, 0), (1, 53)), ((3, 0), (1, 52))):
        moved = replace(record, arrays={**record.arrays, "path_origin_px": np.array(origin, float)})
        with pytest.raises(ProgramError, match="exceeds the panel"):
            encode_frame(np.zeros((4, 4)), panel.spec, moved)


@pytest.mark.parametrize("bad", [1.001, -1.5, np.nan, np.inf])
def test_fractions_beyond_one_are_refused_not_clipped(bad):
    _, panel, record = small()
    fractions = np.zeros((4, 4))
    fractions[2, 1] = bad
    with pytest.raises(ProgramError, match=f"a weight fraction is {bad}; allowed: -1 to 1"):
        encode_frame(fractions, panel.spec, record)


def test_records_without_what_an_encoder_needs_are_refused():
    _, panel, record = small()
    phases = CalibrationRecord("x", "s", "now", {k: record.array(k) for k in ("cell_px", "path_origin_px")})
    with pytest.raises(CalibrationMissing, match=r"'x' of s has no 'grating_period_px'"):
        encode_frame(np.zeros((4, 4)), replace(panel.spec, kind="lcos-phase"), phases)
    with pytest.raises(CalibrationMissing, match=r"'x' of s has no 'cell_px'; it has nothing"):
        encode_frame(np.zeros((4, 4)), panel.spec, CalibrationRecord("x", "s", "now", {}))
