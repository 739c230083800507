"""Pictures out of oscillators, with the controls beside them: FD*, steps, codes, errors of boards, copies.

`python benchmarks/oscillator_pictures.py [SET ...]` prints this page alone; cells are resumable. The rows of
the shipped models need no training, nor do controls that ship with one. `--train` trains the controls of the
others, with the same recipe, data and number of steps: as long as the model itself took, for each. A set whose
data are not here is left out. `--grids DIR` draws what is judged.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from judged import Lines, judged_by, made, nearness, save_grids, verdict

from labctl.devices.errors import DataError
from labctl.models.checkpoint import zoo_folder
from labctl.models.oscillators.checkpoint import GeneratorCard, LoadedGenerator, check_data, load_generator
from labctl.models.oscillators.control_making import PIXEL_CONTROLS, trained_control
from labctl.models.oscillators.control_set import controls_beside
from labctl.models.oscillators.controls import CONTROL_WORDS, ControlName
from labctl.models.oscillators.making import REFINED
from labctl.models.oscillators.scoring import Draw, PictureJudge, copies
from labctl.models.oscillators.settings import BoardErrors
from labctl.models.picture_data import PictureData, picture_data
from labctl.models.picture_recipes import OscillatorRecipe, parse_picture_recipe
from labctl.models.picture_reference import PictureReference
from labctl.models.pictures import Pictures
from labctl.models.recipe import recipe_content, shipped_recipes

# The bars: FD* of the 4-bit model to reach, and to aim at.
BARS = {
    "digits8": (0.28, 0.15),
    "fashion14": (0.42, 0.18),
    "fashion28": (0.53, 0.26),
    "mnist28": (0.53, 0.26),
}
BITS = 4
PLAIN_RATIO, PENALTY = 3.0, 0.10
BOARDS = (0, 1, 2)
NOISE, UNCALIBRATED = BoardErrors(diffusion=0.03), BoardErrors(detuning=0.2, gain=0.05, offset=0.02)
READ_BITS = 4


def recipe_of(name: str) -> OscillatorRecipe:
    """The training recipe of NAME_oscillators."""
    recipe = parse_picture_recipe(recipe_content(shipped_recipes()[f"{name}_oscillators"]), name)
    if not isinstance(recipe, OscillatorRecipe):
        raise TypeError(f"{name}_oscillators makes no oscillators")
    return recipe


def read_at(draw: Draw, bits: int) -> Draw:
    """Pixels of phases read with `bits` bits a turn."""
    levels = 2**bits

    def coarse(count: int, seed: int) -> Pictures:
        # the pixel map is even, so that a phase and its negative read alike
        phase = np.arccos(np.clip(1 - 2 * draw(count, seed), -1, 1))
        return np.asarray(
            (1 - np.cos(np.rint(phase * levels / (2 * np.pi)) * 2 * np.pi / levels)) / 2, np.float32
        )

    return coarse


@dataclass(frozen=True)
class Found:
    """Figures of the rows that a verdict is about."""

    one: dict[str, float]
    four: dict[str, float]
    fine: dict[str, float]
    noisy: dict[str, float]
    coarse: dict[str, float]


def table(name: str, train: bool) -> list[str]:
    """The table of one shipped model, as lines of Markdown; `train` controls that do not ship with it."""
    recipe = recipe_of(name)
    floats, codes = (load_generator(f"{name}_oscillators{end}") for end in ("", f"-{BITS}bit"))
    check_data(codes.card, recipe.data_set, recipe.side)
    rows = Lines(PictureJudge.named_by(codes.card), row="oscillator pictures", set=name)
    data = picture_data(recipe.data_set, recipe.side)
    found = shipped_rows(rows, name, floats, codes)
    controls = control_rows(rows, recipe, codes.card, data, train)
    near = copies(made(codes.generator), data.train_pictures, data.test_pictures)
    return [
        f"### {name}: {floats.card.description}",
        "",
        f"{judged_by(rows.judge)} Objective {floats.card.objective}, seed {floats.card.seed}, "
        f"{floats.card.training_s} + {codes.card.training_s} s on {floats.card.trained_on}; "
        f"{codes.card.program_bytes} bytes of program.",
        "",
        *rows.lines,
        "",
        *verdicts(name, found, controls.get("plain"), rows.judge.reference),
        nearness(near),
        "",
    ]


def shipped_rows(rows: Lines, name: str, floats: LoadedGenerator, codes: LoadedGenerator) -> Found:
    """The shipped model in floats and codes, at fine steps, with noise, and on boards off their trims."""
    reach, aim = bars_of(name)

    def of(loaded: LoadedGenerator, what: str, draw: Draw, note: str = "") -> dict[str, float]:
        return rows.row(what, lambda: draw, note, model=loaded.card.sha256)

    one = of(floats, "oscillators, float", made(floats.generator))
    of(floats, f"float, {REFINED}x the steps", made(floats.generator, refine=REFINED))
    drawn = codes.generator
    four = of(
        codes, f"oscillators, {BITS} bit", made(drawn), f"bar {reach:g}, aim {aim:g}" if aim > 0 else ""
    )
    fine = of(codes, f"{BITS} bit, {REFINED}x the steps", made(drawn, refine=REFINED))
    noisy = of(codes, f"{BITS} bit, phase noise D = {NOISE.diffusion:g}", made(drawn, errors=NOISE))
    coarse = of(codes, f"{BITS} bit, phases read at {READ_BITS} bit", read_at(made(drawn), READ_BITS))
    for board in BOARDS:
        draw = made(drawn, errors=UNCALIBRATED, board=board)
        of(codes, f"{BITS} bit, uncalibrated board {board}", draw, "detuning .2, gain .05, offset .02")
    return Found(one, four, fine, noisy, coarse)


def control_rows(
    rows: Lines, recipe: OscillatorRecipe, card: GeneratorCard, data: PictureData, train: bool
) -> dict[str, dict[str, float]]:
    """What stands beside: trained ones by their names, whose figures come back, and those of pixels."""
    shipped = controls_beside(card)
    if shipped is not None and not train:
        owner = shipped.card.generator.name
        note = "" if owner == card.name else f", trained as {owner}"
        return {one.name: rows.known(one.what, one, note) for one in shipped.card.controls}
    key = {
        "train": recipe.train.model_dump_json(),
        "shape": recipe.shape.model_dump_json(),
        "n": card.parameters,
    }
    controls = {
        kind: rows.row(
            CONTROL_WORDS[kind], lambda kind=kind: trained_control(kind, card, data)[0], "float", **key
        )
        for kind in (get_args(ControlName) if train else ())
    }
    for kind, (words, by) in PIXEL_CONTROLS.items():
        rows.row(words, partial(by, data), "1 by definition" if kind == "gaussian" else "")
    return controls


def bars_of(name: str) -> tuple[float, float]:
    """FD* of a set's 4-bit model to reach, and to aim at; nan where no bar is set."""
    return BARS.get(name.removesuffix("_wgan"), (float("nan"), float("nan")))


