"""Host loop against analog loop, same program: the states' difference over the standard deviation derived for it.

Each settle of a chain is made twice: by the analog loop (`optical-twin`, noise off, 80 tau: where it comes to rest)
and by the host's loop on a bench of emitters, panel and camera (`optical-host`, noise on), which is given the gains,
leaks and biases that reached the analog machine as codes. Both measure offsets and weights for themselves. The
prediction: the camera's budget (EMVA 1288: shot, dark, read, rounding; what calibration left of the spots' gains and
of the pedestal), the emitters' rounding, all carried through spot extraction and the Jacobian of the host's loop, and
the rounding of the analog loop's ADC. Days (the bench's seed) are pooled: calibrations are new on each.

Bounds follow from the number of draws. Rows of a sample share its frames, so that a settle has as many draws as
samples; of what calibration leaves it has one a day. The mean square over the prediction is within chi-square's
99.9% for all settles of the page together, the worst row's bias within the normal's. Where a start lies on the edge
between two roots, noise can choose: such samples are found by following both states without noise, and counted.

    python benchmarks/host_loop.py [--samples 64] [--days 3] [--models moons ...]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import camera
import common
import numpy as np
from scipy.stats import chi2, norm
from sheet import Sheet, verdict

from labctl.devices import Outcome
from labctl.engines import Batch, DigitalEngine, OpticalHostLoopEngine
from labctl.engines.optical_loop import SETTLE_BAND
from labctl.procedures import Chain, chains_of, load_protocol
from labctl.programs import LoopSegment
from labctl.rig import Rig, open_rig

MODELS = ("moons", "swiss_roll", "gaussians", "gaussians_unequal", "checkerboard", "fashion")
PROTOCOLS = {"fashion": "sample_fashion_latent"}  # of which model and samples are replaced
SAMPLES, DAYS = 64, (1, 2, 3)
CONFIDENCE = 0.999
FAR = 5.0  # standard deviations


@dataclass(frozen=True, eq=False)
class Asked:
    """One settle: what the analog loop was given, as it reached it, and where it came to rest [B, n]."""

    segment: LoopSegment
    batch: Batch
    root: np.ndarray
    rounding: float
    rows: slice
    analog_us: float


@dataclass(frozen=True)
class Row:
    """One settle over samples, rows and days."""

    model: str
    name: str
    draws: int
    rms: float
    low: float
    high: float
    bias: float
    bias_rows: int
    far: float
    predicted: float
    common: float
    converged: float
    other: int
    exposures: tuple[float, float]
    host_ms: float
    analog_us: float


def analog_settles(model: str, samples: int) -> tuple[Chain, list[Asked]]:
    """The settles of a chain on the analog loop, noise off and at rest, with the knobs that reached it."""
    with open_rig("optical-twin") as rig:
        protocol = load_protocol(PROTOCOLS.get(model, "sample_moons"), {"model": model, "samples": samples})
        chain = chains_of(protocol, rig, lambda *_: None)[0]
        engine = camera.engine_of(rig)
        asked = camera.batches_of(rig, chain)
        rig.set_noise_scale(0.0)
        engine.load(chain.program)
        spec, unit = engine.electronics.spec, engine.electronics.spec.dac.units_per_code
        tables = {
            id(s): t for s, t in zip(chain.program.segments, engine.tables_of(chain.program), strict=True)
        }
        out = []
        for segment, batch in asked:
            found = engine.solve(segment, batch, wait_us=camera.REST_TAU * spec.tau_us)
            bias = tables[id(segment)].bias_codes * unit
            row = np.zeros(len(batch.inject), int) if batch.labels is None else batch.labels
            own = found.applied.inject_codes * unit - bias[row, chain.program.placement.state]
            reached = replace(segment, gain=found.applied.gain, leak=found.applied.leak, bias=bias)
            out.append(
                Asked(
                    reached,
                    replace(batch, inject=own / segment.inject_scale),
                    found.z,
                    spec.adc.units_per_code / np.sqrt(12),
                    chain.program.watched(segment),
                    spec.wait_us + spec.window_us,
                )
            )
    return chain, out


def host(rig: Rig) -> OpticalHostLoopEngine:
    """The rig's engine, which closes the loop in the host."""
    if not isinstance(rig.engine, OpticalHostLoopEngine):
        raise SystemExit(f"rig {rig.name} is no host loop")
    return rig.engine


def compare(model: str, samples: int, days: tuple[int, ...]) -> tuple[list[Row], dict[str, float]]:
    """Every settle of a chain, by both loops; and the terms of the last settle's budget (rms, units of y)."""
    chain, settles = analog_settles(model, samples)
    kept: dict[int, list[tuple[np.ndarray, ...]]] = {k: [] for k in range(len(settles))}
    shares: dict[str, float] = {}
    for day in days:
        with common.open_named("optical-host", seed=day) as rig:
            engine = host(rig)
            engine.load(chain.program)
            for k, asked in enumerate(settles):
                found = engine.solve(asked.segment, asked.batch)
                rows = asked.rows
                other = elsewhere(engine, chain, asked, found.z)
                inside = np.abs(asked.root[:, rows]) < 0.99 * 3.8  # of the analog loop's ADC
                kept[k].append(
                    (
                        np.where(inside, (found.z - asked.root)[:, rows], np.nan),
                        found.noise.random[:, rows],
                        found.noise.common[:, rows],
                        found.iterations,
                        (found.outcome == Outcome.CONVERGED) & ~other,
                        other,
                        np.array(found.ledger.device_us / samples),
                    )
                )
            shares = engine.budget(found.z).shares()
    return [_row(model, asked, kept[k], k, len(settles)) for k, asked in enumerate(settles)], shares


