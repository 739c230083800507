"""Training recipes: from a file to checkpoints with cards; mistakes named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labctl.devices.errors import ConfigError, DataError
from labctl.models.checkpoint import load_checkpoint
from labctl.models.datasets import TOY_SETS
from labctl.models.recipe import load_recipe, shipped_recipes, train_from_recipe
from labctl.models.training import Progress

TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"set": "gaussians_unequal"},
    "train": {"hidden": [6], "iterations": 20, "sigma_levels": 4, "samples_per_level": 4, "width": 8},
    "quantise": {"bits": [4, 2], "iterations": 10},
    "evaluate": {"samples": 200, "draws": 2, "sigma_min": [0.06]},
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_a_recipe_gives_float_and_coded_networks_with_cards(tmp_path: Path) -> None:
    seen: list[Progress] = []
    paths = train_from_recipe(TINY, out=tmp_path, progress=seen.append)
    assert [p.name for p in paths] == ["tiny.safetensors", "tiny-4bit.safetensors", "tiny-2bit.safetensors"]
    assert [p.stage for p in seen] == ["train", "re-fit at 4 bit", "re-fit at 2 bit"]
    whole, four, two = (load_checkpoint(p) for p in paths)
    assert (whole.network.bits, four.network.bits, two.network.bits) == (None, 4, 2)
    assert four.card.parent_sha256 == two.card.parent_sha256 == whole.card.sha256
    assert four.card.refit is not None
    assert four.card.refit["iterations"] == 10
    assert whole.card.seed == 3
    assert whole.card.settings["hidden"] == [6]
    assert whole.card.dataset is not None
    assert whole.card.dataset.checksum == TOY_SETS["gaussians_unequal"].checksum()
    assert set(whole.card.metrics) == {
        "samples",
        "draws",
        "energy_distance_sigma_min_0.06",
        "energy_distance_sigma_min_0.06_standard_error",
        "mode_total_variation_sigma_min_0.06",
    }
    again = train_from_recipe(TINY, out=tmp_path / "again")
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]
    with pytest.raises(ConfigError, match="exists already"):
        train_from_recipe(TINY, out=tmp_path)


def test_own_points_from_a_file(tmp_path: Path) -> None:
    own = np.random.default_rng(0).standard_normal((300, 2)) * [3.0, 0.1] + [100.0, -5.0]
    np.save(tmp_path / "own.npy", own)
    recipe = tmp_path / "own.toml"
    recipe.write_text(f'name = "own"\n[data]\nfile = "{tmp_path / "own.npy"}"\n')
    overrides = {f"train.{key}": value for key, value in TINY["train"].items()}
    paths = train_from_recipe(
        recipe, out=tmp_path, overrides={**overrides, "quantise.bits": [], "evaluate.samples": 0}
    )
    card = load_checkpoint(paths[0]).card
    assert len(paths) == 1
    assert card.metrics == {}
    assert card.dataset is not None
    np.testing.assert_allclose(card.dataset.mean, own.mean(axis=0))
    with pytest.raises(DataError, match="no such file"):
        train_from_recipe(recipe, out=tmp_path / "b", overrides={"data.file": "nothing.npy"})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.iteration", 5, "key 'train.iteration' is not known; did you mean 'iterations'"),
        ("colour", "red", "key 'colour' is not known; allowed: name"),
        ("train.iterations", 0, "train.iterations = 0: allowed: 1 or more"),
        ("quantise.bits", [10], r"quantise.bits\[0\] = 10: allowed: 9 or less"),
        ("data.set", "moon", "set 'moon': allowed are moons"),
        ("data.file", "x.npy", "exactly one of"),
        ("name", "a/b", "name = 'a/b'"),
        ("name.first", "a", "name is a value, not a section"),
    ],
)
def test_mistakes_are_named(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_recipe(TINY, {key: value})


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("name = \n")
    with pytest.raises(ConfigError, match=r"bad\.toml: not TOML"):
        load_recipe(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match="no such recipe file"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"moon: no training recipe .*did you mean 'moons'"):
        load_recipe("moon")


def test_a_recipe_may_extend_a_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('extends = "moons"\nname = "own"\n[train]\niterations = 7\n')
    own, moons = load_recipe(path), load_recipe("moons")
    assert own == moons.model_copy(
        update={"name": "own", "train": moons.train.model_copy(update={"iterations": 7})}
    )
    path.write_text('extends = "moon"\nname = "own"\n')
    with pytest.raises(ConfigError, match=r"own\.toml: extends = 'moon'; did you mean 'moons'"):
        load_recipe(path)
    path.write_text('extends = "emnist_balanced"\nname = "own"\n')
    with pytest.raises(ConfigError, match="which extends another; allowed: one that does not"):
        load_recipe(path)
    path.write_text('extends = ["moons"]\n')
    with pytest.raises(ConfigError, match=r"extends = \['moons'\]"):
        load_recipe(path)


def test_shipped_recipes_are_valid_and_name_themselves() -> None:
    shipped = shipped_recipes()
    assert set(TOY_SETS) <= set(shipped)
    for name in TOY_SETS:
        assert load_recipe(name).name == name
        assert load_recipe(name).data.set == name
