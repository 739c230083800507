"""Conventional training: denoising at random noise levels. Nothing here knows about a machine.

The residual is that of the raw network F (weight 1 / c_out^2 on D), so that the objectives differ in their
preconditioning and their law of sigma alone: "edm" is Karras et al. 2022, "flow" is flow matching (Lipman et
al. 2023: F is minus the velocity), "vp" predicts the noise. Several seeds train side by side as replicas;
each has its own data, noise and gradient clip, and so does not see the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from labctl.models.datasets import DataSource
from labctl.models.network import RowTableNetwork
from labctl.sampling.parametrisation import Kind, Preconditioning

_BLOCK = 50  # iterations whose data are drawn at once


class TrainSettings(BaseModel):
    """All that decides a training, apart from the data and the seed.

    A batch is `sigma_levels` noise levels, stratified over their law, with `samples_per_level` samples each.
    sigma is log-normal (`sigma_law` "lognormal", `log_mean` and `log_std` of ln sigma), or that of a uniform
    flow-matching time ("uniform-t"), or uniform in ln sigma ("loguniform"); always cut to
    [sigma_low, sigma_high]. "auto" is uniform-t for the flow objective and lognormal otherwise.
    `ema_share` is the length of the parameters' running average as a share of the training so far.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: tuple[int, ...] = Field(default=(23, 23), min_length=1)
    objective: Kind = "edm"
    iterations: int = Field(default=12_000, ge=1)
    sigma_levels: int = Field(default=64, ge=1)
    samples_per_level: int = Field(default=32, ge=1)
    sigma_law: Literal["auto", "lognormal", "uniform-t", "loguniform"] = "auto"
    log_mean: float = -1.2
    log_std: float = Field(default=1.4, gt=0)
    sigma_low: float = Field(default=0.005, gt=0)
    sigma_high: float = Field(default=20.0, gt=0)
    learning_rate: float = Field(default=1e-2, gt=0)
    final_learning_rate: float = Field(default=1e-5, ge=0)
    warmup: int = Field(default=200, ge=0)
    adam_beta2: float = Field(default=0.99, gt=0, lt=1)
    ema_share: float = Field(default=0.1, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0)
    width: int = Field(default=64, ge=1)
    harmonics: int = Field(default=4, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.sigma_low < self.sigma_high:
            raise ValueError(f"sigma_low {self.sigma_low} must be below sigma_high {self.sigma_high}")
        return self

    def preconditioning(self) -> Preconditioning:
        """The preconditioning of this objective, for data of standard deviation 1."""
        return Preconditioning(self.objective)


@dataclass(frozen=True)
class Progress:
    """What a progress callback is told: iterations done of total, mean loss per replica of the last block."""

    done: int
    total: int
    loss: tuple[float, ...]
    stage: str = "train"


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True)
class Trained:
    """The averaged network (one replica per seed) and the mean loss [blocks, R] along the way."""

    network: RowTableNetwork
    losses: np.ndarray[tuple[int, int], np.dtype[np.float64]]


def train(
    source: DataSource,
    settings: TrainSettings | None = None,
    *,
    seeds: Sequence[int] = (0,),
    progress: ProgressCallback | None = None,
) -> Trained:
    """Train one network per seed on `source`.

    Bit-equal from run to run on the same build and thread count with the same `seeds`; a seed trained beside
    others agrees with the same seed alone up to rounding. Reports to `progress` every 50 iterations; an
    exception raised there ends the training.
    """
    settings = settings or TrainSettings()
    network = RowTableNetwork(
        (source.dim, *settings.hidden),
        seeds=seeds,
        n_classes=source.n_classes,
        preconditioning=settings.preconditioning(),
        width=settings.width,
        harmonics=settings.harmonics,
    )
    losses = optimise(network, source, settings, seeds=seeds, progress=progress)
    return Trained(network, losses)


