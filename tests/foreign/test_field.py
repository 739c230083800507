"""Light of the foreign bench against what is known without it: textbook limits, energy, linearity."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from foreign_bench import ForeignBench, drawn_unit, perfect_unit
from foreign_bench.field import FIELD_PX, PanelField, driver_volts, placed, retardance
from foreign_bench.light import Light, output_matrices
from foreign_bench.unit import fingerprint

PX = (1080, 1920)
LEFT = (slice(None), slice(0, 960))


def collected(unit, levels):
    field = PanelField(unit)
    return field.matrices(field.intensity(field.retardances(levels)))


@pytest.fixture
def blocks():
    """A frame of blocks that do not know of cells."""
    coarse = np.random.default_rng(3).integers(0, 256, (1080 // 15, 1920 // 15))
    return coarse.repeat(15, 0).repeat(15, 1).astype(np.uint16)


def test_the_drivers_table_undoes_the_makers_panel():
    seen = retardance(driver_volts(), perfect_unit())
    np.testing.assert_allclose(seen, np.pi * np.arange(256) / 255, atol=1e-12)


def test_below_threshold_the_directors_rest_and_at_high_voltage_they_stand():
    unit = perfect_unit()
    at_rest = retardance(np.array([0.0, 0.5, unit.threshold_v]), unit)
    np.testing.assert_allclose(at_rest, np.pi * unit.rest_retardance)
    far = unit.threshold_v + np.array([3.0, 4.0]) * unit.turning_v
    # cos(pi / 2 - 2 atan(e^-x)) = sech x
    np.testing.assert_allclose(retardance(far, unit), np.pi * unit.rest_retardance / np.cosh([3.0, 4.0]) ** 2)


def test_a_narrow_band_is_malus_and_a_wide_one_half():
    retarded = np.full((40, 40), 2.0, np.float32)
    for band, expected in ((0.0, math.sin(1.0) ** 2), (50.0, 0.5)):
        seen = PanelField(replace(perfect_unit(), band=band)).relayed(retarded)
        np.testing.assert_allclose(seen, expected, rtol=1e-6)


@pytest.mark.parametrize("coherence", [0.0, 0.5, 1.0])
def test_the_relay_passes_even_light_and_makes_none(coherence):
    field = PanelField(replace(perfect_unit(), blur_px=1.3, coherence=coherence))
    even = field.relayed(np.full((60, 60), 2.0, np.float32))
    np.testing.assert_allclose(even[20:40, 20:40], math.sin(1.0) ** 2, rtol=1e-5)
    some = np.zeros((60, 60), np.float32)
    some[20:40, 20:40] = np.random.default_rng(0).uniform(0, np.pi, (20, 20))
    into, out = float((np.sin(some / 2) ** 2).sum()), float(field.relayed(some).sum())
    assert 0.5 * into < out <= into * (1 + 1e-6)
    if coherence == 0.0:  # incoherent light loses nothing on its way
        assert out == pytest.approx(into, rel=1e-5)


def test_an_edge_is_half_dark_in_incoherent_light_and_a_quarter_lit_in_coherent():
    """On both sides of an edge intensities add up to 1 (incoherent), amplitudes do (coherent)."""
    edge = np.zeros((40, 40), np.float32)
    edge[:, 20:] = np.pi
    for coherence, of_light in ((0.0, 1.0), (1.0, 0.5)):
        seen = PanelField(replace(perfect_unit(), blur_px=2.0, coherence=coherence)).relayed(edge)[20]
        np.testing.assert_allclose(seen[16:20] ** of_light + seen[23:19:-1] ** of_light, 1.0, rtol=1e-5)


def test_a_single_pixel_spreads_as_its_point_spread_says():
    """Coherent: a share 1 / (4 pi s^2) of its light arrives; incoherent: all of it, as wide as s / sqrt 2."""
    point = np.zeros((61, 61), np.float32)
    point[30, 30] = np.pi
    s, at = 1.6, np.arange(61) - 30
    together = PanelField(replace(perfect_unit(), blur_px=s, coherence=1.0)).relayed(point)
    assert together.sum() == pytest.approx(1 / (4 * math.pi * s**2), rel=1e-3)
    apart = PanelField(replace(perfect_unit(), blur_px=s, coherence=0.0)).relayed(point)
    assert apart.sum() == pytest.approx(1.0, rel=1e-5)
    for seen in (together, apart):
        assert (seen.sum(axis=0) * at**2).sum() / seen.sum() == pytest.approx(s**2 / 2, rel=2e-3)


def test_neighbouring_directors_pull_at_each_other():
    edge = np.zeros(PX, np.uint16)
    edge[:, 500:] = 255
    seen = PanelField(replace(perfect_unit(), fringe_px=0.5)).retardances(edge)[10, 496:504]
    assert (np.diff(seen) >= 0).all()
    assert 0 < seen[3] < seen[4] < np.pi  # the pixels at the edge, and mirrored about its middle
    np.testing.assert_allclose(seen + seen[::-1], np.pi, rtol=1e-5)


def test_the_ripple_is_the_change_of_the_light():
    field = PanelField(perfect_unit())
    retarded = np.linspace(0, np.pi, 200, dtype=np.float32).reshape(10, 20)
    step = 1e-2
    change = (field.relayed(retarded * (1 + step)) - field.relayed(retarded * (1 - step))) / (2 * step)
    np.testing.assert_allclose(field.ripple(retarded), change, atol=2e-4)


def test_a_field_off_by_whole_and_half_cells(blocks):
    plain = collected(perfect_unit(), blocks)
    down = collected(replace(perfect_unit(), shift_px=np.array([[22.0, 0.0], [0.0, 0.0]])), blocks)
    np.testing.assert_allclose(down[0, :-1], plain[0, 1:], atol=1e-5)
    np.testing.assert_allclose(down[1], plain[1], atol=1e-6)
    # half a cell across, in a frame of full cells: the mean of two columns
    cells = np.zeros(PX, np.uint16)
    cells[12:-12, :960] = np.random.default_rng(0).integers(0, 256, (48, 48)).repeat(22, 0).repeat(20, 1)
    whole = collected(perfect_unit(), cells)[0]
    half = collected(replace(perfect_unit(), shift_px=np.array([[0.0, 10.0], [0.0, 0.0]])), cells)[0]
    np.testing.assert_allclose(half[:, :-1], (whole[:, :-1] + whole[:, 1:]) / 2, atol=1e-5)
    np.testing.assert_allclose(half[:, -1], whole[:, -1] / 2, atol=1e-5)  # beside the half it is dark


def test_places_of_a_field_that_is_turned_bent_and_askew():
    unit = replace(
        perfect_unit(), turn_rad=np.array([2e-3, 0.0]), barrel_px=np.array([0.0, 1.5]),
        keystone_px=np.array([[0.0, 0.0], [0.0, 0.0]]),
    )  # fmt: skip
    corner = np.array([0.0]), np.array([0.0])
    y, x = placed(unit, 0, *corner)
    assert (y[0] - 540, x[0] - 480) == pytest.approx((-528 - 2e-3 * 480, -480 + 2e-3 * 528), abs=2e-3)
    y, x = placed(unit, 1, *corner)
    assert math.hypot(y[0] - 540, x[0] - 480) == pytest.approx(math.hypot(528, 480) + 1.5)
    askew = replace(perfect_unit(), keystone_px=np.array([[0.0, 3.0], [0.0, 0.0]]))
    edge = np.array([0.0, float(FIELD_PX[0])])
    heights = [np.diff(placed(askew, 0, edge, np.full(2, u))[0])[0] for u in (0.0, float(FIELD_PX[1]))]
    assert heights[0] > FIELD_PX[0] > heights[1]  # perspective: the nearer side is the larger


def test_narrow_beams_keep_their_power():
    bright = np.full(PX, 255, np.uint16)
    for width, soft in ((1.0, 0.0), (0.8, 0.0), (0.85, 0.04)):
        seen = collected(replace(perfect_unit(), beam_width=width, soft_edge=soft), bright)
        inner = seen[:, 4:-4, 4:-4]  # soft edges reach into neighbours, and beyond the field at its ends
        np.testing.assert_allclose(inner, 1.0, atol=1e-4)


def test_light_of_emitters_adds_whatever_the_coherence(blocks):
    """Different emitters do not interfere: detectors see the sum of what they see of each alone."""
    unit = replace(drawn_unit(4), saturation_units=np.full(2, np.inf))
    field = PanelField(unit)
    retarded = field.retardances(blocks)
    still = output_matrices(field.matrices(field.intensity(retarded)), unit)
    ripple = output_matrices(field.matrices(field.ripple(retarded)), unit)
    light = Light(unit, still, ripple, torch.float64)
    rng = np.random.default_rng(0)
    first, second = (torch.from_numpy(rng.uniform(0, 2, (5, 48))) for _ in range(2))
    flicker = torch.full((5, 1), 0.003, dtype=torch.float64)
    parts = [light.photocurrents(emitted, flicker) for emitted in (first, second, first + 2 * second)]
    for path in (0, 1):
        assert (parts[0][path] > 0).all()
        np.testing.assert_allclose(parts[2][path], parts[0][path] + 2 * parts[1][path], rtol=1e-12)


def test_charge_that_wanders_and_light_that_leaks_are_not_lost(blocks):
    unit = replace(perfect_unit(), neighbour=np.full((2, 48, 2), 0.05), splitter_leak=0.02)
    plain = collected(perfect_unit(), blocks)
    seen = output_matrices(plain, unit)
    np.testing.assert_allclose(seen.sum(axis=(0, 1)), plain.sum(axis=(0, 1)), rtol=1e-9)
    one = np.zeros_like(plain)
    one[0, 10, 7] = 1.0
    out = output_matrices(one, unit)
    np.testing.assert_allclose(out[0, 9:12, 7], [0.98 * 0.05, 0.98 * 0.9, 0.98 * 0.05])
    np.testing.assert_allclose(out[1, 9:12, 7], [0.02 * 0.05, 0.02 * 0.9, 0.02 * 0.05])


def test_emitters_are_dim_at_first_one_at_one_and_droop():
    unit = replace(perfect_unit(), nonradiative=np.full(48, 0.3), auger=np.full(48, 0.1))
    light = Light(unit, np.zeros((2, 48, 48)), np.zeros((2, 48, 48)), torch.float64)
    current = torch.tensor([1e-4, 2e-4, 1.0, 2.0, 4.0], dtype=torch.float64)[:, None].expand(-1, 48)
    out = light.emitted(current)[:, 0].numpy()
    assert out[1] / out[0] == pytest.approx(4.0, rel=5e-3)  # defects take carriers, pairs make light
    assert out[2] == pytest.approx(1.0)
    efficiency = out / current[:, 0].numpy()
    # less than the n^2 that there would be without Auger
    assert out[3] < ((-0.3 + math.sqrt(0.09 + 4 * 0.7 * 2)) / 1.4) ** 2
    assert efficiency[0] < efficiency[2]
    straight = Light(perfect_unit(), np.zeros((2, 48, 48)), np.zeros((2, 48, 48)), torch.float64)
    np.testing.assert_array_equal(straight.emitted(current), current)


def test_detectors_saturate():
    unit = replace(perfect_unit(), saturation_units=np.array([100.0, np.inf]))
    still = np.stack([np.eye(48), np.eye(48)])
    plus, minus = Light(unit, still, still, torch.float64).photocurrents(
        torch.full((1, 48), 50.0, dtype=torch.float64), torch.zeros((1, 1), dtype=torch.float64)
    )
    np.testing.assert_allclose(plus, 50 / 1.5)
    np.testing.assert_allclose(minus, 50.0)


def test_the_directors_turn_faster_than_they_fall_back():
    bench = ForeignBench(replace(perfect_unit(), rise_us=500.0, fall_us=4000.0))
    bright, dark = np.full(PX, 255, np.uint16), np.zeros(PX, np.uint16)
    shares = {}
    for name, frame in (("bright", bright), ("dark", dark)):
        bench.frame_changed(frame)
        bench.advance(1000.0)
        shares[name] = 2 / np.pi * np.arcsin(np.sqrt(bench.collected()[0].mean()))
        bench.advance(50_000.0)
    assert shares["bright"] == pytest.approx(1 - math.exp(-1000 / 4000), abs=1e-5)
    assert shares["dark"] == pytest.approx(math.exp(-1000 / 500), abs=1e-5)


def test_a_unit_is_its_number():
    assert fingerprint(drawn_unit(5)) == fingerprint(drawn_unit(5))
    assert len({fingerprint(drawn_unit(seed)) for seed in range(30)} | {fingerprint(perfect_unit())}) == 31


def test_units_spread_as_published():
    units = [drawn_unit(seed) for seed in range(40)]
    assert all(int((unit.efficiency == 0).sum()) == 1 for unit in units)
    lives = np.concatenate([unit.efficiency[unit.efficiency > 0] for unit in units])
    assert 0.2 < lives.std() < 0.3
    contrast = np.array([unit.fill / unit.stray + 1 for unit in units])
    np.testing.assert_allclose(contrast.mean(axis=0), [19, 14], rtol=0.1)
    neighbours = np.array([unit.neighbour for unit in units])
    assert 0.02 < np.median(neighbours) < 0.03
    assert 0.04 < neighbours.mean() < 0.07
    assert neighbours.max() == 0.31
    assert np.mean([unit.gain_scale for unit in units]) == pytest.approx(0.73, abs=0.002)
    assert np.std([unit.gain_scale for unit in units]) == pytest.approx(0.025, rel=0.05)