def elsewhere(engine: OpticalHostLoopEngine, chain: Chain, asked: Asked, z: np.ndarray) -> np.ndarray:
    """Samples [B] that came to rest at another root than the analog loop, however close the start was to the edge
    between them: both states followed to their roots without noise.
    """
    digital = DigitalEngine(engine.n_channels)
    digital.load(chain.program, weights=engine.measured_weights())
    ends = [digital.solve(asked.segment, replace(asked.batch, start=start)).z for start in (z, asked.root)]
    return np.abs(ends[0] - ends[1])[:, asked.rows].max(axis=1) > SETTLE_BAND * 3.8


def _row(model: str, asked: Asked, kept: list[tuple[np.ndarray, ...]], k: int, settles: int) -> Row:
    error, random, common_sd, iterations, converged, other, device_us = (
        np.stack(part) for part in zip(*kept, strict=True)
    )
    own = random**2 + asked.rounding**2
    variance = own + common_sd**2
    use = converged[..., None] & ~np.isnan(error)
    ratio = np.where(use, error / np.sqrt(variance), np.nan)
    shared = float(np.nanmean(np.where(use, common_sd**2 / variance, np.nan)))
    draws, days = int(use.any(axis=2).sum()), len(kept)
    tail = (1 - CONFIDENCE) / 2 / settles / len(MODELS)
    low = (1 - shared) * chi2.ppf(tail, draws) / draws
    high = (1 - shared) * chi2.ppf(1 - tail, draws) / draws + shared * chi2.ppf(1 - tail, days) / days
    bias = []
    for row in range(error.shape[2]):
        counts = use[..., row].sum(axis=1)
        seen = counts > 0
        if not seen.any():
            continue
        mean = np.array([error[day, use[day, :, row], row].mean() for day in np.flatnonzero(seen)])
        var = [
            own[day, use[day, :, row], row].mean() / counts[day]
            + (common_sd[day, use[day, :, row], row] ** 2).mean()
            for day in np.flatnonzero(seen)
        ]
        bias.append(mean.sum() / np.sqrt(np.sum(var)))
    return Row(
        model=model,
        name=f"{asked.segment.kind} σ {asked.segment.sigma:.3g}",
        draws=draws,
        rms=float(np.sqrt(np.nanmean(ratio**2))),
        low=float(np.sqrt(low)),
        high=float(np.sqrt(high)),
        bias=float(np.abs(bias).max()),
        bias_rows=len(bias),
        far=float(np.nanmean(np.where(use, np.abs(ratio) > FAR, np.nan))),
        predicted=float(np.sqrt(np.nanmedian(np.where(use, own, np.nan)))),
        common=float(np.sqrt(np.nanmedian(np.where(use, common_sd**2, np.nan)))),
        converged=float(converged.mean()),
        other=int(other.sum()),
        exposures=(float(np.median(iterations)), float(iterations.max())),
        host_ms=float(np.median(device_us)) * 1e-3,
        analog_us=asked.analog_us,
    )


def main() -> None:
    """The page of results, printed and written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--days", type=int, nargs="+", default=list(DAYS))
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--out", type=Path, default=common.RESULTS / "host_loop.md")
    arguments = parser.parse_args()
    sheet = Sheet()
    sheet.say("# Host loop against analog loop, same program")
    sheet.say()
    for line in __doc__.strip().splitlines()[2:-2]:
        sheet.say(line)
    sheet.say()
    sheet.say(
        f"{arguments.samples} samples a settle, {len(arguments.days)} days; watched rows, samples that converged to the analog loop's root."
    )
    sheet.say()
    rows, shares = [], {}
    for model in arguments.models:
        found, shares[model] = compare(model, arguments.samples, tuple(arguments.days))
        rows += found
    bias_bound = float(norm.ppf(1 - (1 - CONFIDENCE) / 2 / sum(r.bias_rows for r in rows)))
    sheet.table(
        ["network", "settle", "rms of ratio", "allowed", "worst row's bias, s.e.", f"beyond {FAR:g}", "sd of a state",
         "of which common", "converged", "other root", "exposures: median, most", "host, ms a settle", "analog, us"],
        [
            [r.model, r.name, f"{r.rms:.3f}", f"{r.low:.2f} to {r.high:.2f}", f"{r.bias:.2f}", f"{r.far:.2%}",
             f"{r.predicted:.5f}", f"{r.common:.5f}", f"{r.converged:.1%}", str(r.other),
             f"{r.exposures[0]:.0f}, {r.exposures[1]:.0f}", f"{r.host_ms:.1f}", f"{r.analog_us:.1f}"]
            for r in rows
        ],
    )  # fmt: skip
    within = all(r.low <= r.rms <= r.high for r in rows)
    unbiased = all(r.bias <= bias_bound for r in rows)
    sheet.say(f"rms within the allowed range on every settle: {verdict(within)}")
    sheet.say(f"bias of every row within {bias_bound:.2f} standard errors: {verdict(unbiased)}")
    sheet.say()
    sheet.say("Terms of the camera's budget at the last settle, one exposure, rms in units of y:")
    sheet.say()
    names = list(next(iter(shares.values())))
    sheet.table(["network", *names], [[m, *(f"{s[n]:.5f}" for n in names)] for m, s in shares.items()])
    sheet.write(arguments.out)


if __name__ == "__main__":
    common.torch.set_num_threads(1)
    main()
