"""Constants: complete, sourced, in range; set by users with one clear error; drawn by seed."""

from __future__ import annotations

import tomllib
from importlib import resources

import numpy as np
import pytest
from pydantic import ValidationError

from labctl.devices import ConfigError
from labctl.energy import Constant, shipped_claims, shipped_constants

TABLE = shipped_constants().table
GOOD = {
    "group": "host",
    "meaning": "something",
    "value": 2.0,
    "unit": "W",
    "interval": [1.0, 5.0],
    "distribution": "uniform",
    "provenance": "assumed",
    "source": "a sentence that says it",
}


@pytest.mark.parametrize("name", TABLE)
def test_every_constant_says_where_it_comes_from(name) -> None:
    constant = TABLE[name]
    assert constant.provenance in ("published", "derived", "assumed")
    assert len(constant.source) >= 20
    assert len(constant.meaning) >= 10
    low, high = constant.interval
    assert low < high, "no constant is certain"
    assert low <= constant.value <= high
    assert constant.distribution == "log-uniform" or high / low < 10


def test_names_say_their_units() -> None:
    endings = {"W": "_w", "J": "_j", "s": "_s", "Hz": "_hz", "B/s": "_bytes_per_s", "bit/s": "_bits_per_s"}
    for name, constant in TABLE.items():
        if constant.unit:
            assert name.endswith(endings[constant.unit]), name


def test_every_key_of_the_file_is_read() -> None:
    text = (resources.files("labctl.energy") / "constants.toml").read_text("utf-8")
    assert set(tomllib.loads(text)) == set(TABLE)


def test_derived_powers_follow_from_the_published_chip() -> None:
    """42 mW, 1,968 nodes, four couplings of two units a node; the 60/40 split is assumed."""
    node = 0.042 / 1968
    assert TABLE["p_osc_w"].value == pytest.approx(0.6 * node, rel=2e-3)
    assert TABLE["p_osc_w"].interval[0] == pytest.approx(0.4 * node, rel=5e-3)
    assert TABLE["p_unit_w"].value == pytest.approx(0.4 * node / 8, rel=2e-3)
    assert TABLE["e_adc_j"].value == pytest.approx(50e-15 * 2**14, rel=0.03)


def test_claims_say_who_claims() -> None:
    claims = shipped_claims()
    assert claims["ais_image"].value == 23e-6
    assert (claims["gpu_image"].low, claims["gpu_image"].high) == (2e-3, 3e-3)
    assert claims["ais_ratio"].value == 100 == claims["adm_ratio"].value
    assert all(len(claim.source) > 20 for claim in claims.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": ""}, "source"),
        ({"value": 9.0}, "outside its interval"),
        ({"value": float("nan")}, "finite"),
        ({"interval": [1.0, 50.0]}, "spans a decade"),
        ({"interval": [0.0, 5.0], "distribution": "log-uniform"}, "above 0"),
        ({"interval": [2.0, 2.0]}, "a point is one"),
        ({"provenance": "known"}, "provenance"),
        ({"unit": "mW"}, "unit"),
    ],
)
def test_incomplete_or_impossible_constants_are_refused(change, said) -> None:
    Constant(**GOOD)
    with pytest.raises(ValidationError, match=said):
        Constant(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"p_oscw": 1.0}, "constant 'p_oscw' is not known; did you mean 'p_osc_w'"),
        ({"p_osc_w": -1.0}, r"p_osc_w = -1\.0: allowed: 0 W or more"),
        ({"p_osc_w": float("inf")}, "p_osc_w = inf"),
        ({"p_osc_w": "much"}, "p_osc_w = 'much'"),
        ({"p_osc_w": True}, "p_osc_w = True"),
        ({"p_osc_w": [2.0, 1.0]}, "low at most high"),
        ({"p_osc_w": [0.0, 1.0]}, "begins above 0"),
        ({"p_osc_w": [1.0, 2.0, 3.0]}, "or \\[low, high\\]"),
        ({"f0_hz": 0.0}, r"f0_hz = 0\.0: allowed: more than 0 Hz"),
        ({"supply_efficiency": 1.5}, "above 0, at most 1"),
    ],
)
def test_a_wrong_setting_gets_one_clear_error(settings, said) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        shipped_constants().replaced(settings, "here")
    assert str(caught.value).startswith("here: constant")


def test_a_number_makes_a_constant_certain_and_an_interval_keeps_it_open() -> None:
    found = shipped_constants().replaced({"p_osc_w": 5e-3, "p_host_w": [2, 40], "eps": [0.01, 0.02]}, "here")
    assert found["p_osc_w"].distribution == "point"
    assert found["p_osc_w"].provenance == "set by the user"
    assert found["p_host_w"].distribution == "log-uniform"
    assert found["p_host_w"].value == pytest.approx(np.sqrt(80))
    assert found["eps"].distribution == "uniform"
    draws = found.draws(1024, 1)
    assert draws.values["p_osc_w"] == 5e-3
    assert "p_osc_w" not in draws.u
    assert shipped_constants()["p_osc_w"].value != 5e-3


def test_draws_keep_to_their_intervals_and_fill_every_stratum() -> None:
    draws = shipped_constants().draws(2048, 3)
    for name, u in draws.u.items():
        low, high = TABLE[name].interval
        values = draws.values[name]
        assert values.min() >= low * (1 - 1e-12)
        assert values.max() <= high * (1 + 1e-12)
        assert sorted((u * 2048).astype(int)) == list(range(2048)), "one draw a stratum"
    logs = np.log(draws.values["f0_hz"])
    assert np.median(logs) == pytest.approx(np.log(TABLE["f0_hz"].at(np.array([0.5]))[0]), abs=0.01)


def test_the_same_seed_draws_the_same_bits_whatever_else_is_set() -> None:
    one, two = shipped_constants().draws(1024, 7), shipped_constants().draws(1024, 7)
    other = shipped_constants().replaced({"f0_hz": 1e6}, "here").draws(1024, 7)
    for name in one.u:
        np.testing.assert_array_equal(one.values[name], two.values[name])
        if name != "f0_hz":
            np.testing.assert_array_equal(one.values[name], other.values[name])
    assert not np.array_equal(one.u["eps"], shipped_constants().draws(1024, 8).u["eps"])
    assert abs(np.corrcoef(one.u["eps"], one.u["f0_hz"])[0, 1]) < 0.1, "constants are independent"


def test_one_draw_is_refused() -> None:
    with pytest.raises(ConfigError, match="draws is 1; allowed: 2 or more"):
        shipped_constants().draws(1, 1)
