"""Every cell found to a few hundredths of a pixel; planes that are mirrored, swapped or a cell off, too."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration.probing import Probing
from labctl_calibration.registration import register

from labctl.devices import DeviceFault

BAR_PX = 0.05


def registered(panels, unit_seed, **how):
    bench, modulator, electronics = panels.opened(unit_seed, **how)
    return bench, register(Probing(modulator, electronics))


@pytest.mark.parametrize(
    "unit_seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))]
)
def test_cells_of_a_drawn_bench_are_found_within_the_bar(panels, unit_seed):
    bench, found = registered(panels, unit_seed)
    assert panels.placement_error_px(bench, found) < BAR_PX / 2
    for path in found.paths:
        assert path.mirrored == (False, False)
        assert path.used > 2200  # one dead channel of 48, and a few pixels
        assert path.error_px < 0.005
    assert not found.swapped
    shares = np.stack([path.neighbour for path in found.paths])
    np.testing.assert_allclose(shares, bench.unit.neighbour, atol=2e-3)


def test_cells_of_the_designed_bench_are_where_the_design_has_them(panels):
    bench, found = registered(panels, 0, profile="adm")
    assert panels.placement_error_px(bench, found) < BAR_PX / 2
    for path in found.paths:
        np.testing.assert_allclose(path.shift_px, 0.0, atol=0.01)
        assert abs(path.turn_mrad) < 0.02
    assert all("mirrored" not in said and "swapped" not in said for said in found.found)


def swapped(frame):
    middle = frame.shape[1] // 2
    return np.concatenate([frame[:, middle:], frame[:, :middle]], axis=1)


def places_swapped(places):
    return np.stack([places[..., 0], (places[..., 1] + 960) % 1920], axis=-1)


def mirrored_halves(frame):
    middle = frame.shape[1] // 2
    return np.concatenate([frame[:, :middle][:, ::-1], frame[:, middle:][:, ::-1]], axis=1)


def places_mirrored(places):
    x = places[..., 1]
    return np.stack([places[..., 0], np.where(x < 960, 960 - x, 2880 - x)], axis=-1)


MOUNTINGS = {
    # what the panel makes of a frame, where that has the true places, mirrored (y, x), swapped, cells off
    "upside down": (
        lambda f: f[::-1],
        lambda p: np.stack([1080 - p[..., 0], p[..., 1]], axis=-1),
        (True, False), False, (0, 0),
    ),
    "left to right": (
        lambda f: f[:, ::-1],
        lambda p: np.stack([p[..., 0], 1920 - p[..., 1]], axis=-1),
        (False, True), True, (0, 0),
    ),
    "each plane mirrored": (mirrored_halves, places_mirrored, (False, True), False, (0, 0)),
    "planes swapped": (swapped, places_swapped, (False, False), True, (0, 0)),
    "one column off": (
        lambda f: np.roll(f, 20, axis=1),
        lambda p: p - np.array([0, 20]),
        (False, False), False, (0, -1),
    ),
    "one row off": (
        lambda f: np.roll(f, -22, axis=0),
        lambda p: p + np.array([22, 0]),
        (False, False), False, (1, 0),
    ),
}  # fmt: skip


def check_mounting(panels, how, unit_seed):
    change, places, mirrored, is_swapped, cells_off = MOUNTINGS[how]
    bench, found = registered(panels, unit_seed, change=change)
    assert panels.placement_error_px(bench, found, places) < BAR_PX
    assert found.swapped == is_swapped
    assert any("swapped" in said for said in found.found) == is_swapped
    assert any("mirrored" in said for said in found.found) == any(mirrored)
    for path in found.paths:
        assert path.mirrored == mirrored
        # a drawn bench is itself a few pixels off, far less than half a cell
        np.testing.assert_array_equal(np.rint(path.shift_px / path.cells.pitch_px), cells_off)
    assert any(
        " cells)" in said and f"({cells_off[0]:+d}, {cells_off[1]:+d}" in said for said in found.found
    ) == any(cells_off)


@pytest.mark.parametrize(
    ("how", "unit_seed"),
    # the fourth bench's dead channel lies beside the middle of the field
    [
        pytest.param("upside down", 3, marks=pytest.mark.slow),
        ("left to right", 4),
        pytest.param("one column off", 3, marks=pytest.mark.slow),
    ],
)
def test_a_panel_mounted_wrongly_is_found_and_corrected(panels, how, unit_seed):
    check_mounting(panels, how, unit_seed)


@pytest.mark.slow
@pytest.mark.parametrize("unit_seed", range(1, 6))
@pytest.mark.parametrize("how", MOUNTINGS)
def test_every_wrong_mounting_is_found_on_every_bench(panels, how, unit_seed):
    check_mounting(panels, how, unit_seed)


@pytest.mark.slow
@pytest.mark.parametrize("unit_seed", range(20))
def test_the_bar_holds_on_twenty_benches(panels, unit_seed):
    bench, found = registered(panels, unit_seed)
    assert panels.placement_error_px(bench, found) <= BAR_PX


def test_light_that_ignores_the_frame_is_a_fault(panels):
    rng = np.random.default_rng(0)
    with pytest.raises(DeviceFault, match="register"):
        registered(
            panels, 1, change=lambda f: rng.integers(0, 256, f.shape).astype(np.uint16) * (f.max() > 0)
        )
