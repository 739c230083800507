"""Ageing of the foreign bench: a function of the hour, seen through the interfaces."""

from __future__ import annotations

import math

import numpy as np
import pytest
from foreign_bench import Ageing, ForeignBench, ForeignElectronics, ForeignPanel, drawn_unit
from foreign_bench.ageing import LONGEST_H, Wander

UNIT = 4


def bench(ageing=None, **given):
    return ForeignBench(drawn_unit(UNIT), ageing=ageing, noise_scale=0.0, **given)


@pytest.fixture(scope="module")
def levels():
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(20, 230, (54, 96)), np.ones((20, 20))).astype(np.uint16)


def test_a_wander_has_its_size_and_hardly_moves_in_a_minute():
    wander = Wander.drawn(np.random.default_rng(1), 0.02, 4000)
    hours = np.linspace(0, LONGEST_H, 7)
    values = np.stack([wander.at(float(h)) for h in hours])
    assert values.std() == pytest.approx(0.02, rel=0.05)
    apart = {h: (wander.at(h) - wander.at(0.0)).std() for h in (1 / 60, 1.0, 4.0)}
    assert apart[1 / 60] < 0.05 * 0.02
    # as of a random walk, where tones are closer together than the time that passes
    assert apart[4.0] / apart[1.0] == pytest.approx(2.0, rel=0.35)


def test_a_benchs_hours_are_its_own_and_its_dead_stay_dead():
    unit = drawn_unit(UNIT)
    one, again, other = (Ageing.drawn(seed).aged(unit, 5.0) for seed in (UNIT, UNIT, UNIT + 1))
    np.testing.assert_array_equal(one.efficiency, again.efficiency)
    assert not np.array_equal(one.efficiency, other.efficiency)
    assert ((one.efficiency == 0) == (unit.efficiency == 0)).all()


def test_the_hour_alone_tells_what_a_bench_is():
    """However the time went by, to a second; and it is the same device, by its serial."""
    at_once, in_steps = bench(Ageing.drawn(UNIT)), bench(Ageing.drawn(UNIT))
    at_once.advance(2 * 3.6e9)
    for _ in range(8):
        in_steps.advance(3.6e9 / 4)
    np.testing.assert_allclose(in_steps.unit.responsivity, at_once.unit.responsivity, rtol=1e-12)
    assert in_steps.serial == at_once.serial == bench().serial


def test_light_that_wanders_is_read_on_the_rows(levels):
    """A frame that stays on display: hours later each row's photocurrent is what the aged unit's frame, shown
    anew, would give it.
    """
    kept, anew = bench(Ageing.drawn(UNIT)), bench(Ageing.drawn(UNIT))
    read = []
    for one, shown_h in ((kept, 0.0), (anew, 8.0)):
        panel, electronics = ForeignPanel("panel", one), ForeignElectronics("electronics", one)
        panel.open()
        electronics.open()
        one.advance(shown_h * 3.6e9)
        panel.show(levels)
        before = electronics.probe(np.full((1, 48), 4000)).counts
        one.advance(8 * 3.6e9 - one.now_us + 1e6)
        read.append((before, electronics.probe(np.full((1, 48), 4000)).counts))
    (first, then), (_, shown_anew) = read
    np.testing.assert_allclose(then, shown_anew, rtol=1e-4, atol=0.5)
    lit = np.abs(first) > np.median(np.abs(first))
    assert 1e-3 < np.median(np.abs(then / first - 1)[lit]) < 0.1


def test_the_room_is_read_on_the_thermometer():
    one = bench(Ageing.drawn(UNIT))
    read = []
    for _ in range(96):
        one.advance(3.6e9 / 4)
        read.append(one.temperature_c)
    swing = max(read[4:]) - min(read[4:])
    assert swing == pytest.approx(2 * (1.0 + 0.3), rel=0.15)
    assert np.mean(read[4:]) == pytest.approx(30.0, abs=0.3)
    assert math.isclose(bench().temperature_c, 25.0)
