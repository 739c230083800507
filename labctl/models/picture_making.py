"""From a picture recipe and its data set to nets with their cards: train, measure on the test set, save.

The data set must be here (`labctl data fetch fashion-mnist`); what the shipped recipes make is in the zoo.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.models.autoencoder import Autoencoder, load_autoencoder, save_autoencoder, train_autoencoder
from labctl.models.checkpoint import provenance
from labctl.models.classifier import agreement, load_classifier, save_classifier, train_classifier
from labctl.models.datasets import Affine
from labctl.models.making import coded_names, make_networks, new_paths, training_facts
from labctl.models.network import RowTableNetwork
from labctl.models.oscillators.control_making import make_controls
from labctl.models.oscillators.making import make_chains, make_generators
from labctl.models.picture_data import PictureData, picture_data
from labctl.models.picture_recipes import (
    AutoencoderRecipe,
    ChainRecipe,
    ClassifierRecipe,
    ControlsRecipe,
    DenoiserRecipe,
    JudgedRecipe,
    OscillatorRecipe,
    PictureRecipe,
    ReferenceRecipe,
    SizedRecipe,
)
from labctl.models.picture_reference import (
    load_reference,
    make_pixel_reference,
    make_reference,
    save_reference,
)
from labctl.models.pictures import SIDE, as_pictures
from labctl.models.points import PointTable
from labctl.models.reference import converged_samples, start_noise
from labctl.models.training import ProgressCallback

FloatArray = NDArray[np.float64]

# The reference sampler of every agreement on a card: Heun's method, 64 steps, sigma 10 to .06, final denoise.
REFERENCE_STEPS = 64
REFERENCE_SIGMA_MIN = 0.06


def train_pictures(
    recipe: PictureRecipe,
    *,
    out: Path | str = ".",
    cache_dir: Path | str | None = None,
    progress: ProgressCallback | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Train what the recipe says, measure it on the test set, save it; returns the files made.

    `cache_dir` is where the data set lies (default: the user's data directory). Raises DataError when it is
    not there, ConfigError (before any training) for files that exist, CheckpointError for unwritable ones.
    """
    names = [recipe.name]
    if isinstance(recipe, DenoiserRecipe):
        names = coded_names(recipe.name, recipe.quantise.bits)
    if isinstance(recipe, JudgedRecipe):
        names = coded_names(recipe.name, recipe.coded.bits)
    if isinstance(recipe, OscillatorRecipe) and recipe.start:
        names = names[1:]
    paths = new_paths(out, names, overwrite=overwrite)
    side = recipe.side if isinstance(recipe, SizedRecipe) else SIDE
    sets = picture_data(recipe.data_set, side, cache_dir)
    if isinstance(recipe, AutoencoderRecipe):
        _make_autoencoder(recipe, sets, paths[0], progress, overwrite)
    elif isinstance(recipe, ClassifierRecipe):
        _make_classifier(recipe, sets, paths[0], progress, overwrite)
    elif isinstance(recipe, ReferenceRecipe):
        _make_reference(recipe, sets, paths[0], overwrite)
    elif isinstance(recipe, OscillatorRecipe):
        make_generators(recipe, sets, paths, progress=progress, overwrite=overwrite)
    elif isinstance(recipe, ControlsRecipe):
        make_controls(recipe, sets, paths[0], progress=progress, overwrite=overwrite)
    elif isinstance(recipe, ChainRecipe):
        make_chains(recipe, sets, paths, progress=progress, overwrite=overwrite)
    else:
        _make_denoisers(recipe, sets, paths, progress, overwrite)
    return paths


def latent_table(
    autoencoder: Autoencoder, pictures: NDArray[Any], labels: NDArray[Any], n_classes: int, name: str
) -> PointTable:
    """Whitened latents of labelled pictures as a data source; network units are latent units."""
    latents = autoencoder.encode(pictures)
    identity = Affine((0.0,) * autoencoder.latent, (1.0,) * autoencoder.latent)
    return PointTable(name, latents, identity, labels.astype(np.int64), n_classes)


