"""Garments: twelve numbers from the machine become pictures of clothes.

    from labctl.models.garments import load_garments
    garments = load_garments()
    pictures = garments.decode(latents)                 # [B, 12] to [B, 28, 28] in 0..1
    garments.agreement(pictures, requested_labels)      # share judged to be what was asked for

Everything here is shipped: the autoencoder, the judge and 100 real pictures (the first ten of each class in
Fashion-MNIST's test set; MIT licence, zoo/FASHION_MNIST_LICENSE), so that no data set is needed. Every other
set of pictures has the same face: `labctl.models.picture_sets`.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from numpy.typing import ArrayLike

from labctl.devices.errors import CheckpointError
from labctl.models.checkpoint import load_checkpoint
from labctl.models.data_sets import data_set
from labctl.models.picture_sets import PictureSet, picture_set_of

DATA_SET: Final = "fashion-mnist"
AUTOENCODER: Final = "fashion_autoencoder"
CLASSIFIER: Final = "fashion_classifier"
DENOISER: Final = "fashion"
CLASS_NAMES: Final = data_set(DATA_SET).classes

# The judge of class agreement. Figures from another judge are not comparable with any published here.
CLASSIFIER_SHA256: Final = "b63d1b87feb6d24c555a1b5a3409abbee54094118a39e14979ff6aa61117d012"


@cache
def load_garments() -> PictureSet:
    """The shipped autoencoder, judge and real pictures. CheckpointError or DataError when one is damaged."""
    notes = load_checkpoint(DENOISER).card.notes
    found = notes["classifier"]["sha256"]
    if found != CLASSIFIER_SHA256:
        raise CheckpointError(
            f"{CLASSIFIER}: sha256 {found}; allowed: {CLASSIFIER_SHA256} (the judge is fixed, or "
            "class agreements could not be compared)"
        )
    garments = picture_set_of(notes)
    if garments is None:
        raise CheckpointError(f"{DENOISER}: the card names no autoencoder")
    return garments


def class_agreement(pictures: ArrayLike, labels: ArrayLike) -> float:
    """`PictureSet.agreement` of the shipped judge: pictures [B, 28, 28], labels int [B]."""
    return load_garments().agreement(pictures, labels)
