"""What makes 8 x 8 digits out of oscillators: one factor at a time, three seeds, FD* with its interval.

`python benchmarks/oscillator_ablations.py` prints this page alone; every run is a cell and stays under five
minutes of one core, so that a run that was cut off goes on. Couplings are floats unless bits are the factor.
"""

from __future__ import annotations

import copy
import sys
from functools import lru_cache
from typing import Any

from common import cell

from labctl.models.metrics import t_bound
from labctl.models.oscillators.fitting import fit, fit_codes
from labctl.models.oscillators.generator import TrainableGenerator
from labctl.models.oscillators.making import REFINED
from labctl.models.oscillators.scoring import PictureJudge
from labctl.models.oscillators.settings import CodedTraining, GeneratorTraining, OscillatorShape
from labctl.models.picture_data import DIGITS, DIGITS_SIDE, picture_data

SEEDS = (0, 1, 2)
TRAIN = GeneratorTraining(
    iterations=3000, data_batch=0, learning_rate=3e-2, clip_norm=1.0, widths=(0.1, 0.25, 0.5)
)
CODED = CodedTraining(iterations=1000, learning_rate=1e-2)
# shape, training, bits: what differs from the reference row, which is the first
FACTORS: dict[str, dict[str, Any]] = {
    "reference: 4 segments, none hidden, R = 2, float, MMD": {},
    **{
        f"segments {n}" + (" (plain oscillators)" if n == 1 else ""): {"shape": {"segments": n}}
        for n in (1, 2, 8)
    },
    **{f"hidden {share:.0%}": {"shape": {"hidden_share": share}} for share in (0.5, 1.0)},
    **{f"R = {radius}": {"shape": {"radius": radius}} for radius in (1, 3)},
    **{f"{bits} bit": {"bits": bits} for bits in (1, 2, 3, 4, 8)},
    "energy distance": {"train": {"objective": "energy"}},
    "sliced Wasserstein": {"train": {"objective": "sliced", "data_batch": 256}},
    "WGAN-GP, 6,000 iterations": {
        "train": {
            "objective": "wgan",
            "iterations": 6000,
            "data_batch": 256,
            "learning_rate": 1e-3,
            "beta1": 0.0,
            "beta2": 0.9,
        }
    },
}


@lru_cache(maxsize=len(SEEDS))
def floats(shape: str, train: str, seed: int) -> tuple[TrainableGenerator, int]:
    """A generator of floats trained with these settings (JSON), and the steps that were skipped.

    The rows of bits begin at the same one; nobody but a copy of it trains on.
    """
    model = TrainableGenerator(DIGITS_SIDE, OscillatorShape.model_validate_json(shape), seed=seed)
    pictures = picture_data(DIGITS, DIGITS_SIDE).train_pictures
    return model, fit(model, pictures, GeneratorTraining.model_validate_json(train), seed=seed).skipped


def star(change: dict[str, Any], seed: int) -> dict[str, float]:
    """FD* at the trained and at refined steps, parameters and skipped steps of one run (a cell)."""
    shape = OscillatorShape.model_validate(change.get("shape", {}))
    settings = GeneratorTraining.model_validate({**TRAIN.model_dump(), **change.get("train", {})})
    bits = change.get("bits")
    judge = PictureJudge.of("digits8_classifier", "digits8_reference")
    key = {
        "row": "oscillator ablation",
        "shape": shape.model_dump_json(),
        "train": settings.model_dump_json(),
        "coded": CODED.model_dump_json() if bits else "",
        "bits": bits,
        "seed": seed,
        "judge": judge.reference_name.sha256,
        "v": 1,
    }

    def work() -> dict[str, float]:
        data = picture_data(DIGITS, DIGITS_SIDE)
        trained, skipped = floats(shape.model_dump_json(), settings.model_dump_json(), seed)
        model = copy.deepcopy(trained)
        if bits:
            fit_codes(model, data.train_pictures, bits, settings, CODED, seed=seed + 100)
        done = model.finished()
        found = judge.scores(lambda count, s: done.generate(count, seed=s))
        fine = judge.scores(lambda count, s: done.generate(count, seed=s, refine=REFINED))
        return {
            "star": found.frechet_star,
            "fine": fine.frechet_star,
            "parameters": float(done.n_parameters),
            "skipped": float(skipped),
        }

    return cell(key, work)


def page() -> list[str]:
    """The table as lines of Markdown; runs what is not in the cells yet."""
    lines = [
        "## Ablations on 8 x 8 digits",
        "",
        f"{TRAIN.iterations} iterations, MMD unless said; FD* is the mean over {len(SEEDS)} seeds with the half "
        f"width of its 95% interval (Student's t); at {REFINED}x the steps beside it.",
        "",
        "| | FD* | fine steps | parameters |",
        "|---|---|---|---|",
    ]
    for name, change in FACTORS.items():
        rows = []
        for seed in SEEDS:
            rows.append(star(change, seed))
            print(f"{name}, seed {seed}: {rows[-1]['star']:.3f}", file=sys.stderr, flush=True)
        bound = t_bound([row["star"] for row in rows], 0.975)  # one side of a two-sided 95%
        fine = sum(row["fine"] for row in rows) / len(rows)
        half = bound.bound - bound.mean
        lines.append(f"| {name} | {bound.mean:.3f} ± {half:.3f} | {fine:.3f} | {rows[0]['parameters']:.0f} |")
    return [*lines, ""]


if __name__ == "__main__":
    print("\n".join(page()))