def reference_latents(
    network: RowTableNetwork, count: int, seed: int = 2**40
) -> tuple[FloatArray, FloatArray]:
    """Latents [count, d] of the network's converged ODE and the classes they were asked for, in rotation."""
    labels = torch.arange(count) % network.n_classes
    start = start_noise(count, network.sizes[0], seed=seed)
    latents = converged_samples(network, start, labels, sigma_min=REFERENCE_SIGMA_MIN, steps=REFERENCE_STEPS)
    return latents.double().numpy(), labels.numpy()


def _card(
    recipe: AutoencoderRecipe | ClassifierRecipe | ReferenceRecipe,
    sets: PictureData,
    metrics: dict[str, float],
    took_s: float,
) -> dict[str, Any]:
    """What the cards of nets for pictures have in common; `took_s` is the making's wall time."""
    settings = (
        {} if isinstance(recipe, ReferenceRecipe) else {"settings": recipe.train.model_dump(mode="json")}
    )
    return {
        "name": recipe.name,
        "description": recipe.description,
        "dataset": sets.card(),
        "seed": recipe.seed,
        **settings,
        "metrics": metrics,
        **training_facts(took_s),
        **provenance(),
        "licence": "Apache-2.0",
    }


def _make_autoencoder(
    recipe: AutoencoderRecipe,
    sets: PictureData,
    path: Path,
    progress: ProgressCallback | None,
    overwrite: bool,
) -> None:
    critic, critic_card = load_classifier(recipe.critic) if recipe.critic else (None, {})
    began = time.monotonic()
    autoencoder = train_autoencoder(
        sets.train_pictures,
        sets.train_labels,
        recipe.train,
        critic=critic,
        seed=recipe.seed,
        progress=progress,
    )
    took = time.monotonic() - began
    metrics = {}
    for split, pictures in (("train", sets.train_pictures), ("test", sets.test_pictures)):
        real = as_pictures(pictures)
        shown = autoencoder.reconstruct(real)
        metrics[f"mean_squared_error_{split}"] = float(np.mean((shown - real) ** 2, dtype=np.float64))
        metrics[f"edge_ratio_{split}"] = _edges(shown) / _edges(real)
    card = _card(recipe, sets, metrics, took)
    if recipe.critic:
        card["critic"] = {"name": recipe.critic, "sha256": critic_card["sha256"]}
    save_autoencoder(autoencoder, path, card, overwrite=overwrite)


def _make_classifier(
    recipe: ClassifierRecipe,
    sets: PictureData,
    path: Path,
    progress: ProgressCallback | None,
    overwrite: bool,
) -> None:
    began = time.monotonic()
    classifier = train_classifier(
        sets.train_pictures,
        sets.train_labels,
        recipe.train,
        side=sets.side,
        seed=recipe.seed,
        progress=progress,
    )
    took = time.monotonic() - began
    metrics = {
        "accuracy_train": agreement(classifier, sets.train_pictures, sets.train_labels),
        "accuracy_test": agreement(classifier, sets.test_pictures, sets.test_labels),
    }
    found = classifier.classify(sets.test_pictures)
    for label, name in enumerate(sets.classes):
        of_class = sets.test_labels == label
        metrics[f"recall_test_{name}"] = float((found[of_class] == label).mean())
    save_classifier(classifier, path, _card(recipe, sets, metrics, took), overwrite=overwrite)


