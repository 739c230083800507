"""What stands beside every generator of oscillators, trained with the same objective, data and budget.

A perceptron with as many parameters; the same oscillators with dynamics left as drawn (only the start
trains); plain oscillators, one segment and none hidden. The Gaussian of pixels and k-means are in
`labctl.models.pixel_controls`.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from labctl.devices.errors import ConfigError
from labctl.models.coders import perceptron
from labctl.models.oscillators.generator import TrainableGenerator
from labctl.models.oscillators.pixel_model import PixelModel
from labctl.models.oscillators.settings import BoardErrors, OscillatorShape
from labctl.models.pictures import Pictures, seeded

ControlName = Literal["perceptron", "frozen", "plain"]
CONTROL_WORDS: dict[ControlName, str] = {
    "perceptron": "perceptron, as many parameters",
    "frozen": "frozen random dynamics",
    "plain": "plain oscillators (one segment, none hidden)",
}


class PerceptronGenerator(PixelModel):
    """Two hidden layers of one width from `noise` normals to pixels, with at most `parameters` parameters."""

    def __init__(self, side: int, noise: int, parameters: int, *, seed: int = 0) -> None:
        super().__init__()
        self.side, self.noise = side, noise
        pixels = side * side
        # width w: w^2 + (noise + pixels + 2) w + pixels parameters, at most those allowed
        half = 0.5 * (noise + pixels + 2)
        width = int(math.sqrt(half**2 + max(0, parameters - pixels)) - half)
        if width < 1:
            raise ConfigError(f"parameters: {parameters}; allowed: {2 * pixels + noise + 3} or more")
        self.layers = perceptron([noise, width, width, pixels])
        seeded(self.layers, torch.Generator().manual_seed(seed))

    @property
    def n_parameters(self) -> int:
        """Weights and biases."""
        return sum(p.numel() for p in self.parameters())

    def pixels(self, count: int, draw: torch.Generator, errors: BoardErrors, step: int) -> Tensor:
        """Pixels [count, side^2]; a digital control has no board, so that `errors` do nothing."""
        x = torch.randn(count, self.noise, generator=draw).to(next(self.parameters()).device)
        return torch.sigmoid(self.layers(x))

    def generate(self, count: int, *, seed: int = 0) -> Pictures:
        """Pictures [count, side, side]."""
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            made = self.pixels(count, draw, BoardErrors(), 0)
        return np.asarray(made.numpy()).reshape(count, self.side, self.side)


def control(
    name: ControlName, side: int, shape: OscillatorShape, parameters: int, *, seed: int = 0
) -> PerceptronGenerator | TrainableGenerator:
    """The untrained control `name` of a generator of that shape with so many parameters."""
    if name == "perceptron":
        return PerceptronGenerator(side, side * side, parameters, seed=seed)
    if name == "frozen":
        return TrainableGenerator(side, shape, seed=seed, frozen=True)
    if name == "plain":
        return TrainableGenerator(side, plain_shape(shape), seed=seed)
    raise ConfigError(f"control {name!r}; allowed: {', '.join(get_args(ControlName))}")


def plain_shape(shape: OscillatorShape) -> OscillatorShape:
    """The same without what is meant to help: one segment as long as all, no hidden oscillators."""
    return shape.model_copy(update={"segments": 1, "hidden_share": 0.0})
