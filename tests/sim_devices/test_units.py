"""Drawn benches: the same seed the same bench, terms independent, magnitudes as published, scales."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labctl_sim_devices import TERMS, OpticalBench, draw_unit, load_profile, profile_document
from labctl_sim_devices.units import PARAMETERS, absent_unit

from labctl.devices import ConfigError

PROFILE = load_profile("unit")
UNIT = draw_unit(PROFILE, 1)
DRAWN = [name for name in TERMS if name not in ("crossing", "mirror_resets", "speckle", "ageing")]


def arrays(unit):
    return {f.name: np.asarray(getattr(unit, f.name)) for f in fields(unit) if f.name != "settings"}


def differing(a, b):
    first, second = arrays(a), arrays(b)
    return {name for name in first if not np.array_equal(first[name], second[name])}


def test_the_same_seed_draws_the_same_bench_and_another_another():
    assert not differing(draw_unit(PROFILE, 3), draw_unit(PROFILE, 3))
    assert {"input_efficiency", "curve", "shift_px"} <= differing(
        draw_unit(PROFILE, 3), draw_unit(PROFILE, 4)
    )


@pytest.mark.parametrize("term", DRAWN)
def test_leaving_a_term_out_changes_no_other(term):
    document = profile_document("unit")
    population = {k: v for k, v in document["unit"].items() if k != term}
    changed = differing(draw_unit(PROFILE, 5), draw_unit(load_profile("unit", {"unit": population}), 5))
    own = {name for name, p in PARAMETERS.items() if p.term == term} | (
        {"curve"} if term == "curve" else set()
    )
    assert changed <= own
    assert changed


@pytest.mark.parametrize("name", ["adm", "ideal", "nature2025"])
def test_profiles_without_a_population_have_no_faults(name):
    profile = load_profile(name)
    assert not differing(draw_unit(profile, 9), absent_unit(48))
    bench = OpticalBench(profile, seed=9)
    assert bench.plain_light
    assert bench.plain_loop


def test_magnitudes_are_the_published_ones():
    """adm.md 2.1, over 200 benches."""
    units = [draw_unit(PROFILE, seed) for seed in range(200)]
    rows = np.array([u.input_efficiency for u in units])
    assert rows.std(axis=2).mean() == pytest.approx(0.25, abs=0.03)
    assert (rows.max(axis=1) == 0).sum(axis=1).tolist() == [1] * 200
    assert rows[:, :, [0, -1]].mean() < 0.75 < rows.mean()  # edge channels are the weakest
    full = np.array([u.weight_quadratic + u.weight_linear + u.weight_constant for u in units])
    np.testing.assert_allclose(full.mean(axis=(0, 2)), [0.77, 0.74], atol=0.03)
    off = np.array([u.weight_linear * u.contrast_off.mean() + u.weight_constant for u in units])
    np.testing.assert_allclose(off.mean(axis=(0, 2)), [0.045, 0.053], atol=0.003)
    ratio = np.median((full / off).reshape(200, 2, -1), axis=(0, 2))
    np.testing.assert_allclose(ratio, [19, 14], rtol=0.2)
    neighbour = np.array([u.neighbour for u in units])
    assert 0.05 <= neighbour.mean() <= 0.075
    assert np.median(neighbour) <= 0.035
    assert neighbour.max(axis=(1, 2, 3)).mean() == pytest.approx(0.31, abs=0.07)
    assert np.mean([u.splitter.mean() for u in units]) == pytest.approx(0.0053, abs=3e-4)
    assert np.mean([u.loop_scale.mean() for u in units]) == pytest.approx(0.73, abs=5e-3)
    assert np.mean([u.loop_scale.std() for u in units]) == pytest.approx(0.025, abs=2e-3)
    assert np.mean([u.loop_offset.std() for u in units]) == pytest.approx(0.0092 * 2 / 0.34, abs=4e-3)
    np.testing.assert_allclose(
        np.mean([u.output_correction.mean(axis=1) for u in units], axis=0), [1.038, 1.053], atol=2e-3
    )


@pytest.mark.parametrize("term", DRAWN)
@settings(max_examples=10)
@given(scale=st.floats(0, 4))
def test_a_scale_moves_one_term_in_proportion(term, scale):
    scaled = UNIT.scaled({term: scale})
    for name, p in PARAMETERS.items():
        now, drawn = getattr(scaled, name), getattr(UNIT, name)
        expected = p.absent + scale * (drawn - p.absent) if p.term == term else drawn
        np.testing.assert_allclose(now, expected, atol=1e-12)
    if scale == 0:
        assert not scaled.has(term)


def test_off_is_absent_to_the_bit():
    nothing = draw_unit(PROFILE, 1).scaled(dict.fromkeys(TERMS, 0.0))
    for name, p in PARAMETERS.items():
        assert (getattr(nothing, name) == p.absent).all(), name


@pytest.mark.parametrize(
    ("scales", "message"),
    [({"colour": 1.0}, "terms.colour: no such term; allowed: emission, self_heating"),
     ({"emission": -0.1}, r"terms.emission = -0.1; allowed: 0 \(off\) to 4"),
     ({"emission": 4.5}, "terms.emission = 4.5")],
)  # fmt: skip
def test_wrong_scales_are_refused(scales, message):
    bench = OpticalBench(PROFILE)
    with pytest.raises(ConfigError, match=message):
        bench.set_terms(scales)
    with pytest.raises(ConfigError, match=message):
        OpticalBench(load_profile("unit", {"terms": scales}))


@pytest.mark.parametrize(
    ("truth", "message"),
    [({"colour": [1.0]}, "truth.colour: no such parameter"),
     ({"loop_scale": [1.0] * 47}, r"truth.loop_scale has shape \(47,\); allowed: \(48,\)"),
     ({"curve": [[1.0] * 5] * 48}, r"truth.curve has shape \(48, 5\); allowed: \(48, 6\)")],
)  # fmt: skip
def test_wrong_truths_are_refused(truth, message):
    with pytest.raises(ConfigError, match=message):
        draw_unit(load_profile("adm", {"truth": truth}), 0)


def test_an_explicit_truth_stands_in_place_of_a_draw():
    unit = draw_unit(load_profile("unit", {"truth": {"loop_scale": [0.5] * 48}}), 1)
    assert (unit.loop_scale == 0.5).all()
    assert differing(unit, draw_unit(PROFILE, 1)) == {"loop_scale"}


def test_every_term_of_the_population_has_a_source():
    for name in ("unit", "dmd"):
        document = profile_document(name)
        assert set(document["unit"]) == set(document["unit_sources"])
        for source in document["unit_sources"].values():
            assert source.startswith(("[P]", "[A]", "[D]"))


def test_regions_of_two_terms_must_be_one_grid():
    unit = {**profile_document("unit")["unit"]}
    unit["contrast"] = {**unit["contrast"], "regions": [2, 2]}
    with pytest.raises(ConfigError, match=r"regions are \(4, 6\) for panel_response, \(2, 2\) for contrast"):
        load_profile("unit", {"unit": unit})
