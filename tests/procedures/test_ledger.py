"""The ledger as a procedure: rows, claims, its file; recipes that make no sense; a run file's own times."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from labctl import load_protocol, open_rig, run
from labctl.devices import ConfigError, RunLogError
from labctl.energy import optics_account, shipped_constants
from labctl.models.checkpoint import load_network
from labctl.procedures import LedgerRecipe, Protocol, chains_of, ledger
from labctl.procedures.baseline import (
    LATENT,
    _Float32Denoiser,
    hidden_width,
    measure_denoiser,
    measure_generator,
)
from labctl.procedures.ledgering import work_of_panel
from labctl.runlog import RunReader
from labctl.sampling import HostMachine

ROW = {"name": "small", "n": 16, "visible": 16, "cells": 84, "bits": 4, "segments": 2, "duration": 3.0}
LIT = {"name": "lit", "n": 48, "settles": 5, "step_us": 14.9, "upload_us": 20_000.0, "batch": 2000}
MEASURED = {"name": "a GPU", "seconds": 1e-5, "watts": 300.0, "source": "read from its meter, somewhere"}


def recipe(**keys):
    base = {"title": "a small ledger", "oscillators": [ROW], "digital": False, "draws": 1024}
    return Protocol(name="small", recipe=LedgerRecipe(**{**base, **keys}))


@pytest.fixture
def quick(monkeypatch) -> None:
    """Timing loops end after their fewest runs."""
    monkeypatch.setattr("labctl.procedures.baseline.LEAST_S", 0.0)


@pytest.fixture(scope="module")
def optical_run(tmp_path_factory):
    settings = {"samples": 12, "audit": 0, "reference": 20}
    with open_rig("optical-twin") as rig:
        return run(load_protocol("sample_moons", settings), rig, out=tmp_path_factory.mktemp("run")).file


def test_the_shipped_ledger_has_all_rows_and_writes_its_file(tmp_path, quick) -> None:
    protocol = load_protocol("ledger_compare", {"draws": 4096, "digital_batch": 16})
    said: list[str] = []
    result = ledger(protocol, out=tmp_path, say=said.append)
    assert {row.kind for row in result.rows} == {"oscillators", "optics", "digital"}
    assert len(said) > 3
    content = json.loads(result.file.read_text(encoding="utf-8"))
    assert result.file.suffix == ".json"
    assert list(tmp_path.iterdir()) == [result.file]
    assert {row["name"] for row in content["rows"]} == {row.name for row in result.rows}
    assert all(constant["source"] for constant in content["constants"].values())
    assert content["this_cpu"]
    for row in content["rows"]:
        for of in ("core_j", "wall_j", "latency_s"):
            found = row[of]
            assert 0 < found["low"] <= found["median"] <= found["high"]
            assert sum(found["items"].values()) == pytest.approx(found["value"])
        assert row["core_j"]["value"] <= row["wall_j"]["value"]
    for row in result.rows:
        assert ("this CPU" in row.how) == (row.kind == "digital")
    assert [p.claim.split(":")[0] for p in result.posteriors] == [
        "23 µJ an image", "100x, core", "100x, wall plug", "100x, core", "100x, wall plug",
    ]  # fmt: skip
    beside = {ratio.machine: ratio.digital for ratio in result.ratios}
    assert beside["48 rows, 5 settles"] == "denoiser fashion"
    assert beside["8x8, radius 2"].startswith("generator 64-")


def test_no_row_of_ours_is_a_claim(tmp_path) -> None:
    content = json.loads(ledger(recipe(optics=[LIT]), out=tmp_path).file.read_text(encoding="utf-8"))
    claimed = {claim["value"] for claim in content["claims"].values()}
    assert not claimed & {row["core_j"]["value"] for row in content["rows"]}


def test_the_same_seed_gives_the_same_figures(tmp_path) -> None:
    one, two, other = (ledger(recipe(seed=s), out=tmp_path) for s in (1, 1, 2))
    assert one.rows[0].core_j == two.rows[0].core_j
    assert one.posteriors == two.posteriors
    assert one.rows[0].core_j != other.rows[0].core_j
    assert len({one.file, two.file, other.file}) == 3, "nothing is overwritten"


def test_settings_of_constants_have_the_last_word(tmp_path) -> None:
    row = {**ROW, "constants": {"f0_hz": 1e9}}
    own = ledger(recipe(oscillators=[row]), out=tmp_path)
    over = ledger(recipe(oscillators=[row], constants={"f0_hz": 1e6}), out=tmp_path)
    assert over.rows[0].account.latency_s["evolution"] == pytest.approx(
        1000 * own.rows[0].account.latency_s["evolution"]
    )
    assert over.constants["f0_hz"].provenance == "set by the user"


def test_a_setting_on_the_command_line_reaches_its_constant() -> None:
    found = load_protocol("ledger_compare", {"p_osc_w": 5e-3, "e_tdc_j": [1e-12, 2e-12], "seed": 4}).recipe
    assert isinstance(found, LedgerRecipe)
    assert found.constants == {"p_osc_w": 5e-3, "e_tdc_j": (1e-12, 2e-12)}
    assert found.seed == 4


def test_a_digital_row_measured_elsewhere_is_told_as_such(tmp_path) -> None:
    (row,) = (r for r in ledger(recipe(measured=[MEASURED]), out=tmp_path).rows if r.kind == "digital")
    assert row.core_j.value == pytest.approx(3e-3)
    assert row.how.startswith("measured elsewhere: read from its meter")


def test_a_runs_own_times_make_its_row(tmp_path, optical_run) -> None:
    result = ledger(recipe(of=str(optical_run)), out=tmp_path)
    row = next(r for r in result.rows if r.kind == "optics")
    assert row.name == optical_run.stem
    assert "5 settles of 14.9 µs (modelled)" in row.how
    with RunReader(optical_run) as reader:
        panel = reader.panel()
        work, clock = work_of_panel(panel, "here")
        total_us = panel.ledger.modelled_total_us()
    assert (clock, work.n, work.settles, work.batch) == ("modelled", 48, 5, 12)
    found = optics_account(work, shipped_constants().values())
    assert found.latency_total_s * 12 * 1e6 == pytest.approx(total_us)


def test_beside_a_run_stands_the_denoiser_it_ran(tmp_path, optical_run, quick) -> None:
    for network, beside in (("moons", "denoiser moons"), ("fashion", None)):
        asked = recipe(of=str(optical_run), digital=True, denoisers=[network], digital_batch=8)
        pairs = {one.machine: one.digital for one in ledger(asked, out=tmp_path).ratios}
        assert pairs.get(optical_run.stem) == beside


def test_measured_device_time_goes_before_modelled(optical_run) -> None:
    with RunReader(optical_run) as reader:
        panel = reader.panel()

        parts = {part: np.full(5, 100.0) for part in ("upload", "wait", "window", "read")}

        class Told:
            n_steps, n_samples, n_channels = 5, 10, 48
            ledger = replace(panel.ledger, measured_us={**parts, "settle": np.full(5, np.nan)})

        work, clock = work_of_panel(Told, "here")  # type: ignore[arg-type]
    assert clock == "measured"
    assert work.step_s == pytest.approx(2 * 500e-6 / 10 / 5)
    assert (work.upload_s, work.cable_s) == (pytest.approx(500e-6), pytest.approx(50e-6))


def test_a_run_without_device_time_is_refused(tmp_path) -> None:
    with open_rig("digital") as rig:
        settings = {"samples": 5, "audit": 0, "reference": 20}
        file = run(load_protocol("sample_moons", settings), rig, out=tmp_path).file
    with pytest.raises(ConfigError, match="took no device time; allowed: a run of an optical rig"):
        ledger(recipe(of=str(file)), out=tmp_path)


def test_a_file_that_is_no_run_is_refused(tmp_path) -> None:
    (tmp_path / "notes.nxs").write_text("not HDF5")
    with pytest.raises(RunLogError, match="not an HDF5 file"):
        ledger(recipe(of=str(tmp_path / "notes.nxs")), out=tmp_path)
    with pytest.raises(RunLogError, match="no such run file"):
        ledger(recipe(of="nowhere.nxs"), out=tmp_path)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_timed(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunLogError, match="is not a folder"):
        ledger(recipe(), out=tmp_path / "file" / "runs")


def test_a_ledger_runs_on_no_rig_and_other_recipes_are_no_ledgers(tmp_path) -> None:
    with open_rig("digital") as rig:
        with pytest.raises(ConfigError, match="is a ledger, which runs on no rig"):
            run(recipe(), rig, out=tmp_path)
        with pytest.raises(ConfigError, match="runs on no rig"):
            chains_of(recipe(), rig, lambda *_: None)
    with pytest.raises(ConfigError, match="kind 'sample'; allowed here: ledger"):
        ledger(load_protocol("sample_moons"), out=tmp_path)


FILE = """
kind = "ledger"
title = "mine"
digital = false
{more}
[[oscillators]]
name = "board"
n = 16
visible = 16
cells = {cells}
bits = 4
duration = 3.0
{row}
"""


SECOND = """
[[oscillators]]
name = "board"
n = 2
visible = 1
cells = 0
bits = 1
duration = 1
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cells": 1000}, r"oscillator program: cells = 1000: allowed: 0 to 240"),
        ({"row": "visble = 3"}, "key 'oscillators\\[0\\].visble' is not known"),
        ({"row": "constants = { p_oscw = 1 }"}, "row 'board': constant 'p_oscw' is not known; did you mean"),
        ({"row": "constants = { eps = -1 }"}, "constant eps = -1.0: allowed: above 0, at most 1"),
        ({"more": "constants = { f0_hz = 0 }"}, "constant f0_hz = 0.0: allowed: more than 0 Hz"),
        ({"more": "draws = 3"}, "draws = 3: allowed: 1024 or more"),
        ({"row": SECOND}, "row 'board' stands twice; allowed: each name once"),
    ],
)
def test_a_recipe_that_makes_no_sense_gets_one_clear_error(tmp_path, change, said) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(FILE.format(**{"cells": 84, "row": "", "more": "", **change}))
    with pytest.raises(ConfigError, match=said) as caught:
        load_protocol(path)
    assert str(path) in str(caught.value)


