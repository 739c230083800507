"""Camera against ADC read-out: the same settles read both ways, the difference in units of its own budget.

A settle's draws do not depend on who watches, so each chain's settles are made twice, once read by the ADC and
once by the camera. Their difference over its predicted standard deviation should be a standard normal. The
prediction is the camera's budget (light and data sheet: shot, dark, read, rounding; the flat and pedestal that
its calibration left, common to all samples) and, for the ADC's side, its rounding. Printed with the loop's own
noise off, where that is all there is, and on, where the two look at the loop's noise at different times; then
the ADC's spread over repeats is added. The bar is for loops at rest (80 tau). At the profile's own wait a few
samples (on the ridge between modes) still move; window and exposure then see them at different times: that table
is printed beside, without a bar.

    python benchmarks/camera.py [--samples 2000] [--protocol sample_moons]

`bars.py` prints the same tables on its page.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import common
import numpy as np
from sheet import Sheet, verdict

from labctl.engines import Batch, FixedPointResult, OpticalLoopEngine
from labctl.procedures import Chain, chains_of, load_protocol
from labctl.programs import LoopSegment
from labctl.rig import Rig, open_rig
from labctl.sampling import LoopMachine

Say = Callable[[str], None]
Draw = Callable[[list[str], list[list[str]]], None]
Verdict = Callable[[bool], str]

PROTOCOL, SAMPLES = "sample_moons", 2000
RMS_BAR = 1.2
REST_TAU = 80.0
FAR = 5.0  # standard deviations
BIAS_BAR = 3.0  # standard errors, calibration's own included
QUANTILES = (0.01, 0.16, 0.50, 0.84, 0.99)
NORMAL = (-2.33, -1.0, 0.0, 1.0, 2.33)


@dataclass(frozen=True)
class Row:
    """One segment's comparison over samples and rows."""

    name: str
    rows: int
    rms: float
    quantiles: tuple[float, ...]
    far: float  # share beyond FAR standard deviations
    biased: float  # rms over rows of (mean difference / its standard error)
    most_biased: float  # the worst row of that
    camera_units: float
    other_units: float
    transient_share: float
    transient_percent: float


class Recorder:
    """An engine that keeps what it was asked to settle."""

    def __init__(self, engine: OpticalLoopEngine) -> None:
        self.engine, self.asked = engine, []
        self.name, self.n_channels = engine.name, engine.n_channels
        self.load, self.light = engine.load, engine.light
        self.measured_weights = engine.measured_weights

    def solve(self, segment: LoopSegment, batch: Batch, *, audit: int = 0) -> FixedPointResult:
        """As the engine; a copy of the batch is kept."""
        self.asked.append((segment, batch))
        return self.engine.solve(segment, batch, audit=audit)


def engine_of(rig: Rig) -> OpticalLoopEngine:
    """The rig's engine, which settles on a machine."""
    if not isinstance(rig.engine, OpticalLoopEngine):
        raise SystemExit(f"rig {rig.name} has no loop")
    return rig.engine


def batches_of(rig: Rig, chain: Chain) -> list[tuple[LoopSegment, Batch]]:
    """The settles of the chain itself, as the ADC's run asks for them."""
    engine = engine_of(rig)
    rig.set_readout("adc")
    engine.load(chain.program)
    recorder = Recorder(engine)
    machine = LoopMachine(
        recorder, chain.subject.network, chain.program, labels=chain.labels, sample_id=chain.sample_id
    )
    chain.sampler.run(machine, chain.x_start, sample_id=chain.sample_id, seed=chain.recipe.seed)
    return recorder.asked


def repeated(batch: Batch, repeats: int) -> Batch:
    """A share of a batch, each sample `repeats` times with draws of its own."""
    count = len(batch.inject) // repeats
    return Batch(
        np.repeat(batch.inject[:count], repeats, axis=0),
        np.repeat(batch.start[:count], repeats, axis=0),
        None if batch.labels is None else np.repeat(batch.labels[:count], repeats),
        np.arange(count * repeats),
        batch.step_id,
    )


def quiet_loop(rig: Rig) -> None:
    """The loop's noise off, the camera's on."""
    rig.world.noise = rig.world.profile.noise.scaled(0.0)