def _make_reference(recipe: ReferenceRecipe, sets: PictureData, path: Path, overwrite: bool) -> None:
    classifier, classifier_card = load_classifier(recipe.classifier)
    judged_by = classifier_card["sha256"]
    began = time.monotonic()
    metrics = {}
    if recipe.autoencoder:
        autoencoder, autoencoder_card = load_autoencoder(recipe.autoencoder)
        reference = make_reference(
            classifier,
            autoencoder,
            (judged_by, autoencoder_card["sha256"]),
            sets.train_pictures,
            sets.test_pictures,
            seed=recipe.seed,
        )
        shown = autoencoder.reconstruct(sets.test_pictures)
        metrics["frechet_star_reconstructions"] = reference.frechet_star(classifier.features(shown))
        metrics["class_agreement_reconstructions"] = agreement(classifier, shown, sets.test_labels)
    else:
        reference = make_pixel_reference(
            classifier, judged_by, sets.train_pictures, sets.test_pictures, seed=recipe.seed
        )
    took = time.monotonic() - began
    metrics["frechet_floor"] = reference.floor(len(sets.test_pictures))
    metrics["frechet_gaussian"] = reference.gaussian
    card = _card(recipe, sets, metrics, took)
    save_reference(reference, path, card, overwrite=overwrite)


def _make_denoisers(
    recipe: DenoiserRecipe,
    sets: PictureData,
    paths: list[Path],
    progress: ProgressCallback | None,
    overwrite: bool,
) -> None:
    autoencoder, autoencoder_card = load_autoencoder(recipe.autoencoder)
    classifier, classifier_card = load_classifier(recipe.classifier)
    reference = None
    if recipe.reference:
        reference = load_reference(
            recipe.reference,
            classifier_sha256=classifier_card["sha256"],
            autoencoder_sha256=autoencoder_card["sha256"],
        )
    n_classes = len(sets.classes)
    source = latent_table(
        autoencoder, sets.train_pictures, sets.train_labels, n_classes, f"latents of {sets.name}"
    )
    # What no generator in these latents can be expected to beat: real pictures through the latents and back.
    ceiling = agreement(classifier, autoencoder.reconstruct(sets.test_pictures), sets.test_labels)

    def measured(network: RowTableNetwork) -> dict[str, float]:
        metrics = {"class_agreement_reconstructions": ceiling}
        if recipe.samples:
            latents, labels = reference_latents(network, recipe.samples)
            shown = autoencoder.decode(latents)
            found = classifier.classify(shown)
            metrics["class_agreement"] = float((found == labels).mean())
            for label, name in enumerate(sets.classes):
                metrics[f"class_agreement_{name}"] = float((found[labels == label] == label).mean())
            if reference is not None:
                scores = reference.measure(classifier.features(shown))
                if math.isfinite(scores.frechet_star):
                    metrics["frechet_star"] = scores.frechet_star
                metrics["density"], metrics["coverage"] = scores.density, scores.coverage
            metrics["samples"] = float(recipe.samples)
        return metrics

    card = {
        "description": recipe.description,
        "notes": {
            "autoencoder": {"name": recipe.autoencoder, "sha256": autoencoder_card["sha256"]},
            "classifier": {"name": recipe.classifier, "sha256": classifier_card["sha256"]},
            **({"reference": {"name": recipe.reference}} if recipe.reference else {}),
            "data_set": sets.name,
            "class_names": list(sets.classes),
            "class_agreement": f"share of decoded samples judged to be the class asked for; Heun, "
            f"{REFERENCE_STEPS} steps uniform in flow-matching time, sigma 10 to {REFERENCE_SIGMA_MIN}, "
            "final denoise",
        },
    }
    make_networks(
        source,
        recipe.train,
        recipe.quantise,
        paths,
        seed=recipe.seed,
        measured=measured,
        card=card,
        progress=progress,
        overwrite=overwrite,
    )


def _edges(pictures: NDArray[np.float32]) -> float:
    """Mean absolute difference of neighbouring pixels: falls when pictures blur."""
    down, right = np.abs(np.diff(pictures, axis=1)), np.abs(np.diff(pictures, axis=2))
    return float(down.mean(dtype=np.float64) + right.mean(dtype=np.float64))
