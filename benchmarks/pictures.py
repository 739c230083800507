"""Pictures: FD*, class agreement and path error, of the nets alone, of the loop, and of the data set itself.

`python benchmarks/pictures.py` prints this page alone; cells are resumable. Nothing needs a data set but the
rows that say so, which are left out where it has not been fetched.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any

import numpy as np
from common import CACHE, cell, open_named
from numpy.typing import NDArray
from sheet import Sheet, verdict

from labctl.models.checkpoint import load_checkpoint, zoo_folder
from labctl.models.classifier import load_classifier
from labctl.models.fetch import is_present, load
from labctl.models.metrics import path_error
from labctl.models.network import RowTableNetwork
from labctl.models.picture_making import train_pictures
from labctl.models.picture_metrics import FeatureMoments, frechet_distance, frechet_star, nearest_pictures
from labctl.models.picture_recipes import parse_picture_recipe
from labctl.models.picture_sets import picture_set
from labctl.models.recipe import shipped_recipes
from labctl.rig import Rig
from labctl.sampling import HostMachine, LoopMachine, Sampler, compile_program, scheme, sigmas, start_noise

Say, Draw = Callable[[str], None], Callable[[list[str], list[list[str]]], None]
Verdict = Callable[[bool], str]
FloatArray, IntArray = NDArray[np.float64], NDArray[np.int64]
SAMPLES, LOOP_SAMPLES, STEPS, SEEDS = 10_000, 5000, 8, (1, 2, 3)
SIGMA_MAX, SIGMA_MIN = 10.0, 0.06
# The bars: FD* of the net's ODE, FD* of the autoencoder alone, class agreement of the ODE's pictures.
BARS = {"fashion": (0.10, 0.017, 0.80), "mnist": (0.10, 0.017, 0.92)}
AGREEMENT_DROP, FRECHET_RATIO = 0.02, 1.15
COPIES = 2000  # pictures whose nearest neighbour is looked for


# Fewer steps, in which sense: implicit midpoint beside the best explicit ones; settles or evaluations a step.
STEPS_COMPARED = (
    *(("implicit-midpoint", n) for n in (2, 4, 8)),
    *(("implicit-euler", n) for n in (4, 8)),
    *((name, n) for name in ("dpm-solver++2m", "unipc") for n in (4, 8, 16)),
    ("ddim", 8),
    ("ddim", 32),
)
STEPS_SCHEDULES = ("flow", "edm", "log")  # each sampler gets its best, by path error


def sampled(name: str, kind: str, steps: int, schedule: str) -> dict[str, float]:
    """A sampler on the bare net: path error to the net's ODE, FD*, class agreement, evaluations a sample."""
    key = {"row": "picture steps", "net": load_checkpoint(name).card.sha256, "scheme": kind, "steps": steps}
    key |= {"schedule": schedule, "n": LOOP_SAMPLES, "v": 1}

    def work() -> dict[str, float]:
        """The sampler on the net in float64, its pictures judged."""
        net, pictures = load_checkpoint(name).network, picture_set(name)
        ids = np.arange(LOOP_SAMPLES)
        labels = ids * net.n_classes // LOOP_SAMPLES
        x = start_noise(ids, net.sizes[0], seed=SEEDS[0], sigma_max=SIGMA_MAX)
        machine = HostMachine(net, labels=labels)
        how = Sampler(scheme(kind), sigmas(schedule, steps, SIGMA_MAX, SIGMA_MIN))  # type: ignore[arg-type]
        latents = how.run(machine, x, sample_id=ids, seed=SEEDS[0])
        shown = pictures.decode(latents)
        scores = pictures.scores(shown)
        return {
            "path": path_error(latents, drawn(name, "ode", SEEDS[0], LOOP_SAMPLES)[0]),
            "star": scores.frechet_star if scores else float("nan"),
            "agreement": pictures.agreement(shown, labels),
            "nfe": float(machine.nfe),
        }

    return cell(key, work)


