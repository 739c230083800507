"""A diffusion chain of equilibria, with its controls beside it: steps, sharing, symmetry, detuning, gradients.

`python benchmarks/oscillator_chain.py` prints this page alone; cells are resumable. The rows of the shipped
chains need no training; the variants train with one small budget of their own, the reference among them, so
that they compare with each other and not with the shipped ones. `--grids DIR` draws what is judged.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from common import cell
from judged import Lines, figures, judged_by, made, nearness, save_grids, scored, verdict

from labctl.models.oscillators.chain_checkpoint import LoadedChain, load_chain
from labctl.models.oscillators.chain_fitting import fit_levels, level_errors, step, tune_chain
from labctl.models.oscillators.control_making import centres_control, gaussian_control
from labctl.models.oscillators.diffuser import Diffuser, TrainableDiffuser, signed, unsigned
from labctl.models.oscillators.making import REFINED, RESIDUAL
from labctl.models.oscillators.scoring import Draw, PictureJudge, copies
from labctl.models.oscillators.settings import ChainTuning, DiffuserShape, DiffuserTraining
from labctl.models.picture_data import PictureData, picture_data
from labctl.models.pictures import Pictures
from labctl.models.pixel_controls import KMEANS_CENTRES
from labctl.physics.oscillators import Gradient
from labctl.sampling import Sampler, cosine_levels, scheme, start_noise
from labctl.sampling.gaussian import WienerMachine

NAME, BITS = "digits8_chain", 4
REACH, AIM_FLOAT, AIM_CODED = 1.8, 0.66, 0.97
BOARDS = (0, 1, 2)
# One small budget for every variant: iterations of a level, then through the whole chain.
BUDGET = DiffuserTraining(iterations=150, tuning=ChainTuning(iterations=200))
VARIANTS: dict[str, DiffuserShape] = {
    "reference: 10 levels, directed": DiffuserShape(),
    "6 levels": DiffuserShape(levels=6),
    "4 levels": DiffuserShape(levels=4),
    "shared parameters": DiffuserShape(shared=True),
    "symmetric couplings": DiffuserShape(couplings="symmetric"),
    "no couplings": DiffuserShape(couplings="none"),
}
GRADIENT_BATCH, GRADIENT_ROUNDS = 256, 5


@cache
def data() -> PictureData:
    """The digits."""
    return picture_data("digits", 8)


@cache
def judge() -> PictureJudge:
    """The nets that judge them."""
    return PictureJudge.of("digits8_classifier", "digits8_reference")


def linear(levels: int, sigma_max: float, name: str) -> Draw:
    """A Wiener denoiser of the training pixels, from the starts and on the levels of a chain."""
    machine = WienerMachine.of(signed(data().train_pictures))
    sampler = Sampler(scheme(name), cosine_levels(levels, sigma_max)[:-1])

    def draw(count: int, seed: int) -> Pictures:
        ids = np.arange(count)
        start = start_noise(ids, 64, seed=seed, sigma_max=sigma_max)
        x = sampler.run(machine, start, sample_id=ids, seed=seed)
        return np.clip(unsigned(x), 0, 1).astype(np.float32).reshape(count, 8, 8)

    return draw


def shipped() -> tuple[LoadedChain, LoadedChain]:
    """The shipped chain in floats, and in codes."""
    return load_chain(NAME), load_chain(f"{NAME}-{BITS}bit")


@dataclass(frozen=True)
class Found:
    """FD* of one shipped chain: as trained, at fine steps, and on each board."""

    one: float
    fine: float
    boards: tuple[float, ...]


def table() -> list[str]:
    """The shipped chains with their controls, as lines of Markdown."""
    floats, codes = shipped()
    rows = Lines(judge(), row="oscillator chain")
    in_floats = chain_rows(rows, floats, "float", AIM_FLOAT)
    in_codes = chain_rows(rows, codes, f"{BITS} bit", AIM_CODED)
    best = control_rows(rows, floats.card.shape)
    near = copies(made(codes.diffuser), data().train_pictures, data().test_pictures)
    return [
        "## A diffusion chain of equilibria",
        "",
        f"{codes.card.description}; {codes.card.program_bytes:,} bytes of program. Objective "
        f"{codes.card.objective}; {floats.card.training_s} + {codes.card.training_s} s on "
        f"{floats.card.trained_on}, one seed. {judged_by(judge())}",
        "",
        *rows.lines,
        "",
        *verdicts(in_floats, in_codes, best),
        nearness(near),
        "- Mean square error of each level on test pictures, in x: "
        + ", ".join(f"{e:.4f}" for e in _level_errors(floats.diffuser))
        + " (a chain that was tuned as a whole is no longer a denoiser at every level).",
        "",
    ]


def chain_rows(rows: Lines, loaded: LoadedChain, name: str, aim: float) -> Found:
    """A shipped chain: as trained, at fine steps, on detuned boards, and with its couplings at 0."""
    chain, sha = loaded.diffuser, loaded.card.sha256
    one = rows.row(name, lambda: made(chain), f"reach {REACH:g}, aim {aim:g}", model=sha)
    fine = rows.row(f"{name}, {REFINED}x the steps", lambda: made(chain, refine=REFINED), model=sha)
    boards = [
        rows.row(
            f"{name}, detuning {RESIDUAL.detuning:g}, board {board}",
            lambda board=board: made(chain, errors=RESIDUAL, board=board),
            model=sha,
        )
        for board in BOARDS
    ]
    rows.row(f"{name}, couplings at 0", lambda: made(chain.uncoupled()), "not trained so", model=sha)
    return Found(one["star"], fine["star"], tuple(board["star"] for board in boards))


def control_rows(rows: Lines, shape: DiffuserShape) -> float:
    """Wiener samplers from the same starts, and what makes pixels at once; FD* of the better sampler."""
    stars = []
    for name, word, note in (
        ("ddim", "DDIM", "same starts, same levels"),
        ("implicit-euler", "implicit Euler", "same starts, same levels, same scheme"),
    ):
        found = rows.row(
            f"Wiener denoiser, {word}",
            lambda name=name: linear(shape.levels, shape.sigma_max, name),
            note,
            levels=shape.levels,
            sigma_max=shape.sigma_max,
        )
        stars.append(found["star"])
    rows.row("Gaussian of pixels", lambda: gaussian_control(data()))
    rows.row(f"k-means, {KMEANS_CENTRES} centres", lambda: centres_control(data()))
    return min(stars)


def verdicts(floats: Found, codes: Found, wiener: float) -> list[str]:
    """The bars: floats at the worse of their steps, codes on the worst board."""
    plain, worst = max(floats.one, floats.fine), max(codes.boards)
    return [
        f"- Float {plain:.3f}: better than the better Wiener sampler ({wiener:.3f}) "
        f"{verdict(plain < wiener)}; reach {REACH:g} {verdict(plain <= REACH)}; aim "
        f"{AIM_FLOAT:g} {verdict(plain <= AIM_FLOAT)}.",
        f"- {BITS} bits with residual detuning {RESIDUAL.detuning:g}, worst of {len(BOARDS)} boards "
        f"{worst:.3f}: better than the better Wiener sampler {verdict(worst < wiener)}; reach "
        f"{REACH:g} {verdict(worst <= REACH)}; aim {AIM_CODED:g} {verdict(worst <= AIM_CODED)}.",
    ]


def _level_errors(chain: Diffuser) -> list[float]:
    """Of a chain at rest; `level_errors` asks for a model that can be trained."""

    class Fixed(TrainableDiffuser):
        def values(self, level: int):  # type: ignore[no-untyped-def]
            return chain.segment(int(chain.chain.segments[level])), chain.strength[level]

    return level_errors(Fixed(chain.side, chain.shape), data().test_pictures)


def variants() -> list[str]:
    """Steps, sharing, symmetry and couplings, one factor at a time, at one small budget."""
    lines = [
        f"### One factor at a time, float ({BUDGET.iterations} iterations a level, then "
        f"{BUDGET.tuning.iterations} through the chain; CPU time on a busy machine)",
        "",
        "| chain | FD* after pairs | tuned | on a detuned board | Wiener DDIM | implicit | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, shape in VARIANTS.items():
        key = {"row": "oscillator chain variant", "shape": shape.model_dump(mode="json"), "v": 1,
               "budget": BUDGET.model_dump(mode="json"), "judge": judge().reference_name.sha256}  # fmt: skip
        found = cell(key, lambda s=shape: trained(s))  # type: ignore[misc]
        linear_key = {"levels": shape.levels, "sigma_max": shape.sigma_max}
        control = [
            scored(
                judge(),
                {"row": "oscillator chain", "what": f"Wiener denoiser, {word}", **linear_key},
                lambda s=shape, n=n: linear(s.levels, s.sigma_max, n),  # type: ignore[misc]
            )["star"]
            for n, word in (("ddim", "DDIM"), ("implicit-euler", "implicit Euler"))
        ]
        lines.append(
            f"| {name} | {found['paired']:.3f} | {found['tuned']:.3f} | {found['detuned']:.3f} | "
            f"{control[0]:.3f} | {control[1]:.3f} | {found['cpu_s']:.0f} |"
        )
    return [
        *lines,
        "",
        "The linear denoiser's implicit steps score better the fewer they are: FD* rewards a coarse solver's bias.",
        "",
    ]


def trained(shape: DiffuserShape) -> dict[str, float]:
    """A chain of that shape at the small budget: FD* after its pairs, after tuning, and on a detuned board."""
    began = time.process_time()
    model = TrainableDiffuser(8, shape)
    fit_levels(model, data().train_pictures, BUDGET)
    paired = figures(judge(), made(model.finished()))
    tune_chain(model, data().train_pictures, BUDGET, BUDGET.tuning)
    took = time.process_time() - began
    chain = model.finished()
    return {
        "paired": paired["star"],
        "tuned": figures(judge(), made(chain))["star"],
        "detuned": figures(judge(), made(chain, errors=RESIDUAL))["star"],
        "cpu_s": took,
    }


def gradients() -> list[str]:
    """Through the steps of settling against the state of rest: angle between the two, and what each costs."""
    lines = [
        f"### Gradients of a level: unrolled against implicit (4-bit chain, level 9, {GRADIENT_BATCH} pictures, "
        "float32)",
        "",
        "| settled for, units | angle, degrees | unrolled, CPU ms | implicit, CPU ms |",
        "|---|---|---|---|",
    ]
    codes = shipped()[1]
    for duration in (1.0, 2.5, 5.0, 10.0):
        key = {"row": "chain gradients", "model": codes.card.sha256, "duration": duration, "v": 1}
        found = cell(key, lambda t=duration: compared(codes.diffuser, t))  # type: ignore[misc]
        lines.append(
            f"| {duration:g} | {found['degrees']:.3g} | {found['unrolled_ms']:.0f} | "
            f"{found['implicit_ms']:.0f} |"
        )
    return [*lines, "", "CPU time on a busy machine.", ""]


def compared(chain: Diffuser, duration: float) -> dict[str, float]:
    """The two gradients of one level that settles for `duration` units: their angle, and CPU time of each."""
    level = min(8, chain.shape.levels - 1)
    shape = chain.shape.model_copy(update={"duration": duration, "steps": round(6.4 * duration)})
    model = TrainableDiffuser(chain.side, shape)
    law = chain.segment(level)
    x = torch.randn(GRADIENT_BATCH, 64, generator=torch.Generator().manual_seed(0))
    grads, cost = {}, {}
    ways: tuple[Gradient, ...] = ("unrolled", "implicit")
    for gradient in ways:
        spent = []
        for _ in range(GRADIENT_ROUNDS):
            free = [t.clone().requires_grad_() for t in (law.coupling, law.in_phase, law.quadrature)]
            began = time.process_time()
            moved = type(law)(*free, law.second, law.detuning)
            step(model, moved, chain.strength[level], x, gradient=gradient).square().mean().backward()
            spent.append(time.process_time() - began)
        cost[f"{gradient}_ms"] = 1e3 * float(np.median(spent))
        grads[gradient] = torch.cat([t.grad.flatten() for t in free if t.grad is not None]).double()
    cosine = torch.dot(*grads.values()) / math.prod(float(g.norm()) for g in grads.values())
    return {"degrees": math.degrees(math.acos(min(1.0, float(cosine)))), **cost}


def grid(folder: Path) -> None:
    """A PNG of real pictures and of both chains' and the linear sampler's, 100 each."""
    floats, codes = shipped()
    shape = codes.card.shape
    shown = {
        "test": data().test_pictures,
        "float": floats.diffuser.generate(100),
        f"{BITS} bit, detuning {RESIDUAL.detuning:g}": codes.diffuser.generate(100, errors=RESIDUAL),
        "Wiener, DDIM": linear(shape.levels, shape.sigma_max, "ddim")(100, 0),
    }
    save_grids(shown, folder / "chain.png", dpi=60)


if __name__ == "__main__":
    if "--grids" in sys.argv:
        grid(Path(sys.argv[sys.argv.index("--grids") + 1]))
    else:
        print("\n".join([*table(), *variants(), *gradients()]))
