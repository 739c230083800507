"""The networks on pictures: they learn, repeat, round-trip through files, and refuse what is malformed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from labctl.devices.errors import CheckpointError, DataError
from labctl.models.autoencoder import (
    Autoencoder,
    AutoencoderSettings,
    load_autoencoder,
    save_autoencoder,
    train_autoencoder,
)
from labctl.models.classifier import (
    Classifier,
    ClassifierSettings,
    agreement,
    load_classifier,
    save_classifier,
    train_classifier,
)
from labctl.models.training import Progress

SMALL = AutoencoderSettings(latent=3, hidden=(32,), epochs=20, batch=50, warmup=10, learning_rate=5e-3)
JUDGE = ClassifierSettings(channels=4, features=8, epochs=12, batch=50, warmup=5)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def bars(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures with one bright bar: class 0 lying, class 1 standing; place and brightness vary."""
    rng = np.random.default_rng(seed)
    pictures, labels = np.zeros((count, 28, 28), np.float32), np.arange(count) % 2
    for picture, label in zip(pictures, labels, strict=True):
        at = rng.integers(4, 20)
        view = picture if label == 0 else picture.T
        view[at : at + 5, 3:25] = 0.5 + 0.5 * rng.random()
    return pictures, labels


@pytest.fixture(scope="module")
def trained() -> Autoencoder:
    return train_autoencoder(*bars(400), SMALL, seed=1)


@pytest.fixture(scope="module")
def judge() -> Classifier:
    return train_classifier(*bars(400), JUDGE, seed=1)


def test_latents_are_white_and_pictures_come_back(trained: Autoencoder) -> None:
    pictures, _ = bars(400)
    latents = trained.encode(pictures)
    np.testing.assert_allclose(latents.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.cov(latents.T), np.eye(3), atol=1e-6)
    shown = trained.decode(latents)
    assert shown.dtype == np.float32
    assert shown.min() >= 0.0
    assert shown.max() <= 1.0
    fresh, _ = bars(100, seed=7)
    error = np.mean((trained.reconstruct(fresh) - fresh) ** 2)
    assert error < 0.6 * fresh.var(axis=0).mean()


def test_bytes_and_fractions_mean_the_same(trained: Autoencoder) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    np.testing.assert_allclose(trained.encode(picture), trained.encode(picture / 255.0), atol=1e-5)


def test_equal_seeds_give_equal_bits_and_the_global_generator_is_left_alone() -> None:
    quick = SMALL.model_copy(update={"epochs": 2})
    fast = JUDGE.model_copy(update={"epochs": 1})
    torch.manual_seed(3)
    before = torch.get_rng_state()
    runs = []
    for seed in (1, 1, 2):
        autoencoder = train_autoencoder(*bars(100), quick, seed=seed)
        classifier = train_classifier(*bars(100), fast, seed=seed)
        runs.append((autoencoder.encode(bars(9)[0]), classifier.probabilities(bars(9)[0])))
        assert torch.equal(torch.get_rng_state(), before)
    for first, second, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.allclose(first, other)


def test_autoencoder_survives_its_file(trained: Autoencoder, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    card = save_autoencoder(trained, path, {"name": "own"})
    back, read = load_autoencoder(path)
    assert read == card
    assert read["latent"] == 3
    pictures, _ = bars(20)
    np.testing.assert_array_equal(back.encode(pictures), trained.encode(pictures))
    np.testing.assert_array_equal(back.reconstruct(pictures), trained.reconstruct(pictures))


def test_classifier_learns_and_survives_its_file(judge: Classifier, tmp_path: Path) -> None:
    pictures, labels = bars(200, seed=5)
    assert agreement(judge, pictures, labels) > 0.95
    assert agreement(judge, pictures, 1 - labels) < 0.05
    np.testing.assert_allclose(judge.probabilities(pictures).sum(axis=1), 1.0)
    assert judge.features(pictures).shape == (200, 8)
    path = tmp_path / "judge.safetensors"
    save_classifier(judge, path, {"name": "judge"})
    back, _ = load_classifier(path)
    np.testing.assert_array_equal(back.probabilities(pictures), judge.probabilities(pictures))


def test_progress_reaches_the_end() -> None:
    heard: list[Progress] = []
    settings = SMALL.model_copy(update={"epochs": 3})
    train_autoencoder(*bars(120), settings, progress=heard.append)
    assert heard[-1].done == heard[-1].total == 6


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (np.zeros((2, 28, 27)), r"shape \(2, 28, 27\); allowed: \[B, 28, 28\]"),
        (np.zeros((28, 28)), "allowed: \\[B, 28, 28\\]"),
        (np.full((1, 28, 28), 255.0), "allowed: 0 to 1"),
        (np.full((1, 28, 28), -0.1), "allowed: 0 to 1"),
        (np.full((1, 28, 28), np.nan), "allowed: 0 to 1"),
        (np.zeros((1, 28, 28), np.int64), "values are int64; allowed: uint8"),
    ],
)
def test_malformed_pictures_are_refused(
    trained: Autoencoder, judge: Classifier, pictures: np.ndarray, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        trained.encode(pictures)
    with pytest.raises(DataError, match=words):
        judge.classify(pictures)


def test_malformed_latents_and_labels_are_refused(trained: Autoencoder, judge: Classifier) -> None:
    with pytest.raises(DataError, match=r"shape \(2, 4\); allowed: \[B, 3\]"):
        trained.decode(np.zeros((2, 4)))
    with pytest.raises(DataError, match="row 1 is not finite"):
        trained.decode([[0, 0, 0], [0, np.nan, 0]])
    pictures, labels = bars(4)
    with pytest.raises(DataError, match="allowed: 0 to 1"):
        agreement(judge, pictures, labels + 1)
    with pytest.raises(DataError, match=r"labels: shape \(3,\); allowed: \(4,\)"):
        agreement(judge, pictures, labels[:3])
    with pytest.raises(DataError, match="whole numbers"):
        agreement(judge, pictures, labels * 1.0)
    with pytest.raises(DataError, match="pictures: 0"):
        agreement(judge, pictures[:0], labels[:0])
    with pytest.raises(DataError, match="pictures: 3; allowed: more than the 3"):
        train_autoencoder(pictures[:3], labels[:3], SMALL)


def test_empty_batches_pass_through(trained: Autoencoder) -> None:
    assert trained.decode(np.zeros((0, 3))).shape == (0, 28, 28)
    assert trained.encode(np.zeros((0, 28, 28))).shape == (0, 3)


def _edit_card(path: Path, **fields: object) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **fields}))


