"""Pictures out of oscillators, with the controls beside them: FD*, steps, codes, errors of boards, copies.

`python benchmarks/oscillator_pictures.py [SET ...]` prints this page alone; cells are resumable. The rows of
the shipped models need no training; the controls train with the same recipe, data and number of steps. A set
whose data are not here is left out. `--grids DIR` draws what is judged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from common import cell

from labctl.devices.errors import DataError
from labctl.models.checkpoint import zoo_folder
from labctl.models.oscillators.checkpoint import check_data, load_generator
from labctl.models.oscillators.control_making import PIXEL_CONTROLS, trained_control
from labctl.models.oscillators.controls import CONTROL_WORDS, ControlName
from labctl.models.oscillators.generator import OscillatorGenerator
from labctl.models.oscillators.making import REFINED
from labctl.models.oscillators.scoring import Draw, PictureJudge, copies
from labctl.models.oscillators.settings import BoardErrors
from labctl.models.picture_data import picture_data
from labctl.models.picture_recipes import OscillatorRecipe, parse_picture_recipe
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


def scored(judge: PictureJudge, key: dict[str, object], draw: Callable[[], Draw]) -> dict[str, float]:
    """FD*, its standard error, density and coverage of what `draw()` makes (trained only when needed)."""
    key = {**key, "judge": judge.reference_name.sha256, "v": 1}

    def work() -> dict[str, float]:
        found = judge.scores(draw())
        return {
            "star": found.frechet_star,
            "error": found.spread,
            "density": found.density,
            "coverage": found.coverage,
        }

    return cell(key, work)


def made(generator: OscillatorGenerator, **how: object) -> Draw:
    """How to draw from a generator; `how` goes to its `generate`."""
    return lambda count, seed: generator.generate(count, seed=seed, **how)  # type: ignore[arg-type]


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


def line(what: str, row: dict[str, float], note: str = "") -> str:
    """A line of the table."""
    error = f" ± {row['error']:.3f}" if row["error"] else ""
    return f"| {what} | {row['star']:.3f}{error} | {row['density']:.2f} | {row['coverage']:.2f} | {note} |"


def table(name: str) -> list[str]:
    """The table of one shipped model, as lines of Markdown."""
    recipe = recipe_of(name)
    floats, codes = (load_generator(f"{name}_oscillators{end}") for end in ("", f"-{BITS}bit"))
    check_data(codes.card, recipe.data_set, recipe.side)
    judge = PictureJudge.named_by(codes.card)
    reference = judge.reference
    data = picture_data(recipe.data_set, recipe.side)
    reach, aim = BARS.get(name, (float("nan"), float("nan")))
    lines = [
        f"### {name}: {floats.card.description}",
        "",
        f"FD floor {reference.floors[-1]:.3f} ({reference.counts[-1]} test pictures), Gaussian "
        f"{reference.gaussian:.3f}; features of {judge.classifier_name.name} "
        f"({judge.classifier_name.sha256[:8]}). Objective {floats.card.objective}, seed {floats.card.seed}, "
        f"{floats.card.training_s} + {codes.card.training_s} s on {floats.card.trained_on}; "
        f"{codes.card.program_bytes} bytes of program.",
        "",
        "| pictures | FD* | density | coverage | |",
        "|---|---|---|---|---|",
    ]

    def row(what: str, draw: Callable[[], Draw], note: str = "", **key: object) -> dict[str, float]:
        found = scored(judge, {"row": "oscillator pictures", "set": name, "what": what, **key}, draw)
        lines.append(line(what, found, note))
        return found

    def of(loaded_sha: str, what: str, draw: Draw, note: str = "") -> dict[str, float]:
        return row(what, lambda: draw, note, model=loaded_sha)

    one = of(floats.card.sha256, "oscillators, float", made(floats.generator))
    of(floats.card.sha256, f"float, {REFINED}x the steps", made(floats.generator, refine=REFINED))
    four = of(
        codes.card.sha256, f"oscillators, {BITS} bit", made(codes.generator), f"bar {reach:g}, aim {aim:g}"
    )
    fine = of(codes.card.sha256, f"{BITS} bit, {REFINED}x the steps", made(codes.generator, refine=REFINED))
    sha = codes.card.sha256
    noisy = of(sha, f"{BITS} bit, phase noise D = {NOISE.diffusion:g}", made(codes.generator, errors=NOISE))
    coarse = of(sha, f"{BITS} bit, phases read at {READ_BITS} bit", read_at(made(codes.generator), READ_BITS))
    for board in BOARDS:
        draw = made(codes.generator, errors=UNCALIBRATED, board=board)
        of(sha, f"{BITS} bit, uncalibrated board {board}", draw, "detuning .2, gain .05, offset .02")
    budget = recipe.train.model_dump_json()
    controls = {}
    for kind in get_args(ControlName):
        n = codes.card.parameters

        shape = recipe.shape.model_dump_json()
        controls[kind] = row(
            CONTROL_WORDS[kind],
            lambda kind=kind: trained_control(kind, codes.card, data)[0],
            "float",
            train=budget,
            shape=shape,
            n=n,
        )
    for kind, (words, by) in PIXEL_CONTROLS.items():
        row(words, partial(by, data), "1 by definition" if kind == "gaussian" else "")
    near = copies(made(codes.generator), data.train_pictures, data.test_pictures)
    raw = reference.gaussian - reference.floors[-1]

    def rise(row: dict[str, float]) -> float:
        """Of FD itself, relative to the 4-bit model."""
        return (row["star"] - four["star"]) * raw / (four["star"] * raw + reference.floors[-1])

    ratio = controls["plain"]["star"] / four["star"]
    penalty = (four["star"] - one["star"]) * raw / (one["star"] * raw + reference.floors[-1])
    lines += [
        "",
        f"- 4-bit FD* at fine steps {fine['star']:.3f}, bar {reach:g}: {verdict(max(four['star'], fine['star']) <= reach)}.",
        f"- Better than plain oscillators {ratio:.1f}x in FD*, bar {PLAIN_RATIO:g}x: {verdict(ratio >= PLAIN_RATIO)}.",
        f"- 4-bit penalty in FD {penalty:+.1%}, bar {PENALTY:+.0%}: {verdict(penalty <= PENALTY)}.",
        f"- Phase noise {rise(noisy):+.1%}, {READ_BITS}-bit read {rise(coarse):+.1%} in FD, bar +10% each: "
        f"{verdict(max(rise(noisy), rise(coarse)) <= 0.10)}.",
        f"- Nearest training picture: rms {near.made:.3f} from generated ones, {near.test:.3f} from test ones "
        f"(medians); {near.nearer:.1%} of generated ones nearer than 99% of test ones are.",
        "",
    ]
    return lines


def verdict(met: bool) -> str:
    """In a word."""
    return "met" if met else "missed"


def sheet(pictures: Pictures) -> np.ndarray:
    """100 pictures in ten rows, with a grey line between them."""
    framed = np.pad(pictures[:100], ((0, 0), (0, 1), (0, 1)), constant_values=0.5)
    side = framed.shape[1]
    return framed.reshape(10, 10, side, side).transpose(0, 2, 1, 3).reshape(10 * side, 10 * side)


def grid(name: str, folder: Path) -> None:
    """A PNG of real and generated pictures, 100 each, as `folder`/`name`.png."""
    import matplotlib.pyplot as plt

    recipe = recipe_of(name)
    shown = {"test": picture_data(recipe.data_set, recipe.side).test_pictures}
    for end, title in (("", "float"), (f"-{BITS}bit", f"{BITS} bit")):
        shown[title] = load_generator(f"{name}_oscillators{end}").generator.generate(100)
    figure, axes = plt.subplots(1, len(shown), figsize=(8 * len(shown), 8.4))
    for axis, (title, pictures) in zip(axes, shown.items(), strict=True):
        axis.imshow(sheet(pictures), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title)
        axis.axis("off")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=80, bbox_inches="tight")
    plt.close(figure)


def shipped() -> list[str]:
    """Names of the shipped models, without their ending."""
    return [
        p.stem.removesuffix("_oscillators") for p in sorted(zoo_folder().glob("*_oscillators.safetensors"))
    ]


def page(names: list[str]) -> list[str]:
    """A table for each of these models, as lines of Markdown; a set that is not here is left out and said."""
    lines = ["## Pictures out of oscillators", ""]
    for name in names:
        try:
            lines += table(name)
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
        print("\n".join(page(words or shipped())))
