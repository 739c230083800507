"""From a recipe to generators with their cards: train floats, then codes, judge each and save it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from labctl.devices.errors import ConfigError
from labctl.models.making import training_facts
from labctl.models.oscillators.checkpoint import (
    LoadedGenerator,
    check_data,
    describe_generator,
    load_generator,
    save_generator,
)
from labctl.models.oscillators.fitting import fit, fit_codes
from labctl.models.oscillators.generator import OscillatorGenerator, TrainableGenerator
from labctl.models.oscillators.scoring import PictureJudge, copies
from labctl.models.picture_data import PictureData
from labctl.models.picture_recipes import OscillatorRecipe
from labctl.models.training import ProgressCallback

REFINED = 8  # times the steps, beside every figure: what a training learnt of the solver would not survive


def make_generators(
    recipe: OscillatorRecipe,
    data: PictureData,
    paths: list[Path],
    *,
    progress: ProgressCallback | None = None,
    overwrite: bool = False,
) -> None:
    """Write the float generator to paths[0] and each coded version to its own, in the order of its bits.

    Where the recipe starts from a float generator, the coded versions alone. Raises ConfigError or
    ProgramError, before any training, for a shape, judge or start that does not fit.
    """
    judge = PictureJudge.of(recipe.classifier, recipe.reference)
    if judge.classifier.side != data.side:
        raise ConfigError(
            f"classifier {recipe.classifier}: it judges {judge.classifier.side} pixels a side; allowed: "
            f"{data.side}, as the pictures of this recipe"
        )
    bits_made = tuple(dict.fromkeys(recipe.coded.bits))
    for bits in bits_made:  # a shape that no program can hold shows now, not after the training
        trial = TrainableGenerator(data.side, recipe.shape, seed=recipe.seed)
        trial.use_codes(bits)
        trial.finished()
    model = TrainableGenerator(data.side, recipe.shape, seed=recipe.seed)
    started = _start(recipe) if recipe.start else None
    base = {
        "description": recipe.description,
        "objective": recipe.train.objective,
        "why": recipe.why,
        "dataset": data.card(),
        "classifier": judge.classifier_name,
        "reference": judge.reference_name,
        "seed": recipe.seed,
        "settings": recipe.train.model_dump(mode="json"),
    }
    if started is None:
        began = time.monotonic()
        fitted = fit(model, data.train_pictures, recipe.train, seed=recipe.seed, progress=progress)
        facts = training_facts(time.monotonic() - began)
        generator = model.finished()
        card = describe_generator(
            generator,
            paths[0].stem,
            metrics=measured(generator, judge, data),
            skipped=fitted.skipped,
            **facts,
            **base,
        )
        parent = save_generator(generator, paths[0], card, overwrite=overwrite)
        paths = paths[1:]
    else:
        model.begin_at(started.generator.parameters)
        parent = started.card
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    for bits, path in zip(bits_made, paths, strict=True):
        model.load_state_dict(trained)
        began = time.monotonic()
        fitted = fit_codes(
            model,
            data.train_pictures,
            bits,
            recipe.train,
            recipe.coded,
            seed=recipe.seed + 1,
            progress=progress,
        )
        facts = training_facts(time.monotonic() - began)
        generator = model.finished()
        card = describe_generator(
            generator,
            path.stem,
            metrics=measured(generator, judge, data),
            skipped=fitted.skipped,
            parent_sha256=parent.sha256,
            coded=recipe.coded.model_dump(mode="json"),
            **facts,
            **base,
        )
        save_generator(generator, path, card, overwrite=overwrite)


def _start(recipe: OscillatorRecipe) -> LoadedGenerator:
    """The float generator that a recipe starts from; ConfigError where it is another's."""
    found = load_generator(recipe.start)
    check_data(found.card, recipe.data_set, recipe.side)
    for key, own, said in (
        ("shape", found.card.shape, recipe.shape),
        ("train", found.card.settings, recipe.train.model_dump(mode="json")),
        ("bits", found.card.bits, None),
    ):
        if own != said:
            raise ConfigError(
                f"start = {recipe.start!r}: its {key} is {own}; allowed: {said}, as the recipe's"
            )
    return found


def measured(generator: OscillatorGenerator, judge: PictureJudge, data: PictureData) -> dict[str, float]:
    """The figures on a card: FD* as trained and at refined steps, density, coverage, nearest pictures."""

    def draw(count: int, seed: int) -> Any:
        return generator.generate(count, seed=seed)

    found = judge.scores(draw)
    refined = judge.scores(lambda count, seed: generator.generate(count, seed=seed, refine=REFINED))
    near = copies(draw, data.train_pictures, data.test_pictures)
    return {
        "frechet_star": found.frechet_star,
        "frechet_star_standard_error": found.spread,
        f"frechet_star_{REFINED}x_steps": refined.frechet_star,
        "density": found.density,
        "coverage": found.coverage,
        "judged_pictures": float(found.size * found.sets),
        "nearest_training_picture": near.made,
        "nearest_training_picture_of_test": near.test,
        "share_nearer_than_1_percent_of_test": near.nearer,
        "coupling_row_sum": generator.row_sum(),
        "step_bound": generator.row_sum() * generator.shape.step,
    }
