"""What the training loop trains: anything that turns noise into pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from labctl.models.oscillators.settings import BoardErrors


class PixelModel(nn.Module, ABC):
    """A module that makes pixels [count, P] in 0..1 from noise of `draw`, on a board with `errors`."""

    @abstractmethod
    def pixels(self, count: int, draw: torch.Generator, errors: BoardErrors, step: int) -> Tensor:
        """Differentiable in the module's parameters; `step` numbers the batch."""

    def progress_to(self, share: float) -> None:
        """Told before each step which share (0..1] of the training it ends."""
