"""Intervals contain what they should; the ranking finds planted causes, and only those."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.devices import ConfigError
from labctl.energy import (
    OscillatorWork,
    Target,
    claimed_machine,
    interval,
    oscillator_account,
    posterior,
    shipped_constants,
    told_apart,
)
from labctl.energy.posterior import distance, explained_share

SHIPPED = shipped_constants()
WORK = OscillatorWork(n=64, visible=64, cells=1092, bits=4, duration=3.0, segments=4, batch=256)


def core(values):
    return oscillator_account(WORK, values).core_total_j


def test_draws_stay_between_the_corners_and_the_interval_inside_the_draws() -> None:
    draws = SHIPPED.draws(8192, 1)
    drawn = core(draws.values)
    rises = {name: c.interval for name, c in SHIPPED.table.items()}
    for name in ("f0_hz", "eps", "bus_bits_per_s", "link_bytes_per_s", "supply_efficiency"):
        rises[name] = rises[name][::-1]
    low, high = (core({name: ends[i] for name, ends in rises.items()}) for i in (0, 1))
    assert low <= drawn.min() <= drawn.max() <= high
    found = interval(core(SHIPPED.values()), drawn)
    assert drawn.min() <= found.low < found.median < found.high <= drawn.max()
    assert found.low <= found.value <= found.high
    assert np.mean((drawn >= found.low) & (drawn <= found.high)) == pytest.approx(0.9, abs=0.001)


def test_certain_constants_make_a_certain_result() -> None:
    certain = SHIPPED.replaced({name: c.value for name, c in SHIPPED.table.items()}, "here")
    found = interval(core(certain.values()), core(certain.draws(64, 1).values))
    assert found.low == found.median == found.high == pytest.approx(found.value)


def test_a_narrower_constant_narrows_the_result() -> None:
    narrow = SHIPPED.replaced({"f0_hz": [4e7, 6e7]}, "here")
    wide_of, narrow_of = (interval(0.0, core(c.draws(8192, 1).values)) for c in (SHIPPED, narrow))
    assert narrow_of.high / narrow_of.low < 0.05 * wide_of.high / wide_of.low


def test_the_ranking_finds_a_planted_cause_and_says_where_it_must_be() -> None:
    """result = p_osc_w^2 p_unit_w: the first explains four times its log-variance; others do nothing."""
    draws = SHIPPED.draws(32_768, 5)

    def result(values):
        return values["p_osc_w"] ** 2 * values["p_unit_w"] + 0.0 * values["eps"]

    found = posterior("planted", draws, result, Target(1e-12, math.inf))
    assert [one.name for one in found.ranking] == ["p_osc_w", "p_unit_w"], "what it does not read stays out"
    first, second = found.ranking
    assert first.moved > second.moved > found.floor
    assert len(told_apart(found)) == 2
    spans = [math.log(SHIPPED[n].interval[1] / SHIPPED[n].interval[0]) for n in ("p_osc_w", "p_unit_w")]
    wanted = 4 * spans[0] ** 2 / (4 * spans[0] ** 2 + spans[1] ** 2)
    assert first.share == pytest.approx(wanted, abs=0.01)
    assert found.explained == pytest.approx(1, abs=0.01)
    assert first.median > first.prior_median
    own = SHIPPED.values()
    assert not found.at_own_holds
    assert first.alone == pytest.approx(math.sqrt(1e-12 / own["p_unit_w"]), rel=1e-6)
    assert second.alone is None, "no value of its interval is enough"
    assert found.lowest < found.at_own < found.highest
    assert found.highest == pytest.approx(5e-3**2 * 100e-6)


def test_a_claim_that_always_holds_ranks_nothing() -> None:
    found = posterior("all", SHIPPED.draws(1024, 1), core, Target(1e-30))
    assert (found.kept, found.prior_share, found.ranking) == (1024, 1.0, ())


def test_where_a_claim_never_holds_the_nearest_draws_stand_in() -> None:
    draws = SHIPPED.draws(8192, 1)
    drawn = core(draws.values)
    # most energy: slow oscillators; least: the reload is what is left, so cheap bits
    cases = ((Target(1e9), 0.99, "f0_hz"), (Target(1e-30, 1e-20), 0.01, "e_bit_j"))
    for target, share, first in cases:
        found = posterior("never", draws, core, target)
        assert (found.kept, found.prior_share) == (0, 0)
        edge = np.quantile(drawn, share)
        assert found.nearest[0 if share > 0.5 else 1] == pytest.approx(edge, rel=0.02)
        assert found.ranking[0].name == first
        assert found.ranking[0].median < found.ranking[0].prior_median
        assert all(one.alone is None for one in found.ranking)


def test_a_claim_met_as_it_is_needs_nothing_alone() -> None:
    found = posterior("met", SHIPPED.draws(4096, 1), core, Target(1e-9, 1e-6))
    assert found.at_own_holds
    assert all(one.alone is None for one in found.ranking)


def test_slack_widens_a_claim_to_both_sides() -> None:
    held = Target(10.0, 20.0, 0.25).holds(np.array([7.9, 8.0, 15.0, 25.0, 25.1]))
    assert held.tolist() == [False, True, True, True, False]


def test_a_result_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0 in every draw"):
        posterior("nothing", SHIPPED.draws(1024, 1), lambda values: 0.0 * values["eps"], Target(1.0))


def test_distance_is_the_largest_gap_to_uniform() -> None:
    assert distance(np.array([0.5])) == pytest.approx(0.5)
    assert distance((np.arange(1000) + 0.5) / 1000) == pytest.approx(0.0005)
    assert distance(np.full(100, 0.9)) == pytest.approx(0.9)


def test_explained_share_of_noise_is_nothing_and_of_itself_all() -> None:
    rng = np.random.Generator(np.random.Philox(key=1))
    u = rng.random(20_000)
    assert explained_share(u, rng.standard_normal(20_000)) < 0.005
    assert explained_share(u, np.exp(u)) == pytest.approx(1, abs=0.002)
    assert explained_share(u, np.ones(20_000)) == 0
    mixed = explained_share(u, u + rng.random(20_000))
    assert mixed == pytest.approx(0.5, abs=0.02)


def test_23_uj_is_within_reach_of_the_prior_and_not_of_the_chip_at_its_own_values() -> None:
    """The prototype's finding: a ring-oscillator reading gives nJ, thousands of times less than the claim."""
    rings = SHIPPED.replaced({"f0_hz": 1e9, "eps": 0.05}, "here").values()
    machine = oscillator_account(claimed_machine(rings), rings)
    analog = machine.core_j["oscillators"] + machine.core_j["couplings"]
    assert 1000 < 23e-6 / analog < 20_000
    draws = SHIPPED.draws(32_768, 1)
    drawn = oscillator_account(claimed_machine(draws.values), draws.values).core_total_j
    assert drawn.min() < 23e-6 < drawn.max()
    alone = oscillator_account(
        claimed_machine(rings), {**rings, "p_host_w": 1e3, "p_ref_w": 1.0}
    ).core_total_j
    assert alone == machine.core_total_j, "host and reference are no part of the core"
