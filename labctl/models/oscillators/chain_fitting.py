"""Training of a chain of equilibria: every level on noisy pictures and what they are one level later.

The pair is x_t = alpha_t x0 + sigma_t eps and x_s = alpha_s x0 + sigma_s eps with the same x0 and eps. The
mean square error makes a level the mean of x_s given x_t, which is DDIM's step: the oscillators do all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from labctl.devices.errors import ConfigError
from labctl.models.oscillators.board_law import with_errors
from labctl.models.oscillators.diffuser import TrainableDiffuser, signed
from labctl.models.oscillators.fitting import Fitted, descend
from labctl.models.oscillators.objectives import median_distance, mmd, mmd_within
from labctl.models.oscillators.settings import BoardErrors, ChainTuning, CodedTraining, DiffuserTraining
from labctl.models.pictures import Pictures
from labctl.models.training import ProgressCallback
from labctl.physics.oscillators import Gradient, OscillatorLaw, settle
from labctl.programs.pixel_maps import RAD_PER_PIXEL
from labctl.sampling import alpha_of, cosine_levels


def fit_chain(
    model: TrainableDiffuser,
    pictures: Pictures,
    settings: DiffuserTraining,
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Fitted:
    """Train the levels, then `settings.tuning` iterations through the whole chain; in place.

    The losses are those of the last.
    """
    found = fit_levels(model, pictures, settings, seed=seed, progress=progress)
    if not settings.tuning.iterations:
        return found
    tuned = tune_chain(model, pictures, settings, settings.tuning, seed=seed, progress=progress)
    return Fitted(tuned.losses, found.skipped + tuned.skipped)


def fit_levels(
    model: TrainableDiffuser,
    pictures: Pictures,
    settings: DiffuserTraining,
    *,
    seed: int = 0,
    stage: str = "level",
    progress: ProgressCallback | None = None,
) -> Fitted:
    """Train `model` in place on pairs from pictures [N, side, side], level after level, or all if shared.

    Equal seeds give equal bits on the same build and thread count. Raises ConfigError where training keeps
    giving values that are not finite.
    """
    if len(pictures) < 2:
        raise ConfigError(f"pictures: {len(pictures)}; allowed: 2 or more")
    x0 = torch.as_tensor(signed(pictures).astype(np.float32))
    draw = torch.Generator().manual_seed(seed)

    def lowered(levels: Sequence[int], how: DiffuserTraining, stage: str) -> Fitted:
        """These levels together, a step each in turn."""

        def loss_of(number: int) -> tuple[float, Tensor]:
            loss = level_loss(model, x0, levels[number % len(levels)], settings, draw)
            return float(loss.detach()), loss

        free = model.of_levels(levels)
        return descend(free, loss_of, how, stage=stage, progress=progress, told=model.progress_to)

    levels = range(model.shape.levels)
    if model.shape.shared:
        whole = settings.model_copy(update={"iterations": settings.iterations * len(levels)})
        return lowered(levels, whole, stage)
    found = [lowered([level], settings, f"{stage} {level + 1} of {len(levels)}") for level in levels]
    return Fitted(np.stack([one.losses for one in found]), sum(one.skipped for one in found))


def tune_chain(
    model: TrainableDiffuser,
    pictures: Pictures,
    settings: DiffuserTraining,
    how: ChainTuning,
    *,
    seed: int = 0,
    stage: str = "chain",
    progress: ProgressCallback | None = None,
) -> Fitted:
    """Train all levels together on the MMD between what the chain makes of noise and real pictures.

    In place; pixels beyond 0..1 count as they are. Raises ConfigError as `fit_chain`.
    """
    real = torch.as_tensor(pictures.reshape(len(pictures), -1))
    scales = [width * median_distance(real) for width in how.widths]
    within = mmd_within(real, scales)
    draw = torch.Generator().manual_seed(seed)
    levels = range(model.shape.levels)

    def loss_of(number: int) -> tuple[float, Tensor]:
        x = torch.randn(how.batch, real.shape[1], generator=draw)
        board = int(torch.randint(2**31, (1,), generator=draw))
        for level in levels:
            law, strength = model.values(level)
            law = with_errors(law, settings.errors, torch.Generator().manual_seed(board))
            x = step(model, law, strength, x, gradient=settings.gradient)
        loss = mmd((x + 1.0) / 2.0, real, scales, within)
        return float(loss.detach()), loss

    free = model.of_levels(levels)
    return descend(free, loss_of, how, stage=stage, progress=progress, told=model.progress_to)


def fit_chain_codes(
    model: TrainableDiffuser,
    pictures: Pictures,
    bits: int,
    settings: DiffuserTraining,
    how: CodedTraining,
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Fitted:
    """Go on training a float chain towards codes of `bits` bits, one scale a segment; in place.

    By the objective that its training ended with: level by level, or through the whole chain.
    """
    model.use_codes(bits, anneal_share=how.anneal_share)
    coded = how.training(settings)
    if settings.tuning.iterations:
        tuning = how.training(settings.tuning)
        return tune_chain(
            model, pictures, coded, tuning, seed=seed, stage=f"{bits} bit, chain", progress=progress
        )
    return fit_levels(
        model,
        pictures,
        coded,
        seed=seed,
        stage=f"{bits} bit, level",
        progress=progress,
    )


def level_loss(
    model: TrainableDiffuser, x0: Tensor, level: int, settings: DiffuserTraining, draw: torch.Generator
) -> Tensor:
    """Mean square error of x_s at a level, for `batch` fresh pairs of pictures x0 [N, P] and noise."""
    rows = torch.randint(len(x0), (settings.batch,), generator=draw)
    eps = torch.randn(settings.batch, x0.shape[1], generator=draw)
    noisy, wanted = pair(model, level, x0[rows], eps)
    law, strength = model.values(level)
    made = step(model, with_errors(law, settings.errors, draw), strength, noisy, gradient=settings.gradient)
    return (made - wanted).square().mean()


def pair(model: TrainableDiffuser, level: int, x0: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, x_s) [B, P] of a level, variance-preserving, for clean pictures and their noise [B, P]."""
    sigmas = cosine_levels(model.shape.levels, model.shape.sigma_max)[level : level + 2]
    before, after = (alpha_of(float(s)) * (x0 + float(s) * eps) for s in sigmas)
    return before, after


