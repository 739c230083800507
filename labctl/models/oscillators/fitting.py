"""The training loop of everything that turns noise into pixels: oscillators and the controls beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labctl.devices.errors import ConfigError
from labctl.models.oscillators.critic import CriticGame
from labctl.models.oscillators.generator import TrainableGenerator
from labctl.models.oscillators.objectives import (
    Objective,
    energy,
    energy_within,
    median_distance,
    mmd,
    mmd_within,
    sliced_wasserstein,
    unit_directions,
)
from labctl.models.oscillators.pixel_model import PixelModel
from labctl.models.oscillators.settings import CodedTraining, Descent, GeneratorTraining
from labctl.models.pictures import Pictures
from labctl.models.training import Progress, ProgressCallback, learning_rate

_REPORT_EVERY = 50


@dataclass(frozen=True)
class Fitted:
    """Mean objective [blocks] of each 50 iterations, and how many steps were skipped as not finite."""

    losses: NDArray[np.float64]
    skipped: int


def fit(
    model: PixelModel,
    pictures: Pictures,
    settings: GeneratorTraining,
    *,
    seed: int = 0,
    stage: str = "train",
    progress: ProgressCallback | None = None,
) -> Fitted:
    """Train `model` in place on real pictures [N, side, side].

    Equal seeds give equal bits on the same build and thread count. Raises ConfigError where the device is
    not here, where the pictures are fewer than a batch, and where training keeps giving values that are not
    finite.
    """
    _check(settings, len(pictures))
    device = settings.device
    real = torch.as_tensor(pictures.reshape(len(pictures), -1)).to(device)
    model.to(device)
    draw = torch.Generator().manual_seed(seed)
    free = [p for p in model.parameters() if p.requires_grad]
    game = None
    if settings.objective == "wgan":
        game = CriticGame(real.shape[1], settings.critic, draw, device)
    rows_of = _Rows(real, draw)
    objective = _objective(settings, real, draw)

    def loss_of(step: int) -> tuple[float, Tensor]:
        if game is None:
            made = model.pixels(settings.batch, draw, settings.errors, step)
            loss = objective(made, rows_of.next(settings.data_batch))
            return float(loss.detach()), loss
        value = _critic_round(game, model, rows_of, settings, draw, step)
        return value, game.loss(model.pixels(settings.batch, draw, settings.errors, step))

    found = descend(free, loss_of, settings, stage=stage, progress=progress, told=model.progress_to)
    model.to("cpu")
    return found


def descend(
    free: Sequence[Tensor],
    loss_of: Callable[[int], tuple[float, Tensor]],
    settings: Descent,
    *,
    stage: str,
    progress: ProgressCallback | None = None,
    told: Callable[[float], None] | None = None,
) -> Fitted:
    """Lower `loss_of(step)` (the figure to report, and what is differentiated) in the numbers `free`.

    told(share): before each step, which share (0..1] of the training it ends. Raises ConfigError where
    values keep being not finite.
    """
    adam = torch.optim.Adam(
        free, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), foreach=True
    )
    schedule = settings.schedule()
    history: list[float] = []
    block: list[float] = []
    skipped = in_a_row = 0
    for step in range(settings.iterations):
        if told is not None:
            told((step + 1) / settings.iterations)
        for group in adam.param_groups:
            group["lr"] = learning_rate(schedule, step)
        adam.zero_grad(set_to_none=True)
        value, loss = loss_of(step)
        torch.autograd.backward(loss)
        norm = float(nn.utils.clip_grad_norm_(free, settings.clip_norm))
        if np.isfinite(value) and np.isfinite(norm):
            adam.step()
            in_a_row = 0
            block.append(value)
        else:
            skipped, in_a_row = skipped + 1, in_a_row + 1
            if in_a_row > settings.skips:
                raise _diverged(stage, step, value, norm, settings)
        if (step + 1) % _REPORT_EVERY == 0 or step == settings.iterations - 1:
            history.append(float(np.mean(block)) if block else float("nan"))
            block = []
            if progress is not None:
                progress(Progress(step + 1, settings.iterations, (history[-1],), stage))
    return Fitted(np.array(history), skipped)


def fit_codes(
    model: TrainableGenerator,
    pictures: Pictures,
    bits: int,
    settings: GeneratorTraining,
    how: CodedTraining,
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Fitted:
    """Go on training a float generator towards codes of `bits` bits; in place."""
    model.use_codes(bits, anneal_share=how.anneal_share)
    return fit(
        model,
        pictures,
        how.training(settings),
        seed=seed,
        stage=f"codes of {bits} bit",
        progress=progress,
    )


class _Rows:
    """Real pictures in batches: shuffled anew whenever all have been seen; 0 asks for all of them."""

    def __init__(self, real: Tensor, draw: torch.Generator) -> None:
        self._real, self._draw = real, draw
        self._order = torch.empty(0, dtype=torch.int64)

    def next(self, count: int) -> Tensor:
        if count == 0:
            return self._real
        if len(self._order) < count:
            self._order = torch.randperm(len(self._real), generator=self._draw)
        rows, self._order = self._order[:count], self._order[count:]
        return self._real[rows.to(self._real.device)]


def _objective(settings: GeneratorTraining, real: Tensor, draw: torch.Generator) -> Objective:
    if settings.objective == "mmd":
        median = median_distance(real)
        scales = [width * median for width in settings.widths]
        within = mmd_within(real, scales) if settings.data_batch == 0 else None
        return lambda x, y: mmd(x, y, scales, within)
    if settings.objective == "sliced":
        dim = real.shape[1]
        return lambda x, y: sliced_wasserstein(
            x, y, unit_directions(dim, settings.projections, draw).to(x.device)
        )
    within = energy_within(real) if settings.data_batch == 0 else None
    return lambda x, y: energy(x, y, within)


def _critic_round(
    game: CriticGame,
    model: PixelModel,
    rows_of: _Rows,
    settings: GeneratorTraining,
    draw: torch.Generator,
    step: int,
) -> float:
    """The critic's updates before one of the generator; returns the last Wasserstein estimate."""
    gap = float("nan")
    for _ in range(settings.critic.updates):
        with torch.no_grad():
            made = model.pixels(settings.batch, draw, settings.errors, step)
        if not bool(torch.isfinite(made).all()):
            return float("nan")  # a critic that has seen NaN would be lost; the generator's step is skipped
        gap = game.update(rows_of.next(settings.batch), made)
    return gap


def _check(settings: GeneratorTraining, count: int) -> None:
    needed = settings.batch if settings.objective in ("sliced", "wgan") else 2
    needed = max(needed, settings.data_batch)
    if count < needed:
        raise ConfigError(f"train.data_batch: {needed} pictures a batch; allowed: {count}, all there are")
    if settings.objective == "sliced" and settings.data_batch != settings.batch:
        raise ConfigError(
            f"train.data_batch = {settings.data_batch}: allowed: {settings.batch} (as train.batch) for the "
            "sliced distance"
        )
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device = 'cuda': no such device here; allowed: 'cpu'")


def _diverged(stage: str, step: int, value: float, norm: float, settings: Descent) -> ConfigError:
    return ConfigError(
        f"{stage}: step {step}: objective {value:g}, gradient norm {norm:g}, not finite "
        f"{settings.skips + 1} steps in a row; lower train.learning_rate ({settings.learning_rate:g}), "
        f"train.clip_norm ({settings.clip_norm:g}) or shape.step_bound, or take more shape.steps"
    )
