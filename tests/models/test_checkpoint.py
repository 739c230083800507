"""Checkpoints come back as they were, and say what is wrong with a file that does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from labctl.devices.errors import CheckpointError
from labctl.models.checkpoint import describe, list_zoo, load_checkpoint, load_network, save_network
from labctl.models.network import RowTableNetwork
from labctl.programs.codes import encode
from labctl.sampling import parts_of
from labctl.sampling.parametrisation import Preconditioning

X = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))


def network(coded: bool = False) -> RowTableNetwork:
    made = RowTableNetwork([2, 5, 4], seeds=[7], preconditioning=Preconditioning("flow"), width=8)
    return made.with_codes([[encode(w, 4) for w in made.weights()]]) if coded else made


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_network(network(), path, describe(network(), "mine", seed=7, metrics={"e": 0.1}))
    return path


def rewrite(path: Path, **changes: object) -> None:
    """Change tensors of a checkpoint, and its card's hash with them."""
    import hashlib

    tensors = load(path.read_bytes())
    for name, value in changes.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = np.asarray(value)
    data = save(tensors)
    path.write_bytes(data)
    card = json.loads(path.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(data).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card))


def test_a_float_network_comes_back(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    torch.testing.assert_close(loaded.network.denoise(X, 0.5), network().denoise(X, 0.5))
    assert loaded.network.preconditioning == Preconditioning("flow")
    assert loaded.card.seed == 7
    assert loaded.card.metrics == {"e": 0.1}
    assert loaded.card.sizes == (2, 5, 4)
    assert loaded.card.parameters == 2 * 5 + 5 * 4 + 4 * 2
    assert load_network(saved.with_suffix("")).bits is None


def test_saving_twice_gives_the_same_file(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    save_network(load_network(saved), again, describe(network(), "again"))
    assert again.read_bytes() == saved.read_bytes()


def test_codes_come_back_as_codes(tmp_path: Path) -> None:
    path = tmp_path / "mine-4bit.safetensors"
    save_network(network(coded=True), path, describe(network(coded=True), "mine-4bit"))
    loaded = load_network(path)
    assert loaded.codes is not None
    for ours, theirs in zip(network(coded=True).codes or [], loaded.codes, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes)
        np.testing.assert_array_equal(ours.scale, theirs.scale)
    torch.testing.assert_close(loaded.denoise(X, 0.5), network(coded=True).denoise(X, 0.5))


def test_a_damaged_file_is_refused(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-3] ^= 1
    saved.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"mine\.safetensors: sha256 is .* the card says"):
        load_checkpoint(saved)


def test_a_missing_or_malformed_card_is_refused(saved: Path) -> None:
    card = saved.with_suffix(".json")
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "colour": "red"}))
    with pytest.raises(CheckpointError, match=r"mine\.json: key 'colour' is not known; allowed: format"):
        load_checkpoint(saved)
    card.write_text(json.dumps({**content, "format_version": 2}))
    with pytest.raises(CheckpointError, match="format_version"):
        load_checkpoint(saved)
    card.write_text(json.dumps({**content, "kind": "autoencoder"}))
    with pytest.raises(CheckpointError, match="kind is 'autoencoder'"):
        load_checkpoint(saved)
    card.write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(saved)
    card.write_text("[]")
    with pytest.raises(CheckpointError, match="holds list"):
        load_checkpoint(saved)
    card.unlink()
    with pytest.raises(CheckpointError, match=r"mine\.json: the model card is missing"):
        load_checkpoint(saved)


def test_wrong_tensors_are_named(saved: Path) -> None:
    rewrite(saved, weights_1=np.zeros((4, 6), np.float32))
    with pytest.raises(CheckpointError, match=r"weights_1 has shape \(4, 6\).*want \(4, 5\)"):
        load_checkpoint(saved)
    rewrite(saved, weights_1=None)
    with pytest.raises(CheckpointError, match="weights_1 is missing"):
        load_checkpoint(saved)
    rewrite(saved, weights_1=np.full((4, 5), np.nan, np.float32))
    with pytest.raises(CheckpointError, match="weights_1 holds values that are not finite"):
        load_checkpoint(saved)
    rewrite(saved, weights_1=np.ones((4, 5), np.float32), extra=np.zeros(3))
    with pytest.raises(CheckpointError, match="does not account for: extra"):
        load_checkpoint(saved)


def test_codes_beyond_their_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine-4bit.safetensors"
    save_network(network(coded=True), path, describe(network(coded=True), "mine-4bit"))
    rewrite(path, codes_0=np.full((5, 2), 9, np.int16))
    with pytest.raises(CheckpointError, match=r"mine-4bit.*-7 to 7"):
        load_checkpoint(path)


def test_a_file_of_something_else_is_refused(saved: Path) -> None:
    import hashlib

    saved.write_bytes(b"hello")
    card = json.loads(saved.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(b"hello").hexdigest()
    saved.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(saved)


def test_existing_files_are_kept(saved: Path, tmp_path: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        save_network(network(), saved, describe(network(), "mine"))
    assert saved.read_bytes() == before
    save_network(network(), saved, describe(network(), "mine"), overwrite=True)
    with pytest.raises(CheckpointError, match="ends in"):
        save_network(network(), tmp_path / "mine.bin", describe(network(), "mine"))
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_network(network(), tmp_path / "file" / "a.safetensors", describe(network(), "a"))
    assert not list(tmp_path.glob("*.part"))


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(CheckpointError, match=r"did you mean 'moons'"):
        load_checkpoint("moon")


def test_every_shipped_network_loads_and_fits_the_machine() -> None:
    zoo = list_zoo()
    assert {"moons", "moons-4bit", "swiss_roll-4bit", "gaussians-4bit"} <= set(zoo)
    for name, card in zoo.items():
        loaded = load_checkpoint(name)
        assert loaded.card == card
        assert card.name == name
        parts = parts_of(loaded.network, 48)  # one, or machines in sequence
        assert len(parts) == (4 if "_x4" in name else 1)
        assert (loaded.network.bits == 4) == name.endswith("-4bit")
