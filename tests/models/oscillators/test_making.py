"""From a recipe to files and back: what is saved is what was trained, and misfits are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.devices.errors import CheckpointError, ConfigError, DataError, ProgramError
from labctl.models.checkpoint import card_path, read_tensors, write_tensors, zoo_folder
from labctl.models.oscillators.checkpoint import check_data, load_generator
from labctl.models.oscillators.generator import TrainableGenerator, program_of
from labctl.models.oscillators.scoring import PictureJudge, copies
from labctl.models.picture_data import picture_data
from labctl.models.picture_making import train_pictures
from labctl.models.picture_recipes import OscillatorRecipe, parse_picture_recipe
from labctl.models.pixel_controls import PixelGaussian
from labctl.models.recipe import recipe_content, shipped_recipes
from labctl.programs import OscillatorProgram

TINY: dict[str, Any] = {
    "kind": "oscillator-generator",
    "name": "tiny",
    "why": "the quickest",
    "data_set": "digits",
    "side": 8,
    "classifier": "digits8_classifier",
    "reference": "digits8_reference",
    "shape": {"segments": 2, "steps": 8, "duration": 1.0, "radius": 1},
    "train": {"iterations": 30, "batch": 32},
    "coded": {"bits": [4, 2], "iterations": 10},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return train_pictures(parse_picture_recipe(TINY), out=tmp_path_factory.mktemp("made"))


def test_floats_and_codes_are_saved_with_their_cards(made: list[Path]) -> None:
    assert [path.name for path in made] == [
        "tiny.safetensors",
        "tiny-4bit.safetensors",
        "tiny-2bit.safetensors",
    ]
    floats, four, two = (load_generator(path) for path in made)
    assert floats.generator.program is None
    assert [x.card.bits for x in (floats, four, two)] == [None, 4, 2]
    assert four.card.parent_sha256 == two.card.parent_sha256 == floats.card.sha256
    assert isinstance(program_of(four.generator), OscillatorProgram)
    assert four.card.program_hash == program_of(four.generator).hash
    assert four.card.program_bytes == program_of(four.generator).n_bytes
    assert four.card.objective == "mmd"
    assert four.card.why == "the quickest"
    assert four.card.dataset["name"] == "digits"
    assert four.card.settings["learning_rate"] == 1e-2
    assert four.card.coded is not None
    assert four.card.metrics["frechet_star"] > 0.5  # 30 iterations do not make digits
    assert four.card.metrics["step_bound"] <= 1.3
    assert "thread" in four.card.trained_on
    check_data(four.card, "digits", 8)
    with pytest.raises(
        ConfigError, match="its card names digits at 8 pixels a side; allowed here: mnist at 28"
    ):
        check_data(four.card, "mnist", 28)


def test_the_same_recipe_makes_the_same_bits(made: list[Path], tmp_path: Path) -> None:
    again = train_pictures(parse_picture_recipe(TINY), out=tmp_path)
    for one, other in zip(made, again, strict=True):
        assert load_generator(one).card.sha256 == load_generator(other).card.sha256
    with pytest.raises(ConfigError, match="exists already"):
        train_pictures(parse_picture_recipe(TINY), out=tmp_path)


def test_codes_can_be_trained_from_floats_that_are_there(made: list[Path], tmp_path: Path) -> None:
    later = {**TINY, "start": str(made[0]), "coded": {"bits": [3], "iterations": 1}}
    (path,) = train_pictures(parse_picture_recipe(later), out=tmp_path)
    assert path.name == "tiny-3bit.safetensors"
    floats, three = load_generator(made[0]), load_generator(path)
    assert three.card.parent_sha256 == floats.card.sha256
    model = TrainableGenerator(8, floats.card.shape)
    model.begin_at(floats.generator.parameters)
    for name, table in model.finished().parameters.tables().items():
        exact = floats.generator.parameters.tables()[name]
        np.testing.assert_allclose(table.numpy(), exact.numpy(), atol=3e-6)
    for change, said in (
        ({"shape": {"segments": 1, "steps": 8, "radius": 1}}, "its shape is .*; allowed: .*segments=1"),
        ({"train": {"iterations": 31, "batch": 32}}, "its train is .*'iterations': 30"),
        ({"start": str(made[1])}, "its bits is 4; allowed: None"),
    ):
        with pytest.raises(ConfigError, match=said):
            train_pictures(parse_picture_recipe({**later, **change}), out=tmp_path / "other")


def _changed(source: Path, folder: Path, **card: Any) -> Path:
    """The checkpoint with fields of its card changed."""
    path = folder / source.name
    path.write_bytes(source.read_bytes())
    content = json.loads(card_path(source).read_text()) | card
    card_path(path).write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ({"kind": "classifier"}, "kind is 'classifier', wanted 'oscillator-generator'"),
        ({"sha256": "0"}, "the card says 0"),
        ({"side": 9}, "the card's topology_hash is .*; allowed: "),
        ({"program_hash": "1"}, "the card's program_hash is 1; allowed: "),
        ({"bits": 3}, "codes from -7 to 7"),
        ({"colour": "red"}, "key 'colour' is not known"),
        ({"seed": "one"}, "seed = 'one': allowed: a whole number"),
        ({"bits": None}, "tensor coupling is missing"),
    ],
)
def test_cards_that_do_not_fit_are_refused(
    made: list[Path], tmp_path: Path, card: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        load_generator(_changed(made[1], tmp_path, **card))


def test_tables_that_do_not_fit_are_refused(made: list[Path], tmp_path: Path) -> None:
    tensors, content = read_tensors(made[0])
    for change, said in (
        ({"phase": np.zeros(3, np.float32)}, r"tensor phase \(3,\); allowed: finite, of shape \(64,\)"),
        ({"phase": np.full(64, np.nan, np.float32)}, "tensor phase .* finite"),
        ({"more": np.zeros(1)}, "tensors the card does not account for: more"),
    ):
        path = tmp_path / "changed.safetensors"
        write_tensors(path, {**tensors, **change}, content, overwrite=True)
        with pytest.raises(CheckpointError, match=said):
            load_generator(path)


def test_figures_of_another_judge_are_refused(made: list[Path]) -> None:
    card = load_generator(made[1]).card
    assert PictureJudge.named_by(card).classifier.side == 8
    for field in ("classifier", "reference"):
        name = getattr(card, field).model_copy(update={"sha256": "0"})
        with pytest.raises(CheckpointError, match="allowed: 0, the one the card of tiny-4bit names"):
            PictureJudge.named_by(card.model_copy(update={field: name}))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"classifier": "fashion_classifier"}, CheckpointError, "the net at hand has"),
        (
            {"classifier": "fashion14_classifier", "reference": "fashion14_reference"},
            ConfigError,
            "it judges 14 pixels a side; allowed: 8",
        ),
        ({"side": 28}, DataError, "digits: side 28; allowed: 8"),
        ({"shape": {"segments": 16, "steps": 32}}, ProgramError, "segment 0 lasts"),
    ],
)
def test_recipes_that_do_not_fit_end_before_any_training(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        train_pictures(parse_picture_recipe({**TINY, **change}), out=tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("side", 9, "side = 9: allowed: 8, 14 or 28"),
        ("shape", {"steps": 33}, "steps 33 must be a multiple of segments 4"),
        ("train", {"objective": "kl"}, "train.objective = 'kl'"),
        ("train", {"rate": 1}, "key 'train.rate' is not known"),
        ("coded", {"bits": [9]}, r"coded.bits\[0\] = 9: allowed: 8 or less"),
    ],
)
def test_mistakes_are_named(field: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_picture_recipe({**TINY, field: value})


def test_the_judge_knows_real_digits_from_a_gaussian_and_copies_from_both() -> None:
    data = picture_data("digits", 8)
    judge = PictureJudge.of("digits8_classifier", "digits8_reference")
    gaussian = PixelGaussian.of(data.train_pictures)

    def drawn(count: int, seed: int) -> np.ndarray:
        return gaussian.draw(count, np.random.default_rng(seed))

    def real(count: int, seed: int) -> np.ndarray:
        return data.test_pictures[np.arange(count) % 500]

    def copied(count: int, seed: int) -> np.ndarray:
        return data.train_pictures[np.arange(count) % len(data.train_pictures)]

    assert judge.scores(drawn).frechet_star == pytest.approx(1.0, abs=0.05)
    assert judge.scores(real).frechet_star == pytest.approx(0.0, abs=0.01)
    for draw, nearer in ((drawn, 0.1), (real, 0.02)):
        assert copies(draw, data.train_pictures, data.test_pictures).nearer <= nearer
    assert copies(copied, data.train_pictures, data.test_pictures).nearer == 1.0
    with pytest.raises(DataError, match=r"generated pictures: shape .*; allowed: \[B, 8, 8\]"):
        judge.scores(lambda count, seed: np.zeros((count, 14, 14), np.float32))


def _shipped() -> list[str]:
    cards = [(p.stem, json.loads(p.read_text())) for p in zoo_folder().glob("*.json")]
    return sorted(name for name, card in cards if card.get("kind") == "oscillator-generator")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if "28_" in name else []) for name in _shipped()]
)
def test_shipped_generators_are_what_their_cards_say(name: str) -> None:
    loaded = load_generator(name)
    recipe = parse_picture_recipe(recipe_content(shipped_recipes()[name.rpartition("-")[0] or name]))
    assert isinstance(recipe, OscillatorRecipe)
    assert loaded.card.objective == recipe.train.objective
    assert loaded.card.settings == recipe.train.model_dump(mode="json")
    assert loaded.generator.shape == recipe.shape
    check_data(loaded.card, recipe.data_set, recipe.side)
    judge = PictureJudge.named_by(loaded.card)
    scores = judge.scores(lambda count, seed: loaded.generator.generate(count, seed=seed))
    assert scores.frechet_star == pytest.approx(loaded.card.metrics["frechet_star"], abs=0.02)
    assert loaded.card.bits is None or path_size(loaded.path) < 250 * loaded.card.side**2


def path_size(path: Path) -> int:
    return path.stat().st_size