def optimise(
    network: RowTableNetwork,
    source: DataSource,
    settings: TrainSettings,
    *,
    seeds: Sequence[int],
    teacher: RowTableNetwork | None = None,
    progress: ProgressCallback | None = None,
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Train the parameters that `network` has, in place, and leave their running average in it.

    With frozen codes those are the row functions alone. With a `teacher` of as many replicas the target is
    its F at the noised data, not the data themselves. Returns the mean loss [blocks, R].
    """
    if len(seeds) != network.n_replicas:
        raise ValueError(f"{len(seeds)} seeds for {network.n_replicas} replicas")
    parameters = list(network.parameters())
    adam = torch.optim.Adam(
        parameters, lr=settings.learning_rate, betas=(0.9, settings.adam_beta2), foreach=True
    )
    average = [p.detach().clone() for p in parameters]
    batches = [_Batches(source, settings, seed) for seed in seeds]
    history: list[list[float]] = []
    block_loss = torch.zeros(network.n_replicas)
    block: list[_Block] = []
    for step in range(settings.iterations):
        at = step % _BLOCK
        if at == 0:
            block = [b.next_block() for b in batches]
        x0, noise, sigma, labels = _stack(block, at)
        for group in adam.param_groups:
            group["lr"] = learning_rate(settings, step)
        if teacher is None:
            residual = network.residual_groups(x0, noise, sigma, labels)
        else:
            x = x0 + sigma[..., None, None] * noise
            with torch.no_grad():
                target = teacher.raw_groups(x, sigma, labels)
            residual = network.raw_groups(x, sigma, labels) - target
        loss = residual.square().mean(dim=(1, 2, 3))
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.sum())
        _clip(parameters, settings.clip_norm)
        adam.step()
        _average(average, parameters, settings.ema_share, step)
        block_loss += loss.detach()
        if at == _BLOCK - 1 or step == settings.iterations - 1:
            history.append((block_loss / (at + 1)).tolist())
            block_loss.zero_()
            if progress is not None:
                progress(Progress(step + 1, settings.iterations, tuple(history[-1])))
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
    return np.array(history)


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Linear warm-up, then a half cosine down to the final rate."""
    rate, last = settings.learning_rate, settings.final_learning_rate
    if step < settings.warmup:
        return rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.iterations - settings.warmup)
    return last + 0.5 * (rate - last) * (1.0 + math.cos(math.pi * done))


def _clip(parameters: list[torch.nn.Parameter], limit: float) -> None:
    """Scale the gradient of each replica to a norm of at most `limit`: replicas must not feel each other."""
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([g.flatten(1).square().sum(dim=1) for g in grads]).sum(dim=0).sqrt()
    factor = (limit / (norm + 1e-12)).clamp(max=1.0)
    for g in grads:
        g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))


def _average(average: list[Tensor], parameters: list[torch.nn.Parameter], share: float, step: int) -> None:
    """Running mean over about the last `share` of the steps so far (no start-up bias)."""
    weight = 1.0 if share == 0 else min(1.0, 1.0 / (share * (step + 1)))
    torch._foreach_lerp_(average, [p.detach() for p in parameters], weight)


@dataclass(frozen=True)
class _Block:
    """The draws of one replica for a block of iterations: [K, S, M, d], the same, [K, S], [K, S, M]."""

    x0: Tensor
    noise: Tensor
    sigma: Tensor
    labels: Tensor | None


class _Batches:
    """The endless draws of one seed. A Philox stream per seed: what one replica gets, no other changes."""

    def __init__(self, source: DataSource, settings: TrainSettings, seed: int) -> None:
        self._source, self._settings = source, settings
        self._rng = np.random.Generator(np.random.Philox(key=int(seed) + 1))
        self._torch = torch.Generator().manual_seed(int(seed) + 1)

    def next_block(self) -> _Block:
        s = self._settings
        shape = (_BLOCK, s.sigma_levels, s.samples_per_level)
        points, labels = self._source.draw(math.prod(shape), self._rng)
        x0 = torch.as_tensor(points, dtype=torch.float32).reshape(*shape, -1)
        noise = torch.randn(x0.shape, generator=self._torch)
        # Stratified: one level in each of S equally likely slices of the law.
        quantile = (np.arange(s.sigma_levels) + self._rng.random(shape[:2])) / s.sigma_levels
        sigma = torch.as_tensor(sigma_quantile(s, quantile), dtype=torch.float32)
        chosen = None if labels is None else torch.as_tensor(labels).reshape(shape)
        return _Block(x0, noise, sigma, chosen)


def _stack(block: list[_Block], at: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    labels = [b.labels[at] for b in block if b.labels is not None]
    return (
        torch.stack([b.x0[at] for b in block]),
        torch.stack([b.noise[at] for b in block]),
        torch.stack([b.sigma[at] for b in block]),
        torch.stack(labels) if labels else None,
    )


def sigma_quantile(
    settings: TrainSettings, quantile: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The noise level below which lies the share `quantile` (0..1) of the settings' law, cut at both ends."""
    law = settings.sigma_law
    if law == "auto":
        law = "uniform-t" if settings.objective == "flow" else "lognormal"
    low, high = settings.sigma_low, settings.sigma_high
    if law == "loguniform":
        return np.asarray(low * (high / low) ** quantile)
    if law == "uniform-t":
        t_low, t_high = low / (1 + low), high / (1 + high)
        t = t_low + (t_high - t_low) * quantile
        return np.asarray(t / (1 - t))
    from scipy.special import ndtr, ndtri

    z_low, z_high = ((math.log(v) - settings.log_mean) / settings.log_std for v in (low, high))
    share = ndtr(z_low) + (ndtr(z_high) - ndtr(z_low)) * quantile
    return np.asarray(np.exp(settings.log_mean + settings.log_std * ndtri(share)))