def _edit_tensors(path: Path, name: str, value: np.ndarray | None) -> None:
    import hashlib

    tensors = load_file(path)
    tensors.pop(name, None)
    if value is not None:
        tensors[name] = value
    save_file(tensors, path)
    _edit_card(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_damaged_files_are_refused(trained: Autoencoder, judge: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"

    def fresh() -> None:
        save_autoencoder(trained, path, {"name": "a"}, overwrite=True)

    fresh()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="sha256"):
        load_autoencoder(path)
    fresh()
    _edit_tensors(path, "decoder.0.bias", np.zeros(7, np.float16))
    with pytest.raises(CheckpointError, match=r"0.bias has shape \(7,\); allowed: \(32,\)"):
        load_autoencoder(path)
    fresh()
    _edit_tensors(path, "decoder.0.bias", None)
    with pytest.raises(CheckpointError, match="bias is missing"):
        load_autoencoder(path)
    fresh()
    _edit_tensors(path, "extra", np.zeros(1, np.float16))
    with pytest.raises(CheckpointError, match="extra"):
        load_autoencoder(path)
    fresh()
    _edit_tensors(path, "encoder.0.bias", np.full(32, np.inf, np.float16))
    with pytest.raises(CheckpointError, match="not finite"):
        load_autoencoder(path)
    fresh()
    _edit_tensors(path, "latent_covariance", np.zeros(3))
    with pytest.raises(CheckpointError, match="latent_covariance must be finite and of shape"):
        load_autoencoder(path)
    fresh()
    _edit_tensors(path, "latent_covariance", np.zeros((3, 3)))
    with pytest.raises(CheckpointError, match="not positive definite"):
        load_autoencoder(path)
    fresh()
    _edit_card(path, hidden="wide")
    with pytest.raises(CheckpointError, match="are not sizes"):
        load_autoencoder(path)
    fresh()
    with pytest.raises(CheckpointError, match="kind is 'autoencoder', wanted 'classifier'"):
        load_classifier(path)
    judged = tmp_path / "j.safetensors"
    save_classifier(judge, judged, {"name": "j"})
    with pytest.raises(CheckpointError, match="kind is 'classifier', wanted 'autoencoder'"):
        load_autoencoder(judged)
    _edit_card(judged, channels=0)
    with pytest.raises(CheckpointError, match="are not sizes"):
        load_classifier(judged)


@pytest.mark.parametrize("value", [8.5, -1e6])
def test_latents_beyond_the_range_trained_on_are_refused(value: float) -> None:
    autoencoder, _ = load_autoencoder("fashion_autoencoder")
    latents = np.zeros((3, autoencoder.latent))
    latents[1, 4] = value
    with pytest.raises(DataError, match=r"latents: row 1 reaches .*; allowed: -8 to 8 standard deviations"):
        autoencoder.decode(latents)
    assert autoencoder.decode(np.zeros((0, autoencoder.latent))).shape == (0, 28, 28)


def test_a_runs_stray_latents_are_counted_and_shown_at_the_edge() -> None:
    from labctl.models.checkpoint import load_checkpoint
    from labctl.models.picture_sets import picture_set_of

    pictures = picture_set_of(load_checkpoint("mnist").card.notes)
    latents = np.zeros((3, 12))
    latents[[0, 2], 3] = [9.0, -20.0]
    kept, outside = pictures.in_range(latents)
    assert (outside, kept[0, 3], kept[2, 3]) == (2, 8.0, -8.0)
    assert pictures.decode(kept).shape == (3, 28, 28)
