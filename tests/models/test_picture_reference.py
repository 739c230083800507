"""The reference of FD*: it round-trips, its floors fall with n, and other nets are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from labctl.devices.errors import CheckpointError, DataError
from labctl.models.autoencoder import (
    AutoencoderSettings,
    load_autoencoder,
    save_autoencoder,
    train_autoencoder,
)
from labctl.models.checkpoint import card_path
from labctl.models.classifier import Classifier, ClassifierSettings, train_classifier
from labctl.models.perceptual import perceptual
from labctl.models.picture_metrics import FeatureMoments, frechet_distance
from labctl.models.picture_reference import (
    PictureReference,
    load_reference,
    make_reference,
    save_reference,
)

HASHES = "a" * 64, "b" * 64


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def _bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pictures, labels = np.zeros((count, 28, 28), np.float32), np.arange(count) % 2
    for picture, label in zip(pictures, labels, strict=True):
        at = rng.integers(4, 20)
        view = picture if label == 0 else picture.T
        view[at : at + 5, 3:25] = 0.5 + 0.5 * rng.random()
    return pictures, labels


@pytest.fixture(scope="module")
def judge() -> Classifier:
    settings = ClassifierSettings(channels=4, features=8, epochs=6, batch=50, warmup=5, mirror=False)
    return train_classifier(*_bars(400, 0), settings, seed=1)


@pytest.fixture(scope="module")
def reference(judge: Classifier) -> PictureReference:
    settings = AutoencoderSettings(latent=3, hidden=(16,), epochs=5, batch=50, warmup=5)
    coder = train_autoencoder(*_bars(400, 0), settings)
    return make_reference(judge, coder, HASHES, _bars(2000, 1)[0], _bars(1200, 2)[0])


def test_floors_are_of_test_pictures_and_fall_with_their_number(
    judge: Classifier, reference: PictureReference
) -> None:
    test, train = _bars(1200, 2)[0], _bars(2000, 1)[0]
    by_hand = frechet_distance(
        FeatureMoments.of(judge.features(test)), FeatureMoments.of(judge.features(train))
    )
    assert reference.counts.tolist() == [250, 500, 1000, 1200]
    assert reference.floor(1200) == reference.floor(50_000) == pytest.approx(by_hand)
    assert reference.floor(250) > reference.floor(300) > reference.floor(500)
    assert reference.gaussian > reference.floor(250)
    with pytest.raises(DataError, match="pictures: 249; allowed for a Frechet distance: 250 or more"):
        reference.floor(249)


def test_fresh_real_pictures_score_as_real(judge: Classifier, reference: PictureReference) -> None:
    scores = reference.measure(judge.features(_bars(1200, 3)[0]))
    assert abs(scores.frechet_star) < 0.02
    assert scores.density == pytest.approx(1.0, abs=0.15)
    assert scores.coverage > 0.85
    assert scores.n == 1200
    few = reference.measure(judge.features(_bars(40, 3)[0]))
    assert np.isnan(few.frechet_star)
    blank = reference.measure(judge.features(np.zeros((300, 28, 28), np.float32)))
    assert blank.frechet_star > 0.2
    assert blank.coverage < 0.1


def test_a_reference_survives_its_file_and_belongs_to_its_nets(
    tmp_path: Path, judge: Classifier, reference: PictureReference
) -> None:
    path = tmp_path / "r.safetensors"
    save_reference(reference, path, {"name": "r"})
    again = load_reference(path, classifier_sha256=HASHES[0], autoencoder_sha256=HASHES[1])
    features = judge.features(_bars(300, 4)[0])
    assert again.frechet_star(features) == pytest.approx(reference.frechet_star(features), rel=1e-12)
    np.testing.assert_allclose(again.real_features, reference.real_features, rtol=1e-3, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"classifier_sha256 is aaaa.*; the net at hand has cccc"):
        load_reference(path, classifier_sha256="c" * 64, autoencoder_sha256=HASHES[1])
    with pytest.raises(CheckpointError, match="autoencoder_sha256 is bbbb"):
        load_reference(path, classifier_sha256=HASHES[0], autoencoder_sha256="c" * 64)
    card = json.loads(card_path(path).read_text())
    card_path(path).write_text(json.dumps({**card, "kind": "classifier"}))
    with pytest.raises(CheckpointError, match="wanted 'picture-reference'"):
        load_reference(path, classifier_sha256=HASHES[0], autoencoder_sha256=HASHES[1])


def test_a_perceptual_term_is_zero_for_a_copy_and_a_blur_costs(judge: Classifier) -> None:
    real = torch.as_tensor(_bars(120, 5)[0]).reshape(-1, 784)
    term = perceptual(judge, real)
    rows = torch.arange(30, 90)
    for part in term.terms(real[rows], rows):
        assert float(part) == pytest.approx(0, abs=1e-3)
    distance, moments = term.terms(0.5 * real[rows] + 0.1, rows)
    assert float(distance) > 1e-3
    assert float(moments) > 1e-6


@pytest.mark.slow  # trains one
def test_a_convolutional_autoencoder_survives_its_file(tmp_path: Path, judge: Classifier) -> None:
    settings = AutoencoderSettings(
        architecture="convolutional",
        channels=8,
        latent=3,
        hidden=(24,),
        epochs=30,
        batch=50,
        warmup=10,
        learning_rate=2e-3,
        plain_share=0.95,
        perceptual_weight=1e-3,
    )
    pictures, labels = _bars(400, 0)
    coder = train_autoencoder(pictures, labels, settings, critic=judge, seed=1)
    shown = coder.reconstruct(pictures)
    assert np.mean((shown - pictures) ** 2) < 0.8 * pictures.var()
    latents = coder.encode(pictures)
    np.testing.assert_allclose(np.cov(latents.T), np.eye(3), atol=1e-2)
    card = save_autoencoder(coder, tmp_path / "a.safetensors", {})
    assert (card["architecture"], card["channels"], card["hidden"]) == ("convolutional", 8, [24])
    again, _ = load_autoencoder(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(again.reconstruct(pictures[:20]), shown[:20])
    for field, value in (("architecture", "recurrent"), ("channels", 3), ("channels", "4")):
        content = json.loads(card_path(tmp_path / "a.safetensors").read_text())
        (tmp_path / "b.json").write_text(json.dumps({**content, field: value}))
        (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
        with pytest.raises(CheckpointError, match=r"architecture|are not sizes"):
            load_autoencoder(tmp_path / "b.safetensors")
