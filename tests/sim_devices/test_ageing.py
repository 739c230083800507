"""Ageing, opt-in: what does not come back, and that benches without it are the benches they were."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_sim_devices import (
    OpticalBench,
    OscillatorBench,
    draw_unit,
    load_oscillator_profile,
    load_profile,
    profile_document,
)

HOUR_US = 3.6e9
OTHERS_OFF = {"drift": 0.0, "warm_up": 0.0, "self_heating": 0.0, "registration_drift": 0.0}


def aged(hours, **terms):
    bench = OpticalBench(load_profile("unit-ageing"), seed=2, unit_seed=2)
    bench.set_terms({**OTHERS_OFF, **terms})
    bench.advance(hours * HOUR_US)
    return bench


def test_a_bench_that_does_not_age_keeps_its_serial_number_and_its_draws():
    assert "ageing" not in load_profile("unit").model_dump_json()
    assert "ageing" in load_profile("unit-ageing").model_dump_json()
    assert "ageing" not in load_oscillator_profile("unit50").model_dump_json()
    plain, ageing = (draw_unit(load_profile(name), 5) for name in ("unit", "unit-ageing"))
    np.testing.assert_array_equal(plain.input_efficiency, ageing.input_efficiency)
    assert not plain.has("ageing")
    assert ageing.has("ageing")
    assert set(profile_document("unit-ageing")["unit"]) == set(profile_document("unit")["unit"]) | {"ageing"}


def test_emitters_fade_for_good():
    day = aged(1000.0).emitters()
    assert (day < 1).all()
    assert day.mean() == pytest.approx(0.9, abs=0.02)
    assert day.std() == pytest.approx(0.05, rel=0.5)
    assert (aged(1000.0, ageing=0.0).emitters() == 1).all()


def test_the_image_creeps_and_gains_wander():
    young, old = aged(0.0), aged(25.0)
    moved = old.optics.placement(0, old.now_us).centre_px - young.optics.placement(0, 0.0).centre_px
    assert np.ptp(moved, axis=(0, 1)).max() < 1e-9  # as a whole
    assert 0.005 < np.abs(moved).max() < 0.5
    np.testing.assert_allclose(moved[0, 0], old.clock.creep_px(old.now_us), atol=1e-3)
    gains = old.clock.gain(old.now_us)
    assert gains.std() == pytest.approx(0.01, rel=0.4)
    np.testing.assert_allclose(old.law().loop.scale.numpy(), old.unit.loop_scale * gains)
    assert aged(5.0, ageing=0.0).clock.gain(0.0) is None


def test_days_pass_at_once_and_are_the_same_however_they_are_asked_for():
    at_once, by_hours = aged(24.0), aged(0.0)
    for _ in range(24):
        by_hours.advance(HOUR_US)
        by_hours.emitters()
    np.testing.assert_array_equal(at_once.emitters(), by_hours.emitters())
    np.testing.assert_array_equal(at_once.clock.gain(at_once.now_us), by_hours.clock.gain(by_hours.now_us))


def test_frequencies_of_a_board_wander():
    unit = {**load_oscillator_profile("unit50").unit.model_dump(), "ageing": {"units_per_sqrt_hour": 0.01}}
    bench = OscillatorBench(load_oscillator_profile("unit50", {"unit": unit}), seed=1, unit_seed=1)
    bench.set_terms({"temperature": 0.0})
    before = bench.detuning()
    bench.advance(25 * HOUR_US)
    assert (bench.detuning() - before).std() == pytest.approx(0.05, rel=0.4)
    bench.set_terms({"ageing": 0.0})
    np.testing.assert_array_equal(bench.detuning(), before)
