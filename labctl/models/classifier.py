"""What a picture shows, by a small convolutional network: the judge of generated pictures.

Its answers are comparable only while it stays the same, so the shipped one is fixed by its hash. It trains on
real pictures alone, never on generated ones; half of them are blurred, since a judge that saw only sharp
edges would call every decoded picture strange, and garments are mirrored or shifted, digits shifted, since
that does not change what they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from torch import Tensor, nn

from labctl.devices.errors import CheckpointError, DataError
from labctl.models.checkpoint import find_checkpoint, read_tensors, write_tensors
from labctl.models.pictures import (
    SIDE,
    EpochSettings,
    Labels,
    as_labels,
    as_pictures,
    half_precision,
    in_chunks,
    restore,
    seeded,
    train_by_epochs,
)
from labctl.models.training import ProgressCallback

KIND: Final = "classifier"
_SMALLEST: Final = 8  # pixels a side: three halvings

FloatArray = NDArray[np.float64]


class ClassifierSettings(EpochSettings):
    """All that decides a training, apart from the pictures and the seed.

    `channels` are those of the first convolution (the next two have twice and four times as many), `blur`
    the largest standard deviation of the blur in pixels; `mirror` shows half of the pictures mirrored, which
    keeps the class of a garment but not of a digit.
    """

    epochs: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=4e-3, gt=0)
    weight_decay: float = Field(default=2e-2, ge=0)
    channels: int = Field(default=24, ge=1)
    features: int = Field(default=96, ge=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    blur: float = Field(default=1.2, ge=0.3)
    mirror: bool = True


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network from pictures of `side` pixels a side to class scores."""

    network: nn.Sequential
    side: int = SIDE

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return _last(self.network).out_features

    def classify(self, pictures: ArrayLike) -> Labels:
        """The class of each picture [B, side, side] (uint8, or 0..1): int64 [B]; DataError if malformed."""
        scores = in_chunks(self.network, _images(pictures, self.side))
        return np.asarray(scores.argmax(dim=1).numpy(), dtype=np.int64)

    def probabilities(self, pictures: ArrayLike) -> FloatArray:
        """Class probabilities float64 [B, classes]."""
        scores = in_chunks(self.network, _images(pictures, self.side)).double()
        return np.asarray(scores.softmax(dim=1).numpy(), dtype=np.float64)

    def features(self, pictures: ArrayLike) -> FloatArray:
        """The last hidden layer, float64 [B, features]: for Frechet distances between pictures."""
        hidden = nn.Sequential(*list(self.network)[:-1])
        return np.asarray(in_chunks(hidden, _images(pictures, self.side)).double().numpy(), dtype=np.float64)


def agreement(classifier: Classifier, pictures: ArrayLike, labels: ArrayLike) -> float:
    """The share of pictures [B, side, side] that `classifier` assigns to the requested class, labels int [B].

    Raises DataError for malformed or no pictures.
    """
    found = classifier.classify(pictures)
    wanted = as_labels(labels, len(found), classifier.n_classes)
    if not len(found):
        raise DataError("pictures: 0; allowed: 1 or more")
    return float((found == wanted).mean())