def compare(rig: Rig, chain: Chain, *, loop_noise: bool, at_rest: bool) -> list[Row]:
    """Every segment of a chain, read both ways."""
    engine = engine_of(rig)
    asked, read = batches_of(rig, chain), {}
    spec = engine.electronics.spec
    wait_us = REST_TAU * spec.tau_us if at_rest else None
    for kind in ("adc", "camera"):
        rig.set_readout(kind)
        rig.set_noise_scale(1.0)
        if not loop_noise:
            quiet_loop(rig)
        engine.load(chain.program)
        for index, (segment, batch) in enumerate(asked):
            read[kind, index] = engine.solve(
                segment, batch, audit=64 if kind == "camera" else 0, wait_us=wait_us
            )
            if loop_noise and kind == "adc":
                z = engine.solve(segment, repeated(batch, 16), wait_us=wait_us).z.reshape(
                    -1, 16, engine.n_channels
                )
                # the median point: one on a ridge between modes jumps
                read["spread", index] = np.median(z.std(axis=1, ddof=1), axis=0)
    rows = []
    rounding = spec.adc.units_per_code / np.sqrt(12)
    for index, (segment, _) in enumerate(asked):
        adc, seen = read["adc", index], read["camera", index]
        watched = chain.program.watched(segment)
        camera = seen.camera
        if camera is None:
            raise SystemExit("the engine read no camera")
        inside = (np.abs(adc.z) < 0.99 * spec.adc.range_units)[:, watched]
        difference = (seen.z - adc.z)[:, watched]
        other = read["spread", index][watched] if loop_noise else rounding
        own = camera.random_sd[:, watched]
        single = np.sqrt(own**2 + other**2)
        common_sd = camera.common_sd[:, watched]
        ratio = (difference / np.sqrt(single**2 + common_sd**2))[inside]
        bias = []
        for row in np.flatnonzero(inside.any(axis=0)):
            use = inside[:, row]
            error = np.sqrt((single[use, row] ** 2).mean() / use.sum() + (common_sd[use, row] ** 2).mean())
            bias.append(difference[use, row].mean() / error)
        share, left = rig.readout_summary(), seen.transient
        rows.append(
            Row(
                name=f"{segment.kind} sigma {segment.sigma:.3g}",
                rows=len(bias),
                rms=float(np.sqrt(np.mean(ratio**2))),
                quantiles=tuple(float(q) for q in np.quantile(ratio, QUANTILES)),
                far=float((np.abs(ratio) > FAR).mean()),
                biased=float(np.sqrt(np.mean(np.square(bias)))),
                most_biased=float(np.abs(bias).max()),
                camera_units=float(np.sqrt((own**2).mean())),
                other_units=float(np.sqrt(np.mean(np.square(other)))),
                transient_share=float(share["camera_transient_share_p95"]),
                transient_percent=100 * float(np.quantile(left, 0.95)) / spec.adc.range_units,
            )
        )
    return rows


def show(say: Say, draw: Draw, verdict: Verdict, title: str, rows: list[Row], *, bar: bool) -> None:
    """A table; with `bar`, whether every row meets the bars."""
    say(f"### {title}")
    say("")
    draw(
        ["settle", "rows", "rms of ratio", *(f"q{100 * q:.0f}" for q in QUANTILES), f"beyond {FAR:g}, 1e-3",
         "bias, s.e.: rms over rows", "worst row", "camera sd, units", "ADC side sd, units", "transient p95, % FS"],
        [
            [r.name, str(r.rows), f"{r.rms:.3f}", *(f"{q:+.2f}" for q in r.quantiles), f"{1e3 * r.far:.2f}",
             f"{r.biased:.2f}", f"{r.most_biased:.2f}", f"{r.camera_units:.5f}", f"{r.other_units:.5f}",
             f"{r.transient_percent:.2f}"]
            for r in rows
        ],
    )  # fmt: skip
    if bar:
        met = all(r.rms <= RMS_BAR and r.most_biased <= BIAS_BAR for r in rows)
        say(f"rms <= {RMS_BAR}, bias of the worst row <= {BIAS_BAR} standard errors: {verdict(met)}")
        say("")


def table(
    say: Say, draw: Draw, verdict: Verdict, *, protocol: str = PROTOCOL, samples: int = SAMPLES
) -> None:
    """The camera's part of the page: three tables, two with the bar."""
    say(f"## Camera against ADC, {protocol} on optical-twin, {samples:,} settles a row")
    say("")
    say(
        "Difference of the two read-outs of a settle, over its predicted standard deviation; of a standard normal"
    )
    say(f"the quantiles shown are {', '.join(f'{q:+.2f}' for q in NORMAL)}.")
    say("")
    with open_rig("optical-twin") as rig:
        chain = chains_of(load_protocol(protocol, {"samples": samples}), rig, lambda *_: None)[0]
        for noise in (False, True):
            word = "on" if noise else "off: the camera's own budget"
            rows = compare(rig, chain, loop_noise=noise, at_rest=True)
            show(say, draw, verdict, f"At rest, loop noise {word}", rows, bar=True)
        shipped = compare(rig, chain, loop_noise=True, at_rest=False)
        show(say, draw, verdict, "At the profile's wait, loop noise on", shipped, bar=False)
        say("Read-out: " + ", ".join(f"{k} {v:.4g}" for k, v in rig.readout_summary().items()))
        say("")


def main() -> None:
    """The page of results, on its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--protocol", default=PROTOCOL)
    arguments = parser.parse_args()
    sheet = Sheet()
    table(sheet.say, sheet.table, verdict, protocol=arguments.protocol, samples=arguments.samples)


if __name__ == "__main__":
    common.torch.set_num_threads(1)
    main()
