"""EMNIST from files in its format that these tests write: transposed images, letters counted from 1."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.devices.errors import DataError
from labctl.models.checkpoint import load_checkpoint
from labctl.models.data_sets import DATA_SETS
from labctl.models.fetch import fetch, is_present, load
from labctl.models.idx import write_idx
from labctl.models.picture_making import train_pictures
from labctl.models.picture_recipes import parse_picture_recipe
from labctl.models.recipe import recipe_content, shipped_recipes
from labctl.procedures import load_protocol, run
from labctl.rig import open_rig

SIZES = {"train": 60, "test": 26}


def _write(folder: Path, name: str, **changes: np.ndarray) -> dict[str, np.ndarray]:
    """Files as the set's authors give them out (gzipped); `changes` replace arrays by "split_what"."""
    entry = DATA_SETS[name]
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in SIZES.items():
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % len(entry.classes) + entry.first_label).astype(np.uint8)
        for what, array in (("images", images), ("labels", labels)):
            arrays[f"{split}_{what}"] = changes.get(f"{split}_{what}", array)
            dims = 3 if what == "images" else 1
            write_idx(folder / f"{name}-{split}-{what}-idx{dims}-ubyte.gz", arrays[f"{split}_{what}"])
    return arrays


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABCTL_DATA", str(tmp_path / "kept"))


@pytest.mark.parametrize(
    ("name", "first", "classes"), [("emnist-letters", 1, 26), ("emnist-balanced", 0, 47)]
)
def test_images_upright_and_labels_from_zero(tmp_path: Path, name: str, first: int, classes: int) -> None:
    written = _write(tmp_path / "files", name)
    assert len(DATA_SETS[name].classes) == len(set(DATA_SETS[name].classes)) == classes
    fetch(name, from_dir=tmp_path / "files")
    assert is_present(name)
    for split in ("train", "test"):
        images, labels = load(name, split)  # type: ignore[arg-type]
        np.testing.assert_array_equal(images, np.swapaxes(written[f"{split}_images"], 1, 2))
        np.testing.assert_array_equal(labels + first, written[f"{split}_labels"])
        assert images.flags.c_contiguous


def test_class_names() -> None:
    assert DATA_SETS["emnist-letters"].classes[0] == "A"
    balanced = DATA_SETS["emnist-balanced"].classes
    # The published mapping of the balanced set: 10 is A, 36 is a, 46 is t.
    assert [balanced[i] for i in (0, 10, 35, 36, 38, 46)] == ["0", "A", "Z", "a", "d", "t"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train_labels": np.ones(59, np.uint8)},
            "emnist-letters-train-labels-idx1-ubyte: 59 labels; allowed: 60, one for each image",
        ),
        (
            {"test_labels": np.zeros(26, np.uint8)},
            "emnist-letters-test-labels-idx1-ubyte: labels from 0 to 0; allowed: 1 to 26",
        ),
        (
            {"train_images": np.zeros((60, 28, 27), np.uint8)},
            "emnist-letters-train-images-idx3-ubyte: dimensions 60 x 28 x 27; allowed: any x 28 x 28",
        ),
        (
            {"train_images": np.zeros((60, 28, 28), np.float32)},
            "emnist-letters-train-images-idx3-ubyte: values are float32; allowed: uint8",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    _write(tmp_path / "files", "emnist-letters", **change)
    with pytest.raises(DataError) as caught:
        fetch("emnist-letters", from_dir=tmp_path / "files")
    assert message in str(caught.value)
    assert not (tmp_path / "kept").exists() or not any((tmp_path / "kept").iterdir())
    assert not is_present("emnist-letters")


def test_another_magic_number_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "files", "emnist-letters")
    victim = tmp_path / "files" / "emnist-letters-test-images-idx3-ubyte.gz"
    victim.write_bytes(gzip.compress(b"\x89PNG" + gzip.decompress(victim.read_bytes())[4:]))
    with pytest.raises(DataError, match="magic number 0x89504e47 is not IDX"):
        fetch("emnist-letters", from_dir=tmp_path / "files")


def test_files_spoiled_after_fetching_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "files", "emnist-letters")
    folder = fetch("emnist-letters", from_dir=tmp_path / "files").directory
    write_idx(folder / "emnist-letters-train-labels-idx1-ubyte", np.ones(61, np.uint8))
    with pytest.raises(DataError, match="61 labels; allowed: 60, one for each image"):
        load("emnist-letters", "train")
    assert load("emnist-letters", "test")[1].min() == 0


@pytest.mark.slow  # trains eight nets
@pytest.mark.parametrize("kind", ["letters", "balanced"])
def test_the_four_recipes_and_the_run_on_written_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    classes = DATA_SETS[f"emnist-{kind}"].classes
    rng = np.random.default_rng(1)
    shapes = (
        rng.integers(0, 2, (len(classes), 7, 7), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2) * 200
    )
    kept = {}
    for split, n in (("train", 6 * len(classes)), ("test", 2 * len(classes))):
        which = np.arange(n) % len(classes)
        kept[f"{split}_images"] = shapes[which] + rng.integers(0, 40, (n, 28, 28), dtype=np.uint8)
        kept[f"{split}_labels"] = (which + DATA_SETS[f"emnist-{kind}"].first_label).astype(np.uint8)
    _write(tmp_path / "files", f"emnist-{kind}", **kept)
    fetch(f"emnist-{kind}", from_dir=tmp_path / "files")
    monkeypatch.chdir(tmp_path)
    few = {"epochs": 2, "batch": 50, "warmup": 2}
    thin = {"iterations": 20, "sigma_levels": 4, "samples_per_level": 8}
    shortened: dict[str, dict[str, dict[str, Any]]] = {
        "_classifier": {"train": few},
        # The features of a judge that has seen next to nothing are no use to the perceptual term.
        "_autoencoder": {"train": {**few, "plain_share": 1.0}},
        "_reference": {},
        "": {"train": thin, "quantise": {"iterations": 5}},
    }
    for part, less in shortened.items():
        name = f"emnist_{kind}{part}"
        content = recipe_content(shipped_recipes()[name])
        for table, values in less.items():
            content[table] |= values
        if not part:
            content["samples"] = len(classes)
        train_pictures(parse_picture_recipe(content, name), out="models")
    card = load_checkpoint(f"models/emnist_{kind}-4bit.safetensors").card
    assert (card.n_classes, card.sizes, card.parameters) == (len(classes), (12, 36), 864)
    assert card.notes["data_set"] == f"emnist-{kind}"
    settings = {"samples": 2 * len(classes), "steps": 2, "audit": 0}
    if kind == "balanced":  # the recipe's own model is that of letters
        settings["model"] = "models/emnist_balanced-4bit.safetensors"
    with open_rig("optical-twin") as rig:
        panel = run(load_protocol("sample_emnist_latent", settings), rig, out="runs").panels[0]
    assert panel.pictures is not None
    assert panel.pictures.shape == (2 * len(classes), 28, 28)
    assert 0.0 <= float(panel.metrics["class_agreement"]) <= 1.0


def test_no_source_but_a_directory() -> None:
    with pytest.raises(DataError, match="no package holds it; with the files at hand use --from DIR"):
        fetch("emnist-letters")
