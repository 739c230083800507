"""What stands beside a generator, as a file: what is kept and refused, which set belongs to which model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from labctl.devices.errors import CheckpointError, ConfigError
from labctl.models.checkpoint import find_checkpoint, read_tensors, write_tensors
from labctl.models.oscillators import control_making
from labctl.models.oscillators.checkpoint import load_generator
from labctl.models.oscillators.control_making import KEPT, PIXEL_CONTROLS
from labctl.models.oscillators.control_set import controls_beside, load_controls
from labctl.models.oscillators.scoring import PictureJudge
from labctl.models.picture_data import picture_data
from labctl.models.picture_making import train_pictures
from labctl.models.picture_recipes import ControlsRecipe, parse_picture_recipe
from labctl.models.recipe import recipe_content, shipped_recipes

SHIPPED = "digits8_controls"
NAMES = ["perceptron", "frozen", "plain", "gaussian", "centres"]


@pytest.fixture
def recipe() -> ControlsRecipe:
    found = parse_picture_recipe(recipe_content(shipped_recipes()[SHIPPED]))
    assert isinstance(found, ControlsRecipe)
    return found


@pytest.mark.slow
def test_controls_are_trained_as_their_generator_was(recipe, tmp_path, mocker) -> None:
    loaded = load_generator(recipe.generator)
    short = loaded.card.model_copy(update={"settings": {**loaded.card.settings, "iterations": 2}})
    mocker.patch.object(
        control_making, "load_generator", return_value=dataclasses.replace(loaded, card=short)
    )
    (path,) = train_pictures(recipe, out=tmp_path)
    made = load_controls(path)
    assert [one.name for one in made.card.controls] == NAMES
    assert made.card.generator.name == "digits8_oscillators-4bit"
    assert made.card.controls[0].parameters <= loaded.card.parameters
    assert made.card.controls[0].frechet_star > 1  # two steps do not make digits
    assert made.card.controls[3].parameters is None
    for pictures in made.pictures.values():
        assert pictures.shape == (KEPT, 8, 8)
    with pytest.raises(ConfigError, match="its card names digits at 8 pixels a side; allowed here: mnist at"):
        train_pictures(recipe.model_copy(update={"data_set": "mnist", "side": 28}), out=tmp_path / "other")


def test_the_shipped_controls_are_what_their_card_says(recipe) -> None:
    shipped, data = load_controls(SHIPPED), picture_data("digits", 8)
    card = load_generator(recipe.generator).card
    judge = PictureJudge.named_by(card)
    assert shipped.card.judged_pictures == judge.judged == 4000
    figures = {one.name: one for one in shipped.card.controls}
    for name, (what, made) in PIXEL_CONTROLS.items():
        draw = made(data)
        assert figures[name].what == what
        assert judge.scores(draw).frechet_star == pytest.approx(figures[name].frechet_star, abs=1e-3)
        np.testing.assert_array_equal(np.rint(255 * draw(KEPT, 0)), shipped.pictures[name])
    assert figures["plain"].frechet_star > 3 * card.metrics["frechet_star"]  # the bar
    assert figures["perceptron"].frechet_star < 0.1


def test_controls_belong_to_what_the_same_judge_has_judged() -> None:
    card = load_generator("digits8_oscillators-4bit").card
    found = controls_beside(card)
    assert found is not None
    assert found.card.name == SHIPPED
    other = card.reference.model_copy(update={"sha256": "0"})
    assert controls_beside(card.model_copy(update={"reference": other})) is None


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tensors, card = read_tensors(find_checkpoint(SHIPPED))
    path = tmp_path / "changed.safetensors"
    for change, said in (
        ({"more": tensors["plain"]}, "pictures of .*more.*; allowed: perceptron, frozen"),
        ({"plain": tensors["plain"][:, :7]}, r"pictures of plain are uint8 \(20, 7, 8\); allowed: uint8"),
    ):
        write_tensors(path, {**tensors, **change}, card, overwrite=True)
        with pytest.raises(CheckpointError, match=said):
            load_controls(path)
    write_tensors(path, tensors, {**card, "side": 0}, overwrite=True)
    with pytest.raises(CheckpointError, match="side = 0: allowed: 1 or more"):
        load_controls(path)
    with pytest.raises(CheckpointError, match="'oscillator-generator', wanted 'generator-controls'"):
        load_controls("digits8_oscillators")
