"""What FD* needs of a data set, in a small file, so that a run can print it where the data set is not.

    reference = load_reference("fashion_reference")
    reference.measure(classifier.features(pictures))     # FD*, density, coverage

The file holds the moments of the training pictures' features, the floor (real test pictures against them, for
several numbers of pictures, since a Frechet distance of few is biased upwards), the distance of a Gaussian's
pictures, and the features of some real test pictures. The Gaussian is decoded from the latents of an
autoencoder, or has the mean and full covariance of the training pixels. The file belongs to one classifier
and, in the former case, one autoencoder, whose hashes it names; those of any others are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.errors import CheckpointError, DataError
from labctl.models.autoencoder import Autoencoder
from labctl.models.checkpoint import find_checkpoint, read_tensors, write_tensors
from labctl.models.classifier import Classifier
from labctl.models.picture_metrics import (
    NEIGHBOURS,
    FeatureMoments,
    density_coverage,
    frechet_distance,
    frechet_star,
)
from labctl.models.pictures import Pictures, as_pictures
from labctl.models.pixel_controls import PixelGaussian

FloatArray = NDArray[np.float64]
KIND: Final = "picture-reference"
COUNTS: Final = (250, 500, 1000, 2000, 5000, 10_000)
GAUSSIAN_PICTURES: Final = 10_000
REAL_FEATURES: Final = 1000
_SUBSETS = 8  # of the test pictures, over which a floor of fewer than all is averaged


@dataclass(frozen=True, eq=False)
class PictureScores:
    """`frechet_star` nan below the smallest number of pictures that has a floor; `n` pictures were judged."""

    frechet_star: float
    density: float
    coverage: float
    n: int

    def metrics(self) -> dict[str, float]:
        """The scores by name; FD* is left out where it is nan."""
        star = {"frechet_star": self.frechet_star} if np.isfinite(self.frechet_star) else {}
        return {**star, "density": self.density, "coverage": self.coverage}


@dataclass(frozen=True, eq=False)
class PictureReference:
    """See the module. `floors` [K] are Frechet distances of `counts` [K] test pictures.

    `autoencoder_sha256` is empty where the Gaussian is one of pixels.
    """

    train: FeatureMoments
    counts: NDArray[np.int64]
    floors: FloatArray
    gaussian: float
    real_features: FloatArray
    classifier_sha256: str
    autoencoder_sha256: str

    def floor(self, n: int) -> float:
        """The floor for n pictures: its bias goes as 1/n, between the counts it was measured at.

        Beyond the largest it stays; below the smallest, DataError.
        """
        if n < self.counts[0]:
            raise DataError(f"pictures: {n}; allowed for a Frechet distance: {self.counts[0]} or more")
        order = np.argsort(1.0 / self.counts)
        return float(np.interp(1.0 / n, (1.0 / self.counts)[order], self.floors[order]))

    def frechet_star(self, features: ArrayLike) -> float:
        """FD* of pictures by their features [N, F]."""
        n = len(np.asarray(features))
        floor = self.floor(n)
        distance = frechet_distance(FeatureMoments.of(features), self.train)
        return frechet_star(distance, floor, self.gaussian)

    def measure(self, features: ArrayLike) -> PictureScores:
        """All scores of pictures by their features [N, F].

        Density and coverage compare equally many samples and real pictures, `REAL_FEATURES` at most, evenly
        out of all samples (runs sort theirs by class).
        """
        points = np.asarray(features, dtype=np.float64)
        star = self.frechet_star(points) if len(points) >= self.counts[0] else float("nan")
        common = min(len(points), len(self.real_features))
        chosen = points[np.linspace(0, len(points) - 1, common).round().astype(int)]
        both = density_coverage(self.real_features[: max(common, NEIGHBOURS + 1)], chosen)
        return PictureScores(star, both.density, both.coverage, len(points))


def make_reference(
    classifier: Classifier,
    autoencoder: Autoencoder,
    hashes: tuple[str, str],
    train_pictures: ArrayLike,
    test_pictures: ArrayLike,
    *,
    seed: int = 0,
) -> PictureReference:
    """Work out the reference of a data set; `hashes` are those of classifier and autoencoder."""
    rng = np.random.Generator(np.random.Philox(seed))

    def decoded(count: int) -> Pictures:
        # The latents are whitened, so the Gaussian with their covariance is the standard one.
        return autoencoder.decode(rng.standard_normal((count, autoencoder.latent)))

    return _reference(classifier, hashes, train_pictures, test_pictures, decoded, GAUSSIAN_PICTURES, rng)


def make_pixel_reference(
    classifier: Classifier,
    classifier_sha256: str,
    train_pictures: ArrayLike,
    test_pictures: ArrayLike,
    *,
    seed: int = 0,
) -> PictureReference:
    """The same with the Gaussian of the training pixels, for generators that have no latents.

    Its pictures are as many as the test's, so that floor, Gaussian and generated pictures carry the same bias
    of a Frechet distance between few.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    gaussian = PixelGaussian.of(as_pictures(train_pictures, side=classifier.side))
    hashes = classifier_sha256, ""
    count = min(GAUSSIAN_PICTURES, len(np.asarray(test_pictures)))
    return _reference(
        classifier, hashes, train_pictures, test_pictures, lambda n: gaussian.draw(n, rng), count, rng
    )