def drawn(name: str, where: str, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(latents, labels) of one sampler: the net's "ode", or the loop of a rig."""
    net = load_checkpoint(name).network
    ids = np.arange(count)
    labels = ids * net.n_classes // count
    x = start_noise(ids, net.sizes[0], seed=seed, sigma_max=SIGMA_MAX)
    if where == "ode":
        how = Sampler(scheme("heun"), sigmas("flow", 64, SIGMA_MAX, SIGMA_MIN))
        return how.run(HostMachine(net, labels=labels), x, sample_id=ids, seed=seed), labels
    with open_named(where, seed=seed) as rig:
        return stepped(rig, net, x, labels, seed), labels


def stepped(rig: Rig, net: RowTableNetwork, x: FloatArray, labels: IntArray, seed: int) -> FloatArray:
    """Latents [B, L] that a rig's loop makes of start noise x [B, L]."""
    ids = np.arange(len(x))
    how = Sampler(scheme("implicit-midpoint"), sigmas("flow", STEPS, SIGMA_MAX, SIGMA_MIN))
    program = compile_program(net, how, rig.engine.n_channels)
    rig.engine.load(program)
    machine = LoopMachine(rig.engine, net, program, labels=labels, sample_id=ids)
    return how.run(machine, x, sample_id=ids, seed=seed)


def scored(name: str, where: str, seed: int, count: int) -> dict[str, float]:
    """Everything a sampler's pictures are measured by; the path error is to the same net's own ODE."""
    key = {"row": "pictures", "net": load_checkpoint(name).card.sha256, "where": where}
    key |= {"seed": seed, "n": count, "v": 1}

    def work() -> dict[str, float]:
        """Pictures of that sampler, judged."""
        pictures = picture_set(name)
        latents, labels = drawn(name, where, seed, count)
        shown = pictures.decode(latents)
        scores = pictures.scores(shown)
        ends = latents if where == "ode" else drawn(name, "ode", seed, count)[0]
        return {
            "agreement": pictures.agreement(shown, labels),
            "star": scores.frechet_star if scores else float("nan"),
            "density": scores.density if scores else float("nan"),
            "coverage": scores.coverage if scores else float("nan"),
            "path": path_error(latents, ends),
        }

    return cell(key, work)


def nearest(name: str) -> dict[str, float] | None:
    """Medians of the distance to the nearest training picture; None where the data set is not here."""
    pictures = picture_set(name)
    if not is_present(pictures.name):
        return None
    key = {"row": "nearest", "net": load_checkpoint(name).card.sha256, "n": COPIES, "v": 1}

    def work() -> dict[str, float]:
        """Distances of made, test and decoded test pictures."""
        train = load(pictures.name, "train")[0].astype(np.float32) / 255
        test = load(pictures.name, "test")[0][:COPIES].astype(np.float32) / 255
        made = pictures.decode(drawn(name, "ode", 1, SAMPLES)[0][:: SAMPLES // COPIES])
        # Decoded pictures are smooth and so nearer to anything: their fair standard is decoded test pictures.
        rows = {"made": made, "test": test, "decoded": pictures.autoencoder.reconstruct(test)}
        found = {what: nearest_pictures(shown, train).distance for what, shown in rows.items()}
        out = {what: float(np.median(distance)) for what, distance in found.items()}
        return out | {f"{what}_low": float(np.quantile(distance, 0.01)) for what, distance in found.items()}

    return cell(key, work)


def witness(name: str, critic: str) -> dict[str, float] | None:
    """FD* in the features of another net, which no autoencoder was trained with; needs the data set."""
    pictures = picture_set(name)
    if not is_present(pictures.name) or not (zoo_folder() / f"{critic}.safetensors").is_file():
        return None
    other, card = load_classifier(critic)
    key = {"row": "witness", "net": load_checkpoint(name).card.sha256, "critic": card["sha256"], "v": 1}

    def work() -> dict[str, float]:
        """Both in the other net's features."""

        def moments(shown: Any) -> FeatureMoments:
            return FeatureMoments.of(other.features(shown))

        test = load(pictures.name, "test")[0]
        train = moments(load(pictures.name, "train")[0])
        floor = frechet_distance(moments(test), train)
        noise = np.random.Generator(np.random.Philox(0)).standard_normal((SAMPLES, pictures.latent))
        gaussian = frechet_distance(moments(pictures.decode(noise)), train)
        made = pictures.decode(drawn(name, "ode", 1, SAMPLES)[0])
        rows = {"decoded": pictures.autoencoder.reconstruct(test), "made": made}
        return {
            what: frechet_star(frechet_distance(moments(shown), train), floor, gaussian)
            for what, shown in rows.items()
        }

    return cell(key, work)


def table(say: Say, draw: Draw, verdict: Verdict) -> None:
    """The pictures' rows of the page, set by set."""
    for name in BARS:
        say(f"## Pictures: {picture_set(name).name}, {len(SEEDS)} seeds")
        say("")
        say(
            "FD* is in the features of our own judge, never FID. The autoencoder was trained with a perceptual "
            "term in those features; where the data set is here, another net's features stand beside."
        )
        say("")
        draw(["figure", "value", "seeds", "bar"], _quality_rows(name, verdict))
        say("")
        say(f"Loop, implicit midpoint N = {STEPS}, n = {LOOP_SAMPLES:,}; path error to the same net's ODE")
        say("")
        draw(["where", "class agreement", "FD*", "path error"], _loop_rows(name, verdict))
        say("")
        say(
            f"Steps: the float net, one seed, n = {LOOP_SAMPLES:,}, same final denoise; each its best schedule."
        )
        say(
            "NFE: evaluations of the network on a digital computer (a settle is iterated to 1e-9 sigma there);"
        )
        say(
            "trips and time: the machine's, a settle or an evaluation is 745 trips and 14.9 us at the adm profile."
        )
        say("")
        draw(
            ["scheme", "N", "schedule", "path error", "FD*", "class agreement", "NFE", "trips", "time"],
            _steps_rows(name),
        )
        say("")


def _quality_rows(name: str, verdict: Verdict) -> list[list[str]]:
    """The nets alone against their bars, and what stands beside."""
    ode_bar, coder_bar, agreement_bar = BARS[name]
    card = load_checkpoint(name).card
    ode = [scored(name, "ode", s, SAMPLES) for s in SEEDS]
    star, coder = _mean(ode, "star"), _card(f"{name}_reference")["frechet_star_reconstructions"]
    agreed = _mean(ode, "agreement")
    return [
        ["FD* of the net's ODE", f"{star:.3f}", _range(ode, "star"),
         f"<= {ode_bar}: {verdict(star <= ode_bar)}"],
        ["FD* of the autoencoder alone", f"{coder:.4f}", "", f"<= {coder_bar}: {verdict(coder <= coder_bar)}"],
        ["class agreement of the ODE", f"{agreed:.3f}", _range(ode, "agreement"),
         f">= {agreement_bar}: {verdict(agreed >= agreement_bar)}"],
        ["class agreement, reconstructions", f"{card.metrics['class_agreement_reconstructions']:.3f}", "", ""],
        ["density", f"{_mean(ode, 'density'):.2f}", _range(ode, "density"), ""],
        ["coverage", f"{_mean(ode, 'coverage'):.3f}", _range(ode, "coverage"), ""],
        *_sequence_rows(name),
        *_control_row(name),
        *_data_rows(name),
    ]  # fmt: skip


def _loop_rows(name: str, verdict: Verdict) -> list[list[str]]:
    """The ideal loop, the noisy 4-bit one, and how far apart they may be."""
    ideal = [scored(name, "optical-ideal", s, LOOP_SAMPLES) for s in SEEDS]
    noisy = [scored(f"{name}-4bit", "optical-twin", s, LOOP_SAMPLES) for s in SEEDS]
    drop = _mean(ideal, "agreement") - _mean(noisy, "agreement")
    ratio = _mean(noisy, "star") / _mean(ideal, "star")
    rows = [
        [label, *(f"{_mean(cells, key):.3f}" for key in ("agreement", "star", "path"))]
        for label, cells in (("ideal loop", ideal), ("noisy 4-bit loop", noisy))
    ]
    bars = [
        "bars",
        f"drop {drop:+.3f} <= {AGREEMENT_DROP}: {verdict(drop <= AGREEMENT_DROP)}",
        f"ratio {ratio:.2f} <= {FRECHET_RATIO}: {verdict(ratio <= FRECHET_RATIO)}",
        "",
    ]
    return [*rows, bars]


def _steps_rows(name: str) -> list[list[str]]:
    """Samplers on the bare net, each at the schedule of its least path error."""
    rows = []
    for kind, steps in STEPS_COMPARED:
        tried = {k: sampled(name, kind, steps, k) for k in STEPS_SCHEDULES}
        best = min(tried, key=lambda k: tried[k]["path"])
        one, settles = tried[best], steps + 1
        rows.append(
            [kind, str(steps), best, f"{one['path']:.3f}", f"{one['star']:.3f}", f"{one['agreement']:.3f}",
             f"{one['nfe']:.0f}", f"{settles * 745:,}", f"{settles * 14.9:.0f} us"]
        )  # fmt: skip
    return rows


def _sequence_rows(name: str) -> list[list[str]]:
    """Four machines in sequence: the larger net's own ODE, and the noisy 4-bit loop that runs it part by part."""
    rows = []
    for label, net, where, count in (
        ("four machines in sequence: ODE", f"{name}_x4", "ode", SAMPLES),
        ("four machines in sequence: noisy 4-bit loop", f"{name}_x4-4bit", "optical-twin", LOOP_SAMPLES),
    ):
        cells = [scored(net, where, s, count) for s in SEEDS]
        shown = f"FD* {_mean(cells, 'star'):.3f}, agreement {_mean(cells, 'agreement'):.3f}"
        path = f", path error {_mean(cells, 'path'):.3f}" if where != "ode" else ""
        rows.append([label, shown + path, _range(cells, "star"), ""])
    return rows


def _control_row(name: str) -> list[list[str]]:
    """What more weights would buy: a digital net of 48 times as many, on the host; trained where data is."""
    recipe = f"{name}_wide"
    path = CACHE / f"{recipe}.safetensors"
    if not path.is_file():
        if not is_present(picture_set(name).name):
            return []
        content = tomllib.loads(shipped_recipes()[recipe].read_text(encoding="utf-8"))
        train_pictures(parse_picture_recipe(content, recipe), out=CACHE)
    cells = [scored(str(path), "ode", s, SAMPLES) for s in SEEDS]
    shown = f"FD* {_mean(cells, 'star'):.3f}, agreement {_mean(cells, 'agreement'):.3f}"
    return [["control: a digital net of 48 times the weights", shown, _range(cells, "star"), ""]]


def _data_rows(name: str) -> list[list[str]]:
    """What needs the data set: nearest neighbours, and another net's FD*."""
    rows = []
    if near := nearest(name):
        rows.append(
            [
                "nearest training picture, rms of a pixel: median (1%)",
                f"{near['made']:.3f} ({near['made_low']:.3f})",
                f"decoded test {near['decoded']:.3f} ({near['decoded_low']:.3f}), "
                f"test {near['test']:.3f} ({near['test_low']:.3f})",
                "",
            ]
        )
    if other := witness(name, f"{name}_critic"):
        shown = f"ODE {other['made']:.3f}, autoencoder {other['decoded']:.3f}"
        rows.append(["FD* in a net's features that had no part in training", shown, "", ""])
    return rows


def _card(name: str) -> dict[str, float]:
    content = json.loads((zoo_folder() / f"{name}.json").read_text(encoding="utf-8"))
    metrics: dict[str, float] = content["metrics"]
    return metrics


def _mean(cells: list[dict[str, float]], key: str) -> float:
    return float(np.mean([c[key] for c in cells]))


def _range(cells: list[dict[str, float]], key: str) -> str:
    values = [c[key] for c in cells]
    return f"{min(values):.3f} to {max(values):.3f}"


def _alone() -> None:
    sheet = Sheet()
    table(sheet.say, sheet.rows, verdict)


if __name__ == "__main__":
    _alone()
