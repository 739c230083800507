"""Garments: twelve numbers from the machine become pictures of clothes.

    from labctl.models.garments import load_garments
    garments = load_garments()
    pictures = garments.decode(latents)                 # [B, 12] to [B, 28, 28] in 0..1
    garments.agreement(pictures, requested_labels)      # share judged to be what was asked for

Everything here is shipped: the autoencoder, the judge and 100 real pictures (the first ten of each class in
Fashion-MNIST's test set; MIT licence, zoo/FASHION_MNIST_LICENSE), so that no data set is needed.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.errors import CheckpointError, DataError
from labctl.models.autoencoder import Autoencoder, load_autoencoder
from labctl.models.checkpoint import zoo_folder
from labctl.models.classifier import Classifier, agreement, load_classifier
from labctl.models.data_sets import data_set
from labctl.models.pictures import Labels, Pictures, as_labels, as_pictures

FloatArray = NDArray[np.float64]

DATA_SET: Final = "fashion-mnist"
AUTOENCODER: Final = "fashion_autoencoder"
CLASSIFIER: Final = "fashion_classifier"
DENOISER: Final = "fashion"
REAL_PICTURES: Final = "fashion_pictures.npz"
CLASS_NAMES: Final = data_set(DATA_SET).classes

# The judge of class agreement. Figures from another judge are not comparable with any published here.
CLASSIFIER_SHA256: Final = "b63d1b87feb6d24c555a1b5a3409abbee54094118a39e14979ff6aa61117d012"


@dataclass(frozen=True, eq=False)
class Garments:
    """The face of everything about garments; see the module.

    `real_pictures` float32 [100, 28, 28] in 0..1 and `real_labels` int64 [100] are in order of class.
    """

    autoencoder: Autoencoder
    classifier: Classifier
    real_pictures: Pictures
    real_labels: Labels
    class_names: tuple[str, ...] = CLASS_NAMES

    @property
    def latent(self) -> int:
        """Number of latent variables: 12."""
        return self.autoencoder.latent

    def encode(self, pictures: ArrayLike) -> FloatArray:
        """Pictures [B, 28, 28] (uint8, or 0..1) to whitened latents [B, 12]; else DataError."""
        return self.autoencoder.encode(pictures)

    def decode(self, latents: ArrayLike) -> Pictures:
        """Whitened latents [B, 12] to pictures float32 [B, 28, 28] in 0..1; else DataError."""
        return self.autoencoder.decode(latents)

    def classify(self, pictures: ArrayLike) -> Labels:
        """The judge's class of each picture, int64 [B]; `class_names` are in that order."""
        return self.classifier.classify(pictures)

    def agreement(self, pictures: ArrayLike, labels: ArrayLike) -> float:
        """Class agreement: the share of pictures that the judge assigns to the class asked for."""
        return agreement(self.classifier, pictures, labels)


@cache
def load_garments() -> Garments:
    """The shipped autoencoder, judge and real pictures. CheckpointError or DataError when one is damaged."""
    autoencoder, _ = load_autoencoder(AUTOENCODER)
    classifier, card = load_classifier(CLASSIFIER)
    if card["sha256"] != CLASSIFIER_SHA256:
        raise CheckpointError(
            f"{CLASSIFIER}: sha256 {card['sha256']}; allowed: {CLASSIFIER_SHA256} (the judge is fixed, or "
            "class agreements could not be compared)"
        )
    pictures, labels = read_pictures(zoo_folder() / REAL_PICTURES)
    return Garments(autoencoder, classifier, pictures, labels)


def class_agreement(pictures: ArrayLike, labels: ArrayLike) -> float:
    """`Garments.agreement` of the shipped judge: pictures [B, 28, 28], labels int [B]."""
    return load_garments().agreement(pictures, labels)


def read_pictures(path: Path) -> tuple[Pictures, Labels]:
    """Pictures float32 [N, 28, 28] in 0..1 and labels [N] of an .npz with `pictures` and `labels`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored, labels = archive["pictures"], archive["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable .npz with pictures and labels ({error})") from error
    pictures = as_pictures(stored, f"{path}: pictures")
    return pictures, as_labels(labels, len(pictures), len(CLASS_NAMES), f"{path}: labels")


def first_of_each_class(labels: ArrayLike, each: int) -> NDArray[np.int64]:
    """Row numbers of the first `each` examples of every class, in order of class."""
    given = np.asarray(labels)
    rows = [np.flatnonzero(given == label)[:each] for label in range(len(CLASS_NAMES))]
    return np.concatenate(rows).astype(np.int64)
