"""The layers of autoencoders: rows of 784 pixels to codes and back, perceptrons or convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from labctl.models.pictures import PIXELS, SIDE

Architecture = Literal["perceptron", "convolutional"]
_QUARTER = SIDE // 4


def coders(
    architecture: Architecture, latent: int, hidden: Sequence[int], channels: int
) -> tuple[nn.Sequential, nn.Sequential]:
    """(encoder, decoder) of this kind with undrawn weights.

    Convolutions: 28 x 28 to 14 (`channels`) to 7 (twice as many), then full layers of `hidden`; the decoder
    the same way back, each doubling of the side a convolution to four times the channels, spread out.
    """
    with torch.random.fork_rng(devices=[]):  # torch draws initial weights that nobody here will use
        if architecture == "perceptron":
            inwards = [PIXELS, *hidden, latent]
            encoder, decoder = perceptron(inwards), perceptron(inwards[::-1])
            decoder.append(nn.Sigmoid())
            return encoder, decoder
        wide = 2 * channels
        sizes = [wide * _QUARTER**2, *hidden, latent]
        encoder = nn.Sequential(
            nn.Unflatten(1, (1, SIDE, SIDE)),
            nn.Conv2d(1, channels, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, wide, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            *perceptron(sizes),
        )
        decoder = nn.Sequential(
            *perceptron(sizes[::-1]),
            nn.ReLU(),
            nn.Unflatten(1, (wide, _QUARTER, _QUARTER)),
            nn.Conv2d(wide, 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),
            nn.ReLU(),
            nn.Conv2d(channels, wide, 3, padding=1),
            nn.PixelShuffle(2),
            nn.ReLU(),
            nn.Conv2d(channels // 2, 1, 3, padding=1),
            nn.Flatten(),
            nn.Sigmoid(),
        )
        return encoder, decoder


def perceptron(sizes: Sequence[int]) -> nn.Sequential:
    """Full layers of these sizes with GELU between them; weights undrawn."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
    return nn.Sequential(*layers[:-1])
