"""Pictures to twelve numbers and back, so that pictures fit a machine of 48 variables.

The latents are whitened: over the training pictures they have mean 0 and covariance 1, which is what the
denoiser and the machine's ranges expect. Two things in the training serve the generator that comes after.
The decoder sees latents with a little noise, because a sampler ends at a small noise level, not at none; and
a linear read-out of the class from the latents keeps apart garments that differ little in their pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
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

FloatArray = NDArray[np.float64]


class AutoencoderSettings(EpochSettings):
    """All that decides a training, apart from the pictures and the seed.

    `latent_noise` is the standard deviation of the noise on the latents, `label_weight` the weight of the
    read-out's cross-entropy (nats) beside the mean squared error of a pixel.
    """

    latent: int = Field(default=12, ge=1)
    hidden: tuple[int, ...] = Field(default=(512, 256), min_length=1)
    latent_noise: float = Field(default=0.05, ge=0)
    label_weight: float = Field(default=0.005, ge=0)


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """A trained encoder and decoder with the mean [L] and covariance [L, L] of the codes between them.

    latents = C^-1 (code - mean) with C C^T = covariance (Cholesky).
    """

    encoder: nn.Sequential
    decoder: nn.Sequential
    mean: FloatArray
    covariance: FloatArray

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
        """Whitened latents [B, L] to pictures float32 [B, 28, 28] in 0..1; DataError if malformed."""
        given = np.asarray(latents, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != self.latent:
            raise DataError(f"latents: shape {given.shape}; allowed: [B, {self.latent}]")
        if not np.isfinite(given).all():
            row = int(np.flatnonzero(~np.isfinite(given).all(axis=1))[0])
            raise DataError(f"latents: row {row} is not finite; allowed: finite numbers")
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
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Autoencoder:
    """Train on pictures [N, 28, 28] with labels [N]; parameters come back rounded to float16.

    Equal seeds give equal bits on the same build and thread count. Raises DataError for malformed data.
    """
    settings = settings or AutoencoderSettings()
    x = torch.as_tensor(as_pictures(pictures)).reshape(-1, PIXELS)
    if len(x) <= settings.latent:
        raise DataError(f"pictures: {len(x)}; allowed: more than the {settings.latent} latent variables")
    y = torch.as_tensor(as_labels(labels, len(x), 256))
    generator = torch.Generator().manual_seed(seed)
    encoder, decoder = _coders(settings.latent, settings.hidden)
    read_out = _perceptron([settings.latent, int(y.max()) + 1])
    for module in (encoder, decoder, read_out):
        seeded(module, generator)

    def loss_of(rows: Tensor) -> Tensor:
        codes = encoder(x[rows])
        # Batch-normalised, so that the noise has a scale to be small against.
        codes = (codes - codes.mean(dim=0)) / (codes.std(dim=0) + 1e-6)
        codes = codes + settings.latent_noise * torch.randn(codes.shape, generator=generator)
        error = nn.functional.mse_loss(decoder(codes), x[rows])
        return error + settings.label_weight * nn.functional.cross_entropy(read_out(codes), y[rows])

    parameters = [p for module in (encoder, decoder, read_out) for p in module.parameters()]
    train_by_epochs(parameters, loss_of, len(x), settings, generator=generator, progress=progress)
    _absorb_scale(encoder, x)
    half_precision(encoder)
    half_precision(decoder)
    codes = in_chunks(encoder, x).double().numpy()
    return Autoencoder(encoder, decoder, codes.mean(axis=0), np.cov(codes.T).reshape((settings.latent,) * 2))


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
    hidden = [layer.out_features for layer in autoencoder.encoder if isinstance(layer, nn.Linear)][:-1]
    content = {"format_version": 1, "kind": KIND, "latent": autoencoder.latent, "hidden": hidden, **card}
    return write_tensors(path, tensors, content, overwrite=overwrite)


def load_autoencoder(name_or_path: Path | str) -> tuple[Autoencoder, dict[str, Any]]:
    """A shipped autoencoder by name, or one by path, with its card. Raises CheckpointError for any misfit."""
    path = find_checkpoint(name_or_path)
    tensors, card = read_tensors(path)
    if card.get("kind") != KIND:
        raise CheckpointError(f"{path}: the card's kind is {card.get('kind')!r}, wanted {KIND!r}")
    latent, hidden = card.get("latent"), card.get("hidden")
    if (
        not isinstance(latent, int)
        or not isinstance(hidden, list)
        or not all(isinstance(size, int) and size > 0 for size in [latent, *hidden])
    ):
        raise CheckpointError(f"{path}: the card's latent {latent!r} and hidden {hidden!r} are not sizes")
    statistics = {}
    for name, shape in (("latent_mean", (latent,)), ("latent_covariance", (latent, latent))):
        value = tensors.pop(name, None)
        if value is None or value.shape != shape or not np.isfinite(value).all():
            raise CheckpointError(f"{path}: tensor {name} must be finite and of shape {shape}")
        statistics[name] = value.astype(np.float64)
    if np.linalg.eigvalsh(statistics["latent_covariance"])[0] <= 0:
        raise CheckpointError(f"{path}: tensor latent_covariance is not positive definite")
    encoder, decoder = _coders(latent, hidden)
    for module, prefix in ((encoder, "encoder."), (decoder, "decoder.")):
        own = {
            name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)
        }
        restore(module, own, f"{path}: {prefix}*")
    if tensors:
        raise CheckpointError(f"{path}: tensors the card does not account for: {', '.join(sorted(tensors))}")
    return Autoencoder(encoder, decoder, statistics["latent_mean"], statistics["latent_covariance"]), card


def _coders(latent: int, hidden: list[int] | tuple[int, ...]) -> tuple[nn.Sequential, nn.Sequential]:
    inwards = [PIXELS, *hidden, latent]
    encoder, decoder = _perceptron(inwards), _perceptron(inwards[::-1])
    decoder.append(nn.Sigmoid())
    return encoder, decoder


def _perceptron(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):  # torch draws initial weights that nobody here will use
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _absorb_scale(encoder: nn.Sequential, x: Tensor) -> None:
    """Fold the normalisation of the codes, now over all pictures, into the encoder's last layer."""
    codes = in_chunks(encoder, x)
    mean, std = codes.mean(dim=0), codes.std(dim=0)
    last = encoder[-1]
    if isinstance(last, nn.Linear):
        with torch.no_grad():
            last.weight.div_(std[:, None])
            last.bias.sub_(mean).div_(std)
