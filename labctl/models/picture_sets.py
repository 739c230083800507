"""Pictures from a machine's latents: one face for every set of pictures, chosen by a checkpoint's card.

    pictures = picture_set("fashion")
    shown = pictures.decode(latents)                  # [B, 12] to [B, 28, 28] in 0..1
    pictures.agreement(shown, requested_labels)       # share judged to be what was asked for
    pictures.scores(shown)                            # FD*, density, coverage

A denoiser's card names its autoencoder, its judge and, where there is one, its reference, each with a hash
that must fit. Real pictures to show beside are the shipped ones, or those of the user's fetched data set.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.errors import CheckpointError, DataError
from labctl.models.autoencoder import LATENT_LIMIT, Autoencoder, load_autoencoder
from labctl.models.checkpoint import load_checkpoint, zoo_folder
from labctl.models.classifier import Classifier, agreement, load_classifier
from labctl.models.data_sets import DATA_SETS
from labctl.models.fetch import data_dir, is_present, load
from labctl.models.picture_reference import PictureReference, PictureScores, load_reference
from labctl.models.pictures import Labels, Pictures, as_labels, as_pictures

FloatArray = NDArray[np.float64]

# Sets whose licence lets real pictures be shipped: the first ten of each class of the test set.
SHIPPED_PICTURES: Final = {"fashion-mnist": "fashion_pictures.npz"}
SHOWN_OF_EACH_CLASS: Final = 10


@dataclass(frozen=True, eq=False)
class PictureSet:
    """The face of everything about a set of pictures; see the module.

    `real_pictures` float32 [N, 28, 28] in 0..1 and `real_labels` int64 [N] are in order of class, or None
    where the set may not be shipped and is not here. `reference` is None where none was made.
    """

    name: str
    autoencoder: Autoencoder
    classifier: Classifier
    class_names: tuple[str, ...]
    real_pictures: Pictures | None = None
    real_labels: Labels | None = None
    reference: PictureReference | None = None

    @property
    def latent(self) -> int:
        """Number of latent variables."""
        return self.autoencoder.latent

    def encode(self, pictures: ArrayLike) -> FloatArray:
        """Pictures [B, 28, 28] (uint8, or 0..1) to whitened latents [B, L]; else DataError."""
        return self.autoencoder.encode(pictures)

    def decode(self, latents: ArrayLike) -> Pictures:
        """Whitened latents [B, L] to pictures float32 [B, 28, 28] in 0..1; else DataError."""
        return self.autoencoder.decode(latents)

    def in_range(self, latents: ArrayLike) -> tuple[FloatArray, int]:
        """Latents [B, L] moved into the decoder's range, and how many of them were not."""
        given = np.asarray(latents, dtype=np.float64)
        kept = np.clip(given, -LATENT_LIMIT, LATENT_LIMIT)
        return kept, int((kept != given).any(axis=1).sum())

    def classify(self, pictures: ArrayLike) -> Labels:
        """The judge's class of each picture, int64 [B]; `class_names` are in that order."""
        return self.classifier.classify(pictures)

    def agreement(self, pictures: ArrayLike, labels: ArrayLike) -> float:
        """Class agreement: the share of pictures that the judge assigns to the class asked for."""
        return agreement(self.classifier, pictures, labels)

    def scores(self, pictures: ArrayLike) -> PictureScores | None:
        """FD*, density and coverage of pictures [B, 28, 28]; None without a reference."""
        if self.reference is None:
            return None
        return self.reference.measure(self.classifier.features(pictures))


def picture_set(model: Path | str) -> PictureSet:
    """The set of a denoiser by its shipped name or path; CheckpointError where it makes no pictures."""
    found = picture_set_of(load_checkpoint(model).card.notes)
    if found is None:
        raise CheckpointError(f"{model}: the card names no autoencoder; allowed: a denoiser of pictures")
    return found


def picture_set_of(notes: Mapping[str, Any]) -> PictureSet | None:
    """The set that a denoiser's card names in its `notes`; None for a network that makes no pictures.

    Raises CheckpointError where one of the nets is missing, damaged, or not the one the card means.
    """
    if "autoencoder" not in notes:
        return None
    nets = []
    for part in ("autoencoder", "classifier"):
        entry = notes.get(part)
        if not isinstance(entry, Mapping) or not all(
            isinstance(entry.get(k), str) for k in ("name", "sha256")
        ):
            raise CheckpointError(f"the card's notes.{part} is {entry!r}; allowed: a name and a sha256")
        nets.append((str(entry["name"]), str(entry["sha256"])))
    reference = notes.get("reference")
    reference_name = str(reference.get("name")) if isinstance(reference, Mapping) else ""
    classes = tuple(map(str, notes.get("class_names", ())))
    return _loaded(nets[0], nets[1], reference_name, classes, data_dir())


@lru_cache(maxsize=8)
def _loaded(
    autoencoder: tuple[str, str],
    classifier: tuple[str, str],
    reference: str,
    class_names: tuple[str, ...],
    kept_in: Path,
) -> PictureSet:
    coder, coder_card = load_autoencoder(autoencoder[0])
    judge, judge_card = load_classifier(classifier[0])
    for (name, wanted), card in ((autoencoder, coder_card), (classifier, judge_card)):
        if card["sha256"] != wanted:
            raise CheckpointError(
                f"{name}: sha256 {card['sha256']}; allowed: {wanted}, the one the denoiser's card names "
                "(figures of another net could not be compared)"
            )
    found = None
    if reference:
        found = load_reference(
            reference, classifier_sha256=judge_card["sha256"], autoencoder_sha256=coder_card["sha256"]
        )
    data = coder_card.get("dataset")
    name = str(data.get("name", "")) if isinstance(data, Mapping) else ""
    pictures, labels = _real(name, judge.n_classes, kept_in)
    return PictureSet(name, coder, judge, class_names, pictures, labels, found)


def _real(name: str, n_classes: int, kept_in: Path) -> tuple[Pictures | None, Labels | None]:
    """Real pictures to show: shipped, or of the fetched set, or none."""
    if name in SHIPPED_PICTURES:
        return read_pictures(zoo_folder() / SHIPPED_PICTURES[name], n_classes)
    if name in DATA_SETS and is_present(name, kept_in):
        pictures, labels = load(name, "test", kept_in)
        rows = first_of_each_class(labels, SHOWN_OF_EACH_CLASS, n_classes)
        return as_pictures(pictures[rows]), as_labels(labels[rows], len(rows), n_classes)
    return None, None


def read_pictures(path: Path, n_classes: int) -> tuple[Pictures, Labels]:
    """Pictures float32 [N, 28, 28] in 0..1 and labels [N] of an .npz with `pictures` and `labels`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored, labels = archive["pictures"], archive["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable .npz with pictures and labels ({error})") from error
    pictures = as_pictures(stored, f"{path}: pictures")
    return pictures, as_labels(labels, len(pictures), n_classes, f"{path}: labels")


def first_of_each_class(labels: ArrayLike, each: int, n_classes: int) -> NDArray[np.int64]:
    """Row numbers of the first `each` examples of every class, in order of class."""
    given = np.asarray(labels)
    rows = [np.flatnonzero(given == label)[:each] for label in range(n_classes)]
    return np.concatenate(rows).astype(np.int64)
