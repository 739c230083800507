"""`labctl run ledger_compare` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FEW = ("--set", "draws=2048", "--set", "digital=false")


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr("labctl.procedures.baseline.LEAST_S", 0.0)


def test_it_prints_costs_claims_and_what_must_be_true(labctl) -> None:
    ended = labctl("run", "ledger_compare", "--set", "draws=4096", "--set", "digital_batch=16")
    assert ended.code == 0, ended.err
    for word in (
        "core", "wall plug", "8x8, radius 2", "48 rows, 5 settles", "(this CPU)", "couplings", "reload",
        "programming", "host", "claim: 23 µJ an image", "claim: 2 to 3 mJ", "23 µJ an image: core",
        "100x, core: 28x28, radius 2 against generator", "moved", "f0_hz", "power assumed",
        "the 1% of draws that come nearest",
    ):  # fmt: skip
        assert word in ended.out, word
    (file,) = Path("runs").glob("ledger_compare_*.json")
    assert file.name in ended.out.replace("\n", "")


def test_json_and_quiet_are_for_programs(labctl) -> None:
    ended = labctl("run", "ledger_compare", *FEW, "--json")
    assert ended.code == 0, ended.err
    assert ended.document["rows"][0]["name"] == "8x8, radius 2"
    assert ended.document["exit_code"] == 0
    ended = labctl("run", "ledger_compare", *FEW, "--quiet")
    assert json.loads(Path(ended.out.strip()).read_text())["kind"] == "labctl energy ledger"


def test_constants_are_set_by_name(labctl) -> None:
    def core(*settings: str) -> float:
        asked = [word for setting in settings for word in ("--set", setting)]
        ended = labctl("run", "ledger_compare", *FEW, *asked, "--json")
        assert ended.code == 0, ended.err
        return ended.document["rows"][0]["core_j"]["items"]["oscillators"]

    assert core("p_osc_w=25.6e-6") == pytest.approx(2 * core())
    assert core("p_osc_w=[1e-5, 2e-5]") == pytest.approx(1.5 / 1.28 * core())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "p_oscw=1"), "recipe ledger_compare has no such key; did you mean 'p_osc_w'?"),
        (("--set", "p_osc_w=-1"), "constant p_osc_w = -1.0: allowed: 0 W or more"),
        (("--set", "p_osc_w=much"), "p_osc_w"),
        (("--set", "of=nowhere.nxs"), "nowhere.nxs: no such run file"),
        (
            ("--rig", "optical-twin"),
            "--rig optical-twin: recipe ledger_compare runs on no rig; allowed",
        ),
    ],
)
def test_mistakes_get_one_line(labctl, arguments, said) -> None:
    ended = labctl("run", "ledger_compare", *arguments)
    assert ended.code in (2, 4)
    (line,) = ended.err.strip().splitlines()
    assert said in line


def test_validate_shows_every_constant_and_times_nothing(labctl, monkeypatch) -> None:
    def touched(*_: object) -> None:
        raise AssertionError("something was timed")

    monkeypatch.setattr("labctl.procedures.ledgering._measured", touched)
    ended = labctl("validate", "ledger_compare", "--set", "eps=0.01")
    assert ended.code == 0, ended.err
    assert "p_unit_w" in ended.out
    assert "set by the user" in ended.out
    assert "valid: 131,072 draws" in ended.out
