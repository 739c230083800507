"""Scans of programs on oscillator boards: what varies, what the table holds, what is refused."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from labctl import load_protocol, open_rig, run
from labctl.devices import ConfigError, ProgramError
from labctl.models.checkpoint import zoo_folder
from labctl.models.oscillators.checkpoint import load_generator
from labctl.models.oscillators.generator import rounded_program
from labctl.procedures import GenerateRecipe, GenerateScanRecipe, Scan, ScanRecipe, replay
from labctl.procedures.coding import coded_generator
from labctl.procedures.scanning import scan_parts, scan_plan
from labctl.runlog import RunReader

SMALL = {"samples": 20}


@pytest.fixture
def rig():
    with open_rig("oscillator-twin") as opened:
        yield opened


def test_a_scan_of_programs_is_taken_apart() -> None:
    recipe = load_protocol("mismatch_scan", {"values": [0, 0.5], "series_values": [3, 4]}).recipe
    assert isinstance(recipe, GenerateScanRecipe)
    assert isinstance(recipe, GenerateRecipe)
    parts = scan_parts(recipe, GenerateRecipe)
    assert [part.name for part in parts] == [
        "mismatch-0_board-3", "mismatch-0_board-4", "mismatch-0p5_board-3", "mismatch-0p5_board-4",
    ]  # fmt: skip
    assert [part.title for part in parts][-1] == "mismatch 0.5, board 4"
    assert [(part.recipe.mismatch, part.recipe.board) for part in parts][2] == (0.5, 3)
    plan = scan_plan(recipe, "x")
    assert (plan.axis, plan.signal) == ("mismatch", "frechet_star_board_3")
    assert plan.series["coverage_board_4"] == ("coverage", "board 4")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scan": "mismtch"}, "no key to scan; did you mean 'mismatch'"),
        ({"scan": "rig"}, "'rig' is no key to scan"),
        ({"values": [1, 9]}, r"scan at mismatch 9, board 1: mismatch = 9: allowed: 4 or less"),
        ({"values": ["much"]}, "values must be numbers"),
        ({"series_values": [2, 2]}, "2 stands twice"),
        ({"mismatch": 2}, r"scans mismatch; allowed: --set values=\[...\]"),
    ],
)
def test_scans_that_make_no_sense_are_refused(rig, settings, said, tmp_path) -> None:
    with pytest.raises(ConfigError, match=said):
        run(load_protocol("mismatch_scan", settings), rig, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_keys_to_scan_are_those_of_the_recipe() -> None:
    assert {"bits", "segments", "mismatch", "noise_scale"} <= set(GenerateScanRecipe.scan_keys())
    assert "steps" in ScanRecipe.scan_keys()
    for form in (GenerateScanRecipe, ScanRecipe):
        assert not {"kind", "title", "scan", "values", "rig"} & set(form.scan_keys())
        assert issubclass(form, Scan)


def test_mismatch_scales_the_twins_cells_and_the_file_holds_a_row_for_each(rig, tmp_path) -> None:
    settings = {"samples": 250, "values": [0, 4], "series_values": [1, 2]}
    result = run(load_protocol("mismatch_scan", settings), rig, out=tmp_path)
    states = {panel.name: panel.samples for panel in result.panels}
    assert np.abs(states["mismatch-0_board-1"] - states["mismatch-4_board-1"]).mean() > 0.01
    assert np.abs(states["mismatch-4_board-1"] - states["mismatch-4_board-2"]).mean() > 0.01
    with RunReader(result.file) as log:
        np.testing.assert_array_equal(log.scan["mismatch"], [0, 4])
        for board in (1, 2):
            assert np.isfinite(log.scan[f"frechet_star_board_{board}"]).all()
            assert (log.scan[f"locked_share_board_{board}"] == 1).all()
        assert log.scan_axis == ("mismatch", "frechet_star_board_1")
        assert log.panels["mismatch-4_board-2"].settings["board"] == 2
        assert log.panels["mismatch-4_board-2"].controls == ()
    costs = [panel.metrics["device_time_per_sample_us"] for panel in result.panels]
    assert max(costs[1:]) <= costs[0]  # the program is loaded once, then held


def test_every_program_of_a_scan_pays_its_own_load(rig, tmp_path) -> None:
    settings = {**SMALL, "values": [1, 2, 4]}
    panels = run(load_protocol("segments_scan", settings), rig, out=tmp_path).panels
    costs = [panel.metrics["device_time_per_sample_us"] for panel in panels]
    assert max(costs) < 1.2 * min(costs)


def test_faults_are_scaled_against_the_rig_file_and_come_back(tmp_path) -> None:
    config = open_rig("oscillator-twin").config
    terms = {"detuning": 0.5}
    config = config.model_copy(update={"world": config.world.model_copy(update={"terms": terms})})
    with open_rig(config) as rig:
        own, drawn = rig.world.unit.detuning.copy(), rig.world.drawn.detuning
        np.testing.assert_allclose(own, 0.5 * drawn)
        rig.scale_faults(("detuning", "coupling_gain"), 2.0)
        np.testing.assert_allclose(rig.world.unit.detuning, drawn)
        rig.draw_board(7)
        assert np.abs(rig.world.unit.detuning - drawn).max() > 0
        rig.draw_board(0)
        rig.scale_faults(("detuning", "coupling_gain"), 1.0)
        np.testing.assert_array_equal(rig.world.unit.detuning, own)
        rig.scale_faults(("detuning",), 4.0)
        with pytest.raises(ConfigError, match=r"terms.coupling_gain = 5.0; allowed: 0 \(off\) to 4"):
            rig.scale_faults(("coupling_gain",), 5.0)
        with pytest.raises(ConfigError, match="no such term"):
            rig.scale_faults(("detunning",), 1.0)


def test_what_no_twin_makes_cannot_be_scaled(rig, tmp_path, mocker) -> None:
    mocker.patch.object(rig, "config", rig.config.model_copy(update={"world": None}))
    mocker.patch.object(rig, "world", None)
    with pytest.raises(ConfigError, match=r"mismatch is 0\.0; rig oscillator-twin allows 1 only"):
        run(load_protocol("mismatch_scan"), rig, out=tmp_path)
    with pytest.raises(ConfigError, match="board is 3; rig oscillator-twin allows 0 only"):
        run(load_protocol("generate_digits", {"board": 3}), rig, out=tmp_path)
    with pytest.raises(ConfigError, match="faults scaled by 2; allowed: 1"):
        rig.scale_faults(("detuning",), 2.0)
    with pytest.raises(ConfigError, match="board is 2; allowed: 0"):
        rig.draw_board(2)


def test_rounding_says_so_and_is_not_training(tmp_path) -> None:
    settings = {"samples": 500, "values": [1, 2]}
    with open_rig("oscillator-fine") as rig:
        result = run(load_protocol("bits_scan_oscillators", settings), rig, out=tmp_path)
    with RunReader(result.file) as log:
        np.testing.assert_array_equal(log.scan["bits"], [1, 2])
        trained, rounded = (log.scan[f"frechet_star_{word}"] for word in ("trained", "rounded"))
        assert (trained < rounded).all()
        panel = log.panels["bits-2_coding-rounded"]
        assert "nothing was trained with them" in panel.settings["note"]
        assert any("coupling: asked" in text for _, text in panel.coercions)
        assert panel.program.bits == 2


def test_rounded_codes_are_the_nearest() -> None:
    generator = load_generator("digits8_oscillators").generator
    exact = generator.parameters.law.coupling.double().numpy()
    program, clipped = rounded_program(generator, 8)
    scale = program.coupling.scale[:, None]
    inside = np.abs(exact) <= scale
    step = scale / 127
    assert (np.abs(program.coupling.weights() - exact) <= 0.5001 * step)[inside].all()
    assert (clipped == ()) == bool((np.abs(exact) <= scale * (1 + 0.5 / 127)).all())
    assert set(np.unique(rounded_program(generator, 1)[0].coupling.codes)) == {-1, 1}
    with pytest.raises(ConfigError, match="has codes of 4 bits; allowed: one of floats"):
        rounded_program(load_generator("digits8_oscillators-4bit").generator, 2)


def test_models_that_do_not_fit_a_recipe_are_refused(rig, tmp_path) -> None:
    base = load_protocol("generate_digits").recipe

    def asked(**changes: object) -> GenerateRecipe:
        return base.model_copy(update=changes)

    coded = str(zoo_folder() / "digits8_oscillators-4bit.safetensors")
    with pytest.raises(ConfigError, match=r'coding is "rounded", but .* has couplings of 4 bits'):
        coded_generator(asked(model=coded, coding="rounded"))
    with pytest.raises(ConfigError, match="model 'digits8_segments3' is neither a shipped"):
        coded_generator(asked(model="digits8_segments", segments=3))
    for suffix in ("safetensors", "json"):
        name = "mine3" if suffix == "safetensors" else "mine3.json"
        shutil.copy(zoo_folder() / f"digits8_oscillators-4bit.{suffix}", tmp_path / name)
    with pytest.raises(ConfigError, match="segments is 3, but digits8_oscillators-4bit has 8"):
        coded_generator(asked(model=str(tmp_path / "mine"), segments=3))
    wanted = re.escape("bits is 8, but the cells of rig oscillator-twin have 4; allowed: 1 to 4")
    with pytest.raises(ProgramError, match=wanted):
        run(load_protocol("bits_scan_oscillators"), rig, out=tmp_path / "runs")


def test_a_scan_is_repeated_bit_by_bit(rig, tmp_path) -> None:
    settings = {**SMALL, "values": [1, 2], "series_values": [1, 5]}
    first = run(load_protocol("mismatch_scan", settings), rig, out=tmp_path)
    again = replay(first.file, out=tmp_path)
    assert again.equal
    assert len(again.panels) == 4
