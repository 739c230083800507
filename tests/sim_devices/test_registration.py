"""Where cells lie and whose light they see: against polygons, supersampling, and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from labctl_sim_devices import load_profile
from labctl_sim_devices.optics import PanelOptics
from labctl_sim_devices.registration import designed_centres, edge_table, gather_cells, placement
from labctl_sim_devices.units import absent_unit

PROFILE = load_profile("adm")
N = 48


def moved(**values):
    """A bench whose only fault is where its cells are."""
    return replace(absent_unit(N), **{k: np.asarray(v, np.float64) for k, v in values.items()})


def random_levels(seed=0, block=3):
    r = np.random.default_rng(seed)
    coarse = r.integers(0, 256, (1080 // block, 1920 // block)).astype(np.uint16)
    return coarse.repeat(block, 0).repeat(block, 1)


def transmittances(unit, levels):
    optics = PanelOptics(PROFILE, unit)
    optics.restore(levels, 0.0)
    return optics.transmittances(0.0)


def supersampled(cells, light, i, j, fine=40):
    """Mean of the light under fine x fine points of a cell, by its own map."""
    steps = (np.arange(fine) + 0.5) / fine - 0.5
    s, t = np.meshgrid(steps, steps, indexing="ij")
    at = (
        cells.centre_px[i, j]
        + s[..., None] * cells.edges_px[i, j][:, 0]
        + t[..., None] * cells.edges_px[i, j][:, 1]
    )
    y, x = np.floor(at).astype(int).transpose(2, 0, 1)
    inside = (y >= 0) & (y < light.shape[0]) & (x >= 0) & (x < light.shape[1])
    return np.where(inside, light[y.clip(0, light.shape[0] - 1), x.clip(0, light.shape[1] - 1)], 0.0).mean()


def test_cells_in_place_are_whole_pixels_to_the_last_bit_but_rounding():
    levels = random_levels()
    plain = transmittances(absent_unit(N), levels)
    nearly = transmittances(moved(shift_px=np.full((2, 2), 1e-12)), levels)
    np.testing.assert_allclose(nearly, plain, atol=1e-9)


@pytest.mark.parametrize("shift", [(1, 0), (0, -2), (22, 20), (0.25, -0.5)])
def test_a_shift_moves_what_each_cell_sees(shift):
    levels = random_levels()
    padded = np.zeros((1080 + 100, 1920 + 100))
    padded[50:-50, 50:-50] = np.sin(np.pi / 2 * levels / 255) ** 2
    light = np.zeros((1080, 1920))
    whole = [math.floor(s) for s in shift]
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):  # linear between whole pixels
        part = (shift[0] - whole[0] if dy else 1 - shift[0] + whole[0]) * (
            shift[1] - whole[1] if dx else 1 - shift[1] + whole[1]
        )
        y, x = 50 + whole[0] + dy, 50 + whole[1] + dx
        light += part * padded[y : y + 1080, x : x + 1920]
    seen = transmittances(moved(shift_px=np.tile(shift, (2, 1))), levels)
    for path, (top, left) in enumerate(PROFILE.path_origin_px):
        area = light[top : top + N * 22, left : left + N * 20].reshape(N, 22, N, 20).mean(axis=(1, 3))
        np.testing.assert_allclose(seen[path], area, atol=1e-9)


@pytest.mark.parametrize(
    "values",
    [
        {"shift_px": [[2.3, -1.7], [2.1, -1.6]], "magnification": [0.985, 0.985]},
        {"rotation_rad": [4e-3, 4e-3], "magnification": [0.985, 0.985]},
        {"rotation_rad": [-8e-3, 6e-3], "distortion_px": [0.8, -0.5], "magnification": [0.98, 0.98],
         "shift_px": [[0.4, 2.2], [0.1, -0.2]]},
    ],
)  # fmt: skip
def test_footprints_are_area_weighted(values):
    """Against thousands of points in each of some cells."""
    unit, levels = moved(**values), random_levels(3, block=5)
    light = np.sin(np.pi / 2 * levels / 255) ** 2
    seen = transmittances(unit, levels)
    for path in (0, 1):
        cells = placement(PROFILE, unit, path, 25.0)
        for i, j in ((0, 0), (0, 47), (47, 0), (24, 24), (13, 40)):
            assert seen[path, i, j] == pytest.approx(supersampled(cells, light, i, j, 200), abs=2e-3)


def test_the_geometry_is_shift_turn_zoom_and_bend():
    unit = moved(shift_px=[[3.0, -2.0], [0, 0]], rotation_rad=[2e-3, 0], magnification=[0.99, 1],
                 distortion_px=[0.5, 0])  # fmt: skip
    cells = placement(PROFILE, unit, 0, 25.0)
    middle = np.array([12 + 24 * 22, 24 * 20.0])
    for i, j in ((0, 0), (10, 47), (47, 3)):
        r = designed_centres(PROFILE, 0)[i, j] - middle
        corner = math.hypot(24 * 22, 24 * 20)
        bent = r * (1 + 0.5 * (np.hypot(*r) / corner) ** 2 / corner)
        c, s = math.cos(2e-3), math.sin(2e-3)
        expected = (
            middle + [3.0, -2.0] + 0.99 * np.array([c * bent[0] - s * bent[1], s * bent[0] + c * bent[1]])
        )
        np.testing.assert_allclose(cells.centre_px[i, j], expected, atol=1e-9)
    # edges are the spacing of the centres
    np.testing.assert_allclose(
        cells.edges_px[24, 24][:, 0], (cells.centre_px[25, 24] - cells.centre_px[23, 24]) / 2, atol=1e-4
    )
    np.testing.assert_allclose(
        cells.edges_px[24, 24][:, 1], (cells.centre_px[24, 25] - cells.centre_px[24, 23]) / 2, atol=1e-4
    )
    still = placement(PROFILE, unit, 1, 25.0)
    np.testing.assert_allclose(still.centre_px, designed_centres(PROFILE, 1))


def test_blur_spills_into_the_neighbours_and_loses_nothing():
    sigma = 0.8
    unit = moved(point_spread_px=sigma)
    levels = np.zeros((1080, 1920), np.uint16)
    top, left = 12 + 20 * 22, 25 * 20
    levels[top : top + 22, left : left + 20] = 255
    seen = transmittances(unit, levels)[0]
    lost = sigma / math.sqrt(2 * math.pi)  # px of light across each edge
    assert seen[20, 26] == pytest.approx(lost / 20, rel=0.05)
    assert seen[21, 25] == pytest.approx(lost / 22, rel=0.05)
    assert seen[20, 25] == pytest.approx((1 - 2 * lost / 20) * (1 - 2 * lost / 22), rel=1e-3)
    assert seen.sum() == pytest.approx(1.0, abs=1e-6)


def test_the_edge_is_a_step_a_ramp_or_its_blur():
    sharp = edge_table(0.0)
    middle = len(sharp) // 2
    assert sharp[middle] == 0.5
    assert sharp[middle + 64] == 0.75
    soft = edge_table(0.7)
    assert soft[len(soft) // 2] == pytest.approx(0.5)
    assert (np.diff(soft) >= 0).all()
    np.testing.assert_allclose(soft + soft[::-1], 1.0, atol=1e-9)
    # numerically: box * normal
    x = np.linspace(-8, 8, 16001)
    kernel = np.exp(-0.5 * (x / 0.7) ** 2) / (0.7 * math.sqrt(2 * math.pi)) * (x[1] - x[0])
    for distance in (-1.0, 0.3, 1.2):
        inside = np.clip(distance - x + 0.5, 0, 1)
        index = len(soft) // 2 + round(distance * 256)
        assert soft[index] == pytest.approx((kernel * inside).sum(), abs=2e-3)


@pytest.mark.parametrize(("flip", "turned"), [("rows", (0,)), ("columns", (1,)), ("both", (0, 1))])
def test_a_field_turned_over(flip, turned):
    levels = random_levels()
    optics = PanelOptics(load_profile("adm", {"panel_flip": flip}))
    optics.restore(levels, 0.0)
    plain = transmittances(absent_unit(N), levels)
    np.testing.assert_allclose(
        optics.transmittances(0.0), np.flip(plain, [1 + axis for axis in turned]), atol=1e-9
    )


def test_beyond_the_panel_it_is_dark():
    unit = moved(shift_px=[[0.0, -5.0], [0.0, 5.0]])
    seen = transmittances(unit, np.full((1080, 1920), 255, np.uint16))
    np.testing.assert_allclose(seen[0][:, 0], 0.75, atol=1e-12)
    np.testing.assert_allclose(seen[1][:, -1], 0.75, atol=1e-12)
    np.testing.assert_allclose(seen[0][:, 1:], 1.0, atol=1e-12)


def test_the_gather_is_a_mean():
    light = np.full((50, 60), 0.37)
    centre, edges = np.full((1, 1, 2), 25.3), np.array([[[[10.0, -0.3], [0.2, 12.0]]]])
    out = np.empty((1, 1))
    gather_cells(light, centre, edges, edge_table(0.5), out)
    assert out[0, 0] == pytest.approx(0.37, abs=1e-4)
