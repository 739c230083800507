"""Train and judge the controls of a generator of oscillators, and keep them as a file."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np

from labctl.models.checkpoint import provenance
from labctl.models.making import training_facts
from labctl.models.oscillators.checkpoint import GeneratorCard, NetName, check_data, load_generator
from labctl.models.oscillators.control_set import ControlFigures, ControlsCard, save_controls
from labctl.models.oscillators.controls import (
    CONTROL_WORDS,
    ControlName,
    PerceptronGenerator,
    control,
)
from labctl.models.oscillators.fitting import fit
from labctl.models.oscillators.scoring import Draw, PictureJudge
from labctl.models.oscillators.settings import GeneratorTraining
from labctl.models.picture_data import PictureData
from labctl.models.picture_recipes import ControlsRecipe
from labctl.models.pixel_controls import KMEANS_CENTRES, PixelCentres, PixelGaussian
from labctl.models.training import ProgressCallback

KEPT = 20  # pictures of each


def trained_control(
    name: ControlName, card: GeneratorCard, data: PictureData, *, progress: ProgressCallback | None = None
) -> tuple[Draw, int]:
    """A control trained in floats as the generator of `card` was: how to draw from it, and its parameters."""
    model = control(name, card.side, card.shape, card.parameters, seed=card.seed)
    settings = GeneratorTraining.model_validate(card.settings)
    fit(model, data.train_pictures, settings, seed=card.seed, stage=CONTROL_WORDS[name], progress=progress)
    moved = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if isinstance(model, PerceptronGenerator):
        return lambda count, seed: model.generate(count, seed=seed), moved
    done = model.finished()
    return lambda count, seed: done.generate(count, seed=seed), moved


def gaussian_control(data: PictureData) -> Draw:
    """A Gaussian of the training pixels, as a way to draw."""
    found = PixelGaussian.of(data.train_pictures)
    return lambda count, seed: found.draw(count, np.random.default_rng(seed))


def centres_control(data: PictureData) -> Draw:
    """The centres of k-means of the training pictures, as a way to draw."""
    found = PixelCentres.of(data.train_pictures)
    return lambda count, seed: found.draw(count, np.random.default_rng(seed))


# name -> what it is, and how to make it
PIXEL_CONTROLS: dict[str, tuple[str, Callable[[PictureData], Draw]]] = {
    "gaussian": ("Gaussian of pixels", gaussian_control),
    "centres": (f"k-means, {KMEANS_CENTRES} centres", centres_control),
}


def make_controls(
    recipe: ControlsRecipe,
    data: PictureData,
    path: Path,
    *,
    progress: ProgressCallback | None = None,
    overwrite: bool = False,
) -> None:
    """Write figures and pictures of all controls of a generator to `path`.

    Raises ConfigError, before any training, where the generator's card names other data.
    """
    generator = load_generator(recipe.generator).card
    check_data(generator, recipe.data_set, recipe.side)
    judge = PictureJudge.named_by(generator)
    figures, pictures, spent = [], {}, 0.0

    def add(name: str, what: str, draw: Draw, *, parameters: int | None = None, took_s: float = 0.0) -> None:
        found = judge.scores(draw)
        figures.append(
            ControlFigures(
                name=name,
                what=what,
                frechet_star=found.frechet_star,
                frechet_star_standard_error=found.spread,
                density=found.density,
                coverage=found.coverage,
                parameters=parameters,
                training_s=round(took_s),
            )
        )
        pictures[name] = np.rint(255 * draw(KEPT, recipe.seed)).astype(np.uint8)

    for kind in get_args(ControlName):
        began = time.monotonic()
        draw, parameters = trained_control(kind, generator, data, progress=progress)
        took_s = time.monotonic() - began
        spent += took_s
        add(kind, CONTROL_WORDS[kind], draw, parameters=parameters, took_s=took_s)
    for name, (what, made) in PIXEL_CONTROLS.items():
        add(name, what, made(data))
    size = int(judge.reference.counts[-1])
    card = ControlsCard(
        name=path.stem,
        description=recipe.description,
        side=data.side,
        generator=NetName(name=generator.name, sha256=generator.sha256),
        dataset=data.card(),
        classifier=judge.classifier_name,
        reference=judge.reference_name,
        judged_pictures=judge.judged,
        frechet_floor=judge.reference.floor(size),
        frechet_gaussian=judge.reference.gaussian,
        controls=tuple(figures),
        seed=recipe.seed,
        **training_facts(spent),
        **provenance(),
    )
    save_controls(card, pictures, path, overwrite=overwrite)
