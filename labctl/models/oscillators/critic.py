"""The adversarial objective: a Wasserstein critic on pixels with gradient penalty (Gulrajani et al. 2017).

The critic raises E f(real) - E f(made) - penalty E (|grad f| - 1)^2 at points between real and made pictures;
the generator raises E f(made). No batch normalisation: the penalty is one per picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from labctl.models.oscillators.settings import CriticSettings
from labctl.models.pictures import seeded

_SLOPE = 0.2


def make_critic(pixels: int, settings: CriticSettings, draw: torch.Generator) -> nn.Sequential:
    """Full layers from pixels [B, P] to a score [B, 1]; initial weights from `draw`."""
    layers: list[nn.Module] = []
    inputs = pixels
    with torch.random.fork_rng(devices=[]):  # torch draws initial weights that nobody here will use
        for width in settings.widths:
            layers += [nn.Linear(inputs, width), nn.LeakyReLU(_SLOPE)]
            inputs = width
        layers.append(nn.Linear(inputs, 1))
    critic = nn.Sequential(*layers)
    seeded(critic, draw)
    return critic


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor, share: Tensor) -> Tensor:
    """Mean (|grad f| - 1)^2 at share x real + (1 - share) x made [B, P], share [B, 1]; trains f."""
    between = (share * real + (1.0 - share) * made).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    lengths: Tensor = torch.linalg.vector_norm(slope, dim=1)
    return (lengths - 1.0).square().mean()


class CriticGame:
    """A critic and its own training, `updates` of them before each of the generator's."""

    def __init__(self, pixels: int, settings: CriticSettings, draw: torch.Generator, device: str) -> None:
        self.settings = settings
        self.critic = make_critic(pixels, settings, draw).to(device)
        self._draw = draw
        self._adam = torch.optim.Adam(
            self.critic.parameters(),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            foreach=True,
        )

    def update(self, real: Tensor, made: Tensor) -> float:
        """One step of the critic on equally many pictures [B, P]; returns E f(real) - E f(made)."""
        share = torch.rand(len(real), 1, generator=self._draw).to(real.device)
        gap = self.critic(real).mean() - self.critic(made).mean()
        loss = self.settings.penalty * gradient_penalty(self.critic, real, made, share) - gap
        self._adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._adam.step()
        return float(gap.detach())

    def loss(self, made: Tensor) -> Tensor:
        """What the generator lowers: -E f(made)."""
        scores: Tensor = self.critic(made)
        return -scores.mean()