def _reference(
    classifier: Classifier,
    hashes: tuple[str, str],
    train_pictures: ArrayLike,
    test_pictures: ArrayLike,
    gaussian: Callable[[int], Pictures],
    gaussian_count: int,
    rng: np.random.Generator,
) -> PictureReference:
    train = FeatureMoments.of(classifier.features(train_pictures))
    test = classifier.features(test_pictures)
    counts = sorted({min(n, len(test)) for n in COUNTS})
    floors = []
    for n in counts:
        times = _SUBSETS if n < len(test) else 1
        picks = [rng.permutation(len(test))[:n] for _ in range(times)]
        floors.append(np.mean([frechet_distance(FeatureMoments.of(test[p]), train) for p in picks]))
    times = 1 if gaussian_count == GAUSSIAN_PICTURES else _SUBSETS
    drawn = [FeatureMoments.of(classifier.features(gaussian(gaussian_count))) for _ in range(times)]
    return PictureReference(
        train=train,
        counts=np.array(counts),
        floors=np.array(floors),
        gaussian=float(np.mean([frechet_distance(moments, train) for moments in drawn])),
        real_features=test[rng.permutation(len(test))[:REAL_FEATURES]],
        classifier_sha256=hashes[0],
        autoencoder_sha256=hashes[1],
    )


def save_reference(
    reference: PictureReference, path: Path | str, card: Mapping[str, Any], *, overwrite: bool = False
) -> dict[str, Any]:
    """Write `path` (.safetensors) and its card; returns the card."""
    tensors = {
        "train_mean": reference.train.mean,
        "train_covariance": reference.train.covariance,
        "counts": reference.counts,
        "floors": reference.floors,
        "gaussian": np.array([reference.gaussian]),
        "real_features": reference.real_features.astype(np.float16),
    }
    content = {
        "format_version": 1,
        "kind": KIND,
        "classifier_sha256": reference.classifier_sha256,
        "autoencoder_sha256": reference.autoencoder_sha256,
        **card,
    }
    return write_tensors(path, tensors, content, overwrite=overwrite)


def load_reference(
    name_or_path: Path | str, *, classifier_sha256: str, autoencoder_sha256: str = ""
) -> PictureReference:
    """A shipped reference by name, or one by path, for the nets of these hashes ("" for no autoencoder).

    Raises CheckpointError for a misfit of any kind: distances in the features of another classifier, or with
    the Gaussian of another decoder, would be other figures.
    """
    path = find_checkpoint(name_or_path)
    tensors, card = read_tensors(path)
    if card.get("kind") != KIND:
        raise CheckpointError(f"{path}: the card's kind is {card.get('kind')!r}, wanted {KIND!r}")
    for field, wanted in (
        ("classifier_sha256", classifier_sha256),
        ("autoencoder_sha256", autoencoder_sha256),
    ):
        if card.get(field) != wanted:
            raise CheckpointError(f"{path}: {field} is {card.get(field)}; the net at hand has {wanted}")
    n_features = len(tensors.get("train_mean", ()))
    n_counts = len(tensors.get("counts", ()))
    shapes: dict[str, tuple[int | None, ...]] = {
        "train_mean": (n_features,),
        "train_covariance": (n_features, n_features),
        "counts": (n_counts,),
        "floors": (n_counts,),
        "gaussian": (1,),
        "real_features": (None, n_features),
    }
    for name, shape in shapes.items():
        value = tensors.get(name)
        if (
            value is None
            or value.ndim != len(shape)
            or any(w is not None and w != n for w, n in zip(shape, value.shape, strict=True))
            or not value.size
            or not np.isfinite(value).all()
        ):
            raise CheckpointError(f"{path}: tensor {name} must be finite and of shape {shape}")
    return PictureReference(
        train=FeatureMoments(tensors["train_mean"], tensors["train_covariance"]),
        counts=tensors["counts"],
        floors=tensors["floors"],
        gaussian=float(tensors["gaussian"][0]),
        real_features=tensors["real_features"].astype(np.float64),
        classifier_sha256=classifier_sha256,
        autoencoder_sha256=autoencoder_sha256,
    )