def verdicts(
    name: str, found: Found, plain: dict[str, float] | None, reference: PictureReference
) -> list[str]:
    """The bars: quality, against plain oscillators, and what codes, noise and coarse reads cost."""
    floor, raw = reference.floors[-1], reference.gaussian - reference.floors[-1]

    def rise(row: dict[str, float], over: dict[str, float] = found.four) -> float:
        """Of FD itself, relative to `over`."""
        return (row["star"] - over["star"]) * raw / (over["star"] * raw + floor)

    reach = bars_of(name)[0]
    four, fine = found.four["star"], found.fine["star"]
    penalty, noisy, coarse = rise(found.four, found.one), rise(found.noisy), rise(found.coarse)
    beaten = "- Controls that train were not trained for this set."
    if plain is not None:
        ratio = plain["star"] / four
        beaten = (
            f"- Better than plain oscillators {ratio:.1f}x in FD*, bar {PLAIN_RATIO:g}x: "
            f"{verdict(ratio >= PLAIN_RATIO)}."
        )
    quality = f"- 4-bit FD* at fine steps {fine:.3f}, no bar set."
    if not math.isnan(reach):
        quality = f"- 4-bit FD* at fine steps {fine:.3f}, bar {reach:g}: {verdict(max(four, fine) <= reach)}."
    return [
        quality,
        beaten,
        f"- 4-bit penalty in FD {penalty:+.1%}, bar {PENALTY:+.0%}: {verdict(penalty <= PENALTY)}.",
        f"- Phase noise {noisy:+.1%}, {READ_BITS}-bit read {coarse:+.1%} in FD, bar +10% each: "
        f"{verdict(max(noisy, coarse) <= 0.10)}.",
    ]


def grid(name: str, folder: Path) -> None:
    """A PNG of real and generated pictures, 100 each, as `folder`/`name`.png."""
    recipe = recipe_of(name)
    shown = {"test": picture_data(recipe.data_set, recipe.side).test_pictures}
    for end, title in (("", "float"), (f"-{BITS}bit", f"{BITS} bit")):
        shown[title] = load_generator(f"{name}_oscillators{end}").generator.generate(100)
    save_grids(shown, folder / f"{name}.png", dpi=80)


def shipped() -> list[str]:
    """Names of the shipped models, without their ending."""
    return [
        p.stem.removesuffix("_oscillators") for p in sorted(zoo_folder().glob("*_oscillators.safetensors"))
    ]


def page(names: list[str], train: bool = False) -> list[str]:
    """A table for each of these models, as lines of Markdown; a set that is not here is left out and said."""
    lines = ["## Pictures out of oscillators", ""]
    for name in names:
        try:
            lines += table(name, train)
        except DataError as error:
            lines += [f"### {name}: left out", "", str(error), ""]
    return lines


if __name__ == "__main__":
    words = sys.argv[1:]
    if "--grids" in words:
        at = words.index("--grids")
        for each in words[:at] or shipped():
            grid(each, Path(words[at + 1]))
    else:
        names = [word for word in words if word != "--train"]
        print("\n".join(page(names or shipped(), "--train" in words)))