def train_classifier(
    pictures: ArrayLike,
    labels: ArrayLike,
    settings: ClassifierSettings | None = None,
    *,
    side: int = SIDE,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Classifier:
    """Train on pictures [N, side, side] with labels [N]; parameters come back rounded to float16.

    Equal seeds give equal bits on the same build and thread count. Raises DataError for malformed data.
    """
    settings = settings or ClassifierSettings()
    x = _images(pictures, side)
    if not len(x):
        raise DataError("pictures: 0; allowed: 1 or more")
    y = torch.as_tensor(as_labels(labels, len(x), 256))
    n_classes = int(y.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    learner = _learner(settings, n_classes, side)
    seeded(learner, generator)

    def loss_of(rows: Tensor) -> Tensor:
        scores = learner(_varied(x[rows], settings, generator))
        return nn.functional.cross_entropy(scores, y[rows], label_smoothing=settings.label_smoothing)

    with torch.random.fork_rng(devices=[]):  # dropout draws from the global generator
        torch.manual_seed(seed)
        train_by_epochs(
            learner.parameters(), loss_of, len(x), settings, generator=generator, progress=progress
        )
    network = _folded(learner.eval(), settings, n_classes, side)
    half_precision(network)
    return Classifier(network, side)


def save_classifier(
    classifier: Classifier, path: Path | str, card: dict[str, Any], *, overwrite: bool = False
) -> dict[str, Any]:
    """Write `path` (.safetensors) and its card; returns the card with kind, sizes and sha256 filled in."""
    first, last = classifier.network[0], _last(classifier.network)
    sizes = {
        "channels": first.out_channels if isinstance(first, nn.Conv2d) else 0,
        "features": last.in_features,
        "n_classes": last.out_features,
        "side": classifier.side,
    }
    content = {"format_version": 1, "kind": KIND, **sizes, **card}
    return write_tensors(path, half_precision(classifier.network), content, overwrite=overwrite)


def load_classifier(name_or_path: Path | str) -> tuple[Classifier, dict[str, Any]]:
    """A shipped classifier by name, or one by path, with its card. Raises CheckpointError for any misfit."""
    path = find_checkpoint(name_or_path)
    tensors, card = read_tensors(path)
    if card.get("kind") != KIND:
        raise CheckpointError(f"{path}: the card's kind is {card.get('kind')!r}, wanted {KIND!r}")
    sizes = [card.get(field) for field in ("channels", "features", "n_classes")]
    channels, features, n_classes = (s if isinstance(s, int) and s > 0 else 0 for s in sizes)
    if not (channels and features and n_classes):
        raise CheckpointError(f"{path}: the card's channels, features and n_classes {sizes} are not sizes")
    side = card.get("side", SIDE)  # cards from before there were others do not say
    if not isinstance(side, int) or side < _SMALLEST:
        raise CheckpointError(f"{path}: the card's side {side!r}; allowed: {_SMALLEST} or more")
    network = _network(channels, features, n_classes, side)
    restore(network, tensors, str(path))
    return Classifier(network, side), card


def _images(pictures: ArrayLike, side: int) -> Tensor:
    return torch.as_tensor(as_pictures(pictures, side=side))[:, None]


def _network(channels: int, features: int, n_classes: int, side: int) -> nn.Sequential:
    """28 x 28 to 14 to 7 to 3 (14 to 1, 8 to 1), then two full layers."""
    layers: list[nn.Module] = []
    inputs = 1
    with torch.random.fork_rng(devices=[]):  # torch draws initial weights that nobody here will use
        for outputs in (channels, 2 * channels, 4 * channels):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = outputs
        last = inputs * (side // _SMALLEST) ** 2
        layers += [nn.Flatten(), nn.Linear(last, features), nn.ReLU(), nn.Linear(features, n_classes)]
    return nn.Sequential(*layers)


def _learner(settings: ClassifierSettings, n_classes: int, side: int) -> nn.Sequential:
    """The same network with batch normalisation and dropout, which only training needs."""
    layers: list[nn.Module] = []
    for layer in _network(settings.channels, settings.features, n_classes, side):
        if isinstance(layer, nn.Linear):
            layers.append(nn.Dropout(settings.dropout))
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
    return nn.Sequential(*layers)


def _folded(learner: nn.Sequential, settings: ClassifierSettings, n_classes: int, side: int) -> nn.Sequential:
    """The learner's function without its extra layers: normalisation goes into the convolutions."""
    network = _network(settings.channels, settings.features, n_classes, side)
    learnt = [m for m in learner if isinstance(m, nn.Conv2d | nn.Linear)]
    norms = iter([m for m in learner if isinstance(m, nn.BatchNorm2d)])
    targets = [m for m in network if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for source, target in zip(learnt, targets, strict=True):
            target.load_state_dict(source.state_dict())
            if isinstance(target, nn.Conv2d) and target.bias is not None:
                norm = next(norms)
                mean, variance = norm.running_mean, norm.running_var
                if mean is not None and variance is not None:
                    factor = norm.weight * torch.rsqrt(variance + norm.eps)
                    target.weight.mul_(factor[:, None, None, None])
                    target.bias.copy_((target.bias - mean) * factor + norm.bias)
    return network


def _last(network: nn.Sequential) -> nn.Linear:
    last = network[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError(f"the last layer is {type(last).__name__}, wanted Linear")
    return last


def _varied(x: Tensor, settings: ClassifierSettings, generator: torch.Generator) -> Tensor:
    """Mirror about half of the pictures [B, 1, side, side], blur half of them, shift all by up to a pixel."""
    draw = torch.rand(3, len(x), generator=generator)
    if settings.mirror:
        x = torch.where(draw[0, :, None, None, None] < 0.5, x.flip(3), x)
    width = torch.where(draw[1] < 0.5, 0.3 + (settings.blur - 0.3) * draw[2], torch.tensor(0.05))
    x = _blurred(x, width)
    down, right = torch.randint(-1, 2, (2,), generator=generator).tolist()
    return torch.roll(x, (down, right), (2, 3))


def _blurred(x: Tensor, width: Tensor) -> Tensor:
    """Gaussian blur of each picture with its own standard deviation in pixels, as two products K x K^T."""
    side = x.shape[-1]
    place = torch.arange(side, dtype=torch.float32)
    distance = place[:, None] - place
    kernel = torch.exp(-0.5 * (distance / width[:, None, None]) ** 2)
    # All rows share the sum of a middle one: beyond the border it is dark, as in the pictures.
    kernel = kernel / kernel[:, side // 2].sum(dim=1)[:, None, None]
    return kernel[:, None] @ x @ kernel[:, None].transpose(2, 3)
