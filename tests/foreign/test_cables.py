"""A foreign bench plugged in anyhow is the same bench, by other numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from foreign_bench import Cables, ForeignBench, ForeignElectronics, ForeignPanel, drawn_unit

from labctl.devices import SettleCodes

N = 48
TOP = 2**13 - 1


def shown(frame, cables=None):
    """Electronics of a quiet bench with a frame on display: nothing changes from probe to probe."""
    same = np.ones(N)  # channels are renumbered, rows of the electronics are not
    unit = replace(
        drawn_unit(3), flicker=0.0, hum_units=0.0, warm_up=0.0, reach=same, slope=same, centre_units=0 * same,
        erf_share=0 * same, gain_scale=same, offset_units=0 * same, input_offset=0 * same, leak_scale=same,
        leak_offset=0 * same, tau_us=0.75 * same,
    )  # fmt: skip
    bench = ForeignBench(unit, noise_scale=0.0, cables=cables)
    panel, electronics = ForeignPanel("panel", bench), ForeignElectronics("electronics", bench)
    panel.open()
    electronics.open()
    panel.show(frame)
    return electronics


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 256, (54, 96)), np.ones((20, 20))).astype(np.uint16)


@pytest.fixture(scope="module")
def straight(frame):
    return shown(frame)


def test_channels_are_renumbered_and_signs_turned(frame, straight):
    cables = replace(Cables.drawn(5), upside_down=False, mirrored=False, exchanged=False)
    drive, read = (np.where(wrong, -1, 1) for wrong in (cables.inverted, cables.crossed))
    assert 0 < cables.inverted.sum() < N
    assert 0 < cables.crossed.sum() < N
    scrambled = shown(frame, cables)
    codes = np.random.default_rng(1).integers(-TOP, TOP, (6, N))
    by_emitter = (codes * drive)[:, np.argsort(cables.emitter)]
    for at, given, asked in (
        ("phi", codes, by_emitter),
        ("emitter", abs(codes), abs(codes)[:, np.argsort(cables.emitter)]),
    ):
        seen = scrambled.probe(given, at=at).counts
        np.testing.assert_allclose(
            seen, read * straight.probe(asked, at=at).counts[:, cables.detector], atol=1e-6
        )


@pytest.mark.slow
def test_a_loop_whose_drives_are_all_inverted_pulls_the_other_way(frame):
    """What a channel's own light does to its state changes its sign with the polarity of its drive."""
    plain = Cables(*(np.arange(N),) * 2, *(np.zeros(N, bool),) * 2, np.ones(N, bool))
    turned = replace(plain, inverted=np.ones(N, bool))
    ends = []
    for cables in (plain, turned):
        electronics = shown(frame, cables)
        codes = SettleCodes(
            bias=np.array([[2000] * N, [-2000] * N]),
            gain=np.asarray(electronics.spec.hidden_gain.code(np.full((1, N), 0.03))),
            leak=np.full((1, N), electronics.spec.max_leak_code), gain_range=np.ones(N, np.int64),
            start=np.zeros((2, N), np.int64), step_id=1, sample_id=np.arange(2),
        )  # fmt: skip
        ends.append(electronics.settle(codes).counts)
    pulled = [(end[0] - end[1]) / 2 - 2000 for end in ends]
    assert np.corrcoef(*pulled)[0, 1] < -0.9


@pytest.mark.slow
def test_a_drive_that_is_not_plugged_in_lights_nothing(frame):
    cables = Cables.drawn(7, unplugged=2)
    electronics = shown(frame, cables)
    alone = TOP * np.eye(N, dtype=np.int64)
    dark = electronics.probe(0 * alone[:1], at="emitter").counts
    lit = np.abs(electronics.probe(alone, at="emitter").counts - dark)
    without = ~cables.plugged | (drawn_unit(3).efficiency == 0)[cables.emitter]
    np.testing.assert_array_equal(lit.max(axis=1) == 0, without)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "turn"),
    [
        ("upside_down", lambda f: f[::-1]),
        ("mirrored", lambda f: f[:, ::-1]),
        ("exchanged", lambda f: np.roll(f, 960, axis=1)),
    ],
)
def test_a_panel_mounted_another_way_shows_the_frame_so(frame, straight, way, turn):
    plain = Cables(*(np.arange(N),) * 2, *(np.zeros(N, bool),) * 2, np.ones(N, bool))
    codes = np.random.default_rng(2).integers(-TOP, TOP, (3, N))
    seen = shown(np.ascontiguousarray(turn(frame)), replace(plain, **{way: True})).probe(codes).counts
    np.testing.assert_allclose(seen, straight.probe(codes).counts, atol=1e-6)
