"""Blind commissioning: places by binary codes; wires of scrambled benches; benches that cannot be wired."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration.commissioning import WIRING, wiring_of
from labctl_calibration.commissioning.places import code_frames, indices, locate
from labctl_calibration.procedure import Devices
from labctl_calibration.taking import take
from labctl_sim_devices import ElectronicsTwin, OpticalBench, PanelTwin, load_profile
from labctl_sim_devices.cables import drawn_cables, drawn_mounting, mounted

from labctl.devices import DeviceFault, LoopElectronics, WeightModulator

N = 48


@pytest.mark.parametrize("zoom", [0.97, 1.0, 1.03])
@pytest.mark.parametrize("missing", [(), (0,), (47,), (11, 12), (0, 47)])
def test_channels_are_placed_by_what_stripes_they_see(zoom, missing):
    rng = np.random.default_rng(len(missing))
    extent, pitch, size = 1080, 22, 22 * zoom
    places = 540 + 3 + size * (np.arange(N) - (N - 1) / 2)
    order = rng.permutation(np.setdiff1d(np.arange(N), missing))
    frames = code_frames(extent, pitch)
    pixel = np.arange(extent) + 0.5
    inside = np.clip((size / 2 + 0.5) - np.abs(pixel[None] - places[order][:, None]), 0, 1)
    shares = frames @ inside.T / size + rng.normal(0, 0.03, (len(frames), len(order)))
    found = locate(shares, frames, pitch, clearly=0.08)
    assert np.abs(found.place_px - places[order]).max() < 0.2 * pitch
    assert (found.next_best - found.missed).min() > 0.08
    np.testing.assert_array_equal(indices(found.place_px, pitch, N, extent), order)


def test_a_channel_between_two_places_stands_where_nobody_else_does():
    """A doubtful channel's rivals are excluded by channels that are sure; of two doubtful ones none is."""
    extent, pitch, order = 1080, 22, np.arange(N)
    frames = code_frames(extent, pitch)
    places = 540 + pitch * (order - (N - 1) / 2)
    pixel = np.arange(extent) + 0.5
    inside = np.clip((pitch / 2 + 0.5) - np.abs(pixel[None] - places[:, None]), 0, 1)
    shares = frames @ inside.T / pitch
    doubtful = shares.copy()
    doubtful[:, 7] = 0.45 * shares[:, 7] + 0.55 * shares[:, 23]  # rather where channel 23 stands
    found = locate(doubtful, frames, pitch, clearly=0.08)
    assert np.abs(found.place_px - places).max() < 0.2 * pitch
    assert (found.next_best - found.missed).min() > 0.08
    both = doubtful.copy()
    both[:, 23] = 0.55 * shares[:, 7] + 0.45 * shares[:, 23]
    found = locate(both, frames, pitch, clearly=0.08)
    assert (found.next_best - found.missed)[[7, 23]].max() < 0.08


def scrambled(unit, *, unplugged=0, deaf=None, mount=lambda panel: panel):
    """(cables, flip, exchanged, devices) of a drawn machine behind drawn cables, one read channel deaf."""
    flip, exchanged = drawn_mounting(unit)
    cables = drawn_cables(unit, N, inverted_share=0.15, unplugged=unplugged)
    if deaf is not None:
        cables.detector_sign[deaf] = 0.0
    bench = OpticalBench(
        mounted(load_profile("unit"), flip, exchanged), seed=unit, unit_seed=unit, cables=cables
    )
    panel, electronics = PanelTwin("panel", bench), ElectronicsTwin("electronics", bench)
    modulator = mount(panel)
    modulator.open()
    electronics.open()
    return cables, flip, exchanged, Devices({WeightModulator: modulator, LoopElectronics: electronics})


def found_on(devices):
    return take(WIRING, devices, {}, lambda *told: None)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1, 3])
def test_wires_are_found_as_they_are(unit):
    cables, flip, exchanged, devices = scrambled(unit, unplugged=1)
    taken = found_on(devices)
    assert taken.measured.accepted
    wiring, dead = wiring_of(taken.record)
    lives = np.setdiff1d(np.arange(N), dead)
    assert set(np.flatnonzero(cables.emitter_sign == 0)) <= set(dead)
    assert 1 <= len(dead) <= 2
    row = N - 1 - cables.detector if flip in ("rows", "both") else cables.detector
    column = N - 1 - cables.emitter if flip in ("columns", "both") else cables.emitter
    np.testing.assert_array_equal(wiring.row, row)
    np.testing.assert_array_equal(wiring.column[lives], column[lives])
    np.testing.assert_array_equal(wiring.drive_sign[lives], cables.emitter_sign[lives])
    np.testing.assert_array_equal(wiring.read_sign, cables.detector_sign * (-1 if exchanged else 1))


def transposed(frame):
    """Each half of the panel turned by a quarter in itself."""
    height, width = frame.shape[0], frame.shape[1] // 2
    y, x = np.arange(height) * width // height, np.arange(width) * height // width
    halves = (frame[:, :width], frame[:, width:])
    return np.concatenate([half[np.ix_(x, y)].T for half in halves], axis=1)


def one_half(frame):
    """Both halves show what the left one is told."""
    return np.concatenate([frame[:, : frame.shape[1] // 2]] * 2, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"unplugged": 48}, "no light"),
        ({"unplugged": 20}, "drive channels give no light: .*; allowed: at most 12"),
        ({"change": np.zeros_like}, "panel blank"),
        ({"change": transposed}, "turned by a quarter"),
        ({"change": one_half}, "not enough light"),
        ({"deaf": 5}, "read channel 5 sees no light through the left half"),
    ],
)
def test_what_cannot_be_wired_is_named(panels, how, words):
    change = how.get("change")
    mount = (lambda panel: panels.MountedWrongly(panel, change)) if change else (lambda panel: panel)
    *_, devices = scrambled(2, unplugged=how.get("unplugged", 0), deaf=how.get("deaf"), mount=mount)
    with pytest.raises(DeviceFault, match=words):
        found_on(devices)
