"""What a decoded picture is compared by, beside its pixels: the features of a fixed classifier.

A mean squared error of pixels is least where the picture blurs. A classifier's features are not: they ask
whether the edges and the parts are there. The term has two halves, both zero for a perfect copy:

    distance   sum over layers of the mean squared difference of features / that layer's variance
    moments    Frechet distance of the last layer's features over a batch / their total variance: what
               robs a whole set of its variety, as a decoder does that shows the mean of what it cannot know

Frechet distances in the features of a net that an autoencoder was trained with flatter it: they are stated
as such, and those in another net's features stand beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labctl.models.classifier import Classifier
from labctl.models.pictures import SIDE, in_chunks

Features = tuple[Tensor, ...]

_ROOT_FLOOR = 1e-8  # keeps the root's slope finite where a direction has no variance, relative to all


@dataclass(frozen=True, eq=False)
class Perceptual:
    """A term for pictures as rows [B, 784]; make it with `perceptual`. The classifier does not train.

    `wanted` holds, per layer, the features [N, ...] of the real pictures, worked out once.
    """

    stages: tuple[nn.Sequential, ...]
    wanted: Features
    variances: tuple[float, ...]

    def terms(self, shown: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(distance, moments) of decoded pictures [B, 784] against the real ones numbered `rows` [B]."""
        found = _features(self.stages, shown)
        wanted = [layer[rows] for layer in self.wanted]
        distance = torch.stack(
            [
                (a - b).square().mean() / variance
                for a, b, variance in zip(found, wanted, self.variances, strict=True)
            ]
        ).sum()
        return distance, _moment_gap(found[-1], wanted[-1])


def perceptual(classifier: Classifier, pictures: Tensor) -> Perceptual:
    """The term in `classifier`'s features after the third pooling and in its last hidden layer.

    `pictures` [N, 784], N of 2 or more, are those that decoded ones will be compared with.
    """
    layers = list(classifier.network)
    for parameter in classifier.network.parameters():
        parameter.requires_grad_(False)
    cut = max(i + 1 for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d))
    stages = nn.Sequential(*layers[:cut]), nn.Sequential(*layers[cut:-1])
    pooled = in_chunks(lambda part: stages[0](part.reshape(-1, 1, SIDE, SIDE)), pictures)
    wanted = pooled, in_chunks(stages[1], pooled)
    return Perceptual(stages, wanted, tuple(float(layer.var(dim=0).mean()) + 1e-12 for layer in wanted))


def _features(stages: tuple[nn.Sequential, ...], rows: Tensor) -> list[Tensor]:
    x = rows.reshape(-1, 1, SIDE, SIDE)
    out = []
    for stage in stages:
        x = stage(x)
        out.append(x)
    return out


def _moment_gap(found: Tensor, wanted: Tensor) -> Tensor:
    """Frechet distance of two batches of features [B, F], in units of the wanted ones' total variance.

    Of the root only the trace is needed, so only eigenvalues are differentiated, which is safe where they
    meet.
    """
    a, b = found - found.mean(dim=0), wanted - wanted.mean(dim=0)
    variance = b.square().sum(dim=1).mean() + 1e-12
    of_found, of_wanted = a.T @ a / len(a), b.T @ b / len(b)
    with torch.no_grad():
        values, vectors = torch.linalg.eigh(of_wanted)
        root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ of_found @ root)
    overlap = (shared.clamp(min=0) + _ROOT_FLOOR * variance).sqrt().sum()
    means = (found.mean(dim=0) - wanted.mean(dim=0)).square().sum()
    gap: Tensor = means + torch.trace(of_found) + torch.trace(of_wanted) - 2.0 * overlap
    return gap / variance
