"""Pictures to twelve numbers and back, so that pictures fit a machine of 48 variables.

The latents are whitened: over the training pictures they have mean 0 and covariance 1, which is what the
denoiser and the machine's ranges expect. Two things in the training serve the generator that comes after.
The decoder sees latents with a little noise, because a sampler ends at a small noise level, not at none; and
a linear read-out of the class from the latents keeps apart garments that differ little in their pixels.
A third keeps the decoder from blurring: a perceptual term in the features of a critic (`perceptual`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from torch import Tensor, nn

from labctl.devices.errors import CheckpointError, ConfigError, DataError
from labctl.models.checkpoint import find_checkpoint, read_tensors, write_tensors
from labctl.models.classifier import Classifier
from labctl.models.coders import Architecture, coders, perceptron
from labctl.models.perceptual import perceptual
from labctl.models.pictures import (
    PIXELS,
    SIDE,
    EpochSettings,
    Pictures,
    as_labels,
    as_pictures,
    half_precision,
    in_chunks,
    restore,
    seeded,
    train_by_epochs,
)
from labctl.models.training import ProgressCallback

KIND: Final = "autoencoder"
LATENT_LIMIT: Final = 8.0  # whitened; the farthest training picture is at 4.9 (garments), 4.0 (digits)

FloatArray = NDArray[np.float64]


class AutoencoderSettings(EpochSettings):
    """All that decides a training, apart from the pictures and the seed.

    `hidden` are the full layers, `channels` those of the first convolution (where there are any).
    `latent_noise` is the standard deviation of the noise on the latents. Beside the mean squared error of a
    pixel, the loss has `label_weight` times the read-out's cross-entropy (nats), `perceptual_weight` times
    the perceptual distance and `moments_weight` times the moments' gap; these two need a critic, and come in
    after the first `plain_share` of the training, which is several times faster without them.
    """

    architecture: Architecture = "perceptron"

    latent: int = Field(default=12, ge=1)
    hidden: tuple[int, ...] = Field(default=(512, 256), min_length=1)
    latent_noise: float = Field(default=0.05, ge=0)
    label_weight: float = Field(default=0.005, ge=0)
    channels: int = Field(default=16, ge=2, multiple_of=2)
    perceptual_weight: float = Field(default=0.0, ge=0)
    moments_weight: float = Field(default=0.0, ge=0)
    plain_share: float = Field(default=0.0, ge=0, le=1)

    @property
    def needs_critic(self) -> bool:
        """Whether the loss has a perceptual term."""
        return self.perceptual_weight > 0 or self.moments_weight > 0


@dataclass(frozen=True)
class Shape:
    """What the layers of an autoencoder are built from; see `coders`."""

    architecture: Architecture
    latent: int
    hidden: tuple[int, ...]
    channels: int

    def coders(self) -> tuple[nn.Sequential, nn.Sequential]:
        """(encoder, decoder), weights undrawn."""
        return coders(self.architecture, self.latent, self.hidden, self.channels)


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """A trained encoder and decoder with the mean [L] and covariance [L, L] of the codes between them.

    latents = C^-1 (code - mean) with C C^T = covariance (Cholesky).
    """

    encoder: nn.Sequential
    decoder: nn.Sequential
    mean: FloatArray
    covariance: FloatArray
    shape: Shape

    @property
    def latent(self) -> int:
        """Number of latent variables."""
        return len(self.mean)

    def encode(self, pictures: ArrayLike) -> FloatArray:
        """Pictures [B, 28, 28] (uint8, or 0..1) to whitened latents float64 [B, L]; else DataError."""
        flat = torch.as_tensor(as_pictures(pictures)).reshape(-1, PIXELS)
        codes = in_chunks(self.encoder, flat).double().numpy()
        root = np.linalg.cholesky(self.covariance)
        return np.linalg.solve(root, (codes - self.mean).T).T

    def decode(self, latents: ArrayLike) -> Pictures:
        """Whitened latents [B, L] to pictures float32 [B, 28, 28] in 0..1.

        DataError where malformed or beyond `LATENT_LIMIT`: the decoder has seen nothing like it.
        """
        given = np.asarray(latents, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != self.latent:
            raise DataError(f"latents: shape {given.shape}; allowed: [B, {self.latent}]")
        if not np.isfinite(given).all():
            row = int(np.flatnonzero(~np.isfinite(given).all(axis=1))[0])
            raise DataError(f"latents: row {row} is not finite; allowed: finite numbers")
        far = np.abs(given).max(axis=1, initial=0.0)
        if len(far) and far.max() > LATENT_LIMIT:
            row = int(far.argmax())
            raise DataError(
                f"latents: row {row} reaches {far[row]:.3g}; allowed: -{LATENT_LIMIT:g} to {LATENT_LIMIT:g} "
                "standard deviations, beyond which no training picture lies"
            )
        codes = given @ np.linalg.cholesky(self.covariance).T + self.mean
        flat = in_chunks(self.decoder, torch.as_tensor(codes, dtype=torch.float32)).numpy()
        return np.asarray(flat, dtype=np.float32).reshape(-1, SIDE, SIDE)

    def reconstruct(self, pictures: ArrayLike) -> Pictures:
        """Through the latents and back: the best that any generator in these latents can look."""
        return self.decode(self.encode(pictures))


def train_autoencoder(
    pictures: ArrayLike,
    labels: ArrayLike,
    settings: AutoencoderSettings | None = None,
    *,
    critic: Classifier | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Autoencoder:
    """Train on pictures [N, 28, 28] with labels [N]; parameters come back rounded to float16.

    `critic` is the fixed net of the perceptual term. Equal seeds give equal bits on the same build and thread
    count. Raises DataError for malformed data, ConfigError for a perceptual term without a critic.
    """
    settings = settings or AutoencoderSettings()
    if settings.needs_critic and critic is None:
        raise ConfigError("perceptual_weight and moments_weight need a critic; allowed without one: 0")
    x = torch.as_tensor(as_pictures(pictures)).reshape(-1, PIXELS)
    if len(x) <= settings.latent:
        raise DataError(f"pictures: {len(x)}; allowed: more than the {settings.latent} latent variables")
    y = torch.as_tensor(as_labels(labels, len(x), 256))
    generator = torch.Generator().manual_seed(seed)
    shape = Shape(settings.architecture, settings.latent, settings.hidden, settings.channels)
    encoder, decoder = shape.coders()
    term = None if critic is None or not settings.needs_critic else perceptual(critic, x)
    read_out = perceptron([settings.latent, int(y.max()) + 1])
    for module in (encoder, decoder, read_out):
        seeded(module, generator)

    batches = count(0)
    plain = settings.plain_share * settings.epochs * (len(x) // min(settings.batch, len(x)))

    def loss_of(rows: Tensor) -> Tensor:
        codes = encoder(x[rows])
        # Batch-normalised, so that the noise has a scale to be small against.
        codes = (codes - codes.mean(dim=0)) / (codes.std(dim=0) + 1e-6)
        codes = codes + settings.latent_noise * torch.randn(codes.shape, generator=generator)
        shown = decoder(codes)
        loss = nn.functional.mse_loss(shown, x[rows])
        loss = loss + settings.label_weight * nn.functional.cross_entropy(read_out(codes), y[rows])
        if term is not None and next(batches) >= plain:
            distance, moments = term.terms(shown, rows)
            loss = loss + settings.perceptual_weight * distance + settings.moments_weight * moments
        return loss

    parameters = [p for module in (encoder, decoder, read_out) for p in module.parameters()]
    train_by_epochs(parameters, loss_of, len(x), settings, generator=generator, progress=progress)
    _absorb_scale(encoder, x)
    half_precision(encoder)
    half_precision(decoder)
    codes = in_chunks(encoder, x).double().numpy()
    covariance = np.cov(codes.T).reshape((settings.latent,) * 2)
    return Autoencoder(encoder, decoder, codes.mean(axis=0), covariance, shape)


def save_autoencoder(
    autoencoder: Autoencoder, path: Path | str, card: dict[str, Any], *, overwrite: bool = False
) -> dict[str, Any]:
    """Write `path` (.safetensors) and its card; returns the card with kind, sizes and sha256 filled in."""
    tensors = {
        **{f"encoder.{k}": v for k, v in half_precision(autoencoder.encoder).items()},
        **{f"decoder.{k}": v for k, v in half_precision(autoencoder.decoder).items()},
        "latent_mean": autoencoder.mean,
        "latent_covariance": autoencoder.covariance,
    }
    shape = autoencoder.shape
    sizes = {"latent": shape.latent, "hidden": list(shape.hidden)}
    if shape.architecture == "convolutional":
        sizes |= {"architecture": shape.architecture, "channels": shape.channels}
    content = {"format_version": 1, "kind": KIND, **sizes, **card}
    return write_tensors(path, tensors, content, overwrite=overwrite)


def load_autoencoder(name_or_path: Path | str) -> tuple[Autoencoder, dict[str, Any]]:
    """A shipped autoencoder by name, or one by path, with its card. Raises CheckpointError for any misfit."""
    path = find_checkpoint(name_or_path)
    tensors, card = read_tensors(path)
    if card.get("kind") != KIND:
        raise CheckpointError(f"{path}: the card's kind is {card.get('kind')!r}, wanted {KIND!r}")
    shape = _shape_on(card, str(path))
    latent = shape.latent
    statistics = {}
    for name, wanted in (("latent_mean", (latent,)), ("latent_covariance", (latent, latent))):
        value = tensors.pop(name, None)
        if value is None or value.shape != wanted or not np.isfinite(value).all():
            raise CheckpointError(f"{path}: tensor {name} must be finite and of shape {wanted}")
        statistics[name] = value.astype(np.float64)
    if np.linalg.eigvalsh(statistics["latent_covariance"])[0] <= 0:
        raise CheckpointError(f"{path}: tensor latent_covariance is not positive definite")
    encoder, decoder = shape.coders()
    for module, prefix in ((encoder, "encoder."), (decoder, "decoder.")):
        own = {
            name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)
        }
        restore(module, own, f"{path}: {prefix}*")
    if tensors:
        raise CheckpointError(f"{path}: tensors the card does not account for: {', '.join(sorted(tensors))}")
    mean, covariance = statistics["latent_mean"], statistics["latent_covariance"]
    return Autoencoder(encoder, decoder, mean, covariance, shape), card


def _shape_on(card: dict[str, Any], where: str) -> Shape:
    """The sizes on a card; a card without an architecture is a perceptron's."""
    latent, hidden, channels = card.get("latent"), card.get("hidden"), card.get("channels", 2)
    architecture = card.get("architecture", "perceptron")
    if architecture not in get_args(Architecture):
        allowed = ", ".join(get_args(Architecture))
        raise CheckpointError(f"{where}: the card's architecture {architecture!r}; allowed: {allowed}")
    if (
        not isinstance(latent, int)
        or not isinstance(hidden, list)
        or not all(isinstance(size, int) and size > 0 for size in [latent, channels, *hidden])
        or channels % 2
    ):
        raise CheckpointError(
            f"{where}: the card's latent {latent!r}, hidden {hidden!r}, channels {channels!r} are not sizes"
        )
    return Shape(architecture, latent, tuple(hidden), channels)


def _absorb_scale(encoder: nn.Sequential, x: Tensor) -> None:
    """Fold the normalisation of the codes, now over all pictures, into the encoder's last layer."""
    codes = in_chunks(encoder, x)
    mean, std = codes.mean(dim=0), codes.std(dim=0)
    last = encoder[-1]
    if isinstance(last, nn.Linear):
        with torch.no_grad():
            last.weight.div_(std[:, None])
            last.bias.sub_(mean).div_(std)