def step(
    model: TrainableDiffuser,
    law: OscillatorLaw,
    strength: Tensor,
    x: Tensor,
    *,
    gradient: Gradient = "unrolled",
) -> Tensor:
    """What oscillators released at their anchors, x [B, P], come to rest at, as a picture [B, P]."""
    shape, visible, hidden = model.shape, x.shape[1], model.topology.n - x.shape[1]
    phase = RAD_PER_PIXEL * x
    held = torch.nn.functional.pad(strength, (0, hidden)).expand(len(x), -1)
    start = torch.nn.functional.pad(phase, (0, hidden))
    rest = settle(
        model.edges,
        law,
        start,
        duration=shape.duration,
        steps=shape.steps,
        inject=(held * torch.sin(start), held * torch.cos(start)),
        gradient=gradient,
    )
    return rest[:, :visible] / RAD_PER_PIXEL


def level_errors(
    model: TrainableDiffuser, pictures: Pictures, *, errors: BoardErrors | None = None, seed: int = 0
) -> list[float]:
    """Mean square error of each level on pictures that it may not have seen, one noise each."""
    x0 = torch.as_tensor(signed(pictures).astype(np.float32))
    draw = torch.Generator().manual_seed(seed)
    eps = torch.randn(x0.shape, generator=draw)
    found = []
    with torch.no_grad():
        for level in range(model.shape.levels):
            law, strength = model.values(level)
            law = law if errors is None else with_errors(law, errors, draw)
            noisy, wanted = pair(model, level, x0, eps)
            found.append(float((step(model, law, strength, noisy) - wanted).square().mean()))
    return found