def test_a_ledger_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a machine"):
        LedgerRecipe(title="nothing")


@pytest.mark.parametrize(("parameters", "visible"), [(5520, 64), (82_800, 784), (10, 64)])
def test_a_generator_has_at_most_as_many_parameters_as_its_program(parameters, visible) -> None:
    hidden = hidden_width(parameters, visible)
    count = LATENT * hidden + hidden + hidden * visible + visible
    assert hidden == 1 or parameters - (LATENT + 1 + visible) < count <= parameters


def test_a_measurement_says_what_was_run(quick) -> None:
    found = measure_generator(5520, 64, 8)
    assert found.runs >= 5
    assert 0 < found.cpu_s < 1
    assert "float32" in found.what
    assert "8 at once" in found.what
    chain = measure_denoiser("fashion", 3, 8)
    assert "3 steps of dpm-solver++2m and a final denoise" in chain.what
    assert math.isfinite(chain.wall_s)


def test_the_timed_denoiser_is_the_network() -> None:
    network = load_network("fashion")
    rng = np.random.Generator(np.random.Philox(key=3))
    x, labels = rng.standard_normal((10, network.sizes[0])), np.arange(10)
    exact = HostMachine(network, labels=labels).denoise(x, 0.7)
    np.testing.assert_allclose(_Float32Denoiser(network, labels).denoise(x, 0.7), exact, atol=2e-5)
