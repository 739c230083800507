"""Camera against ADC read-out: the same settles read both ways, the difference in units of its own budget.

A settle's draws do not depend on who watches, so each chain's settles are made twice, once read by the ADC and
once by the camera. Their difference over its predicted standard deviation should be a standard normal. The
prediction is the camera's budget (light and data sheet: shot, dark, read, rounding; the flat and pedestal that
its calibration left, common to all samples) and, for the ADC's side, its rounding. Printed with the loop's own
noise off, where that is all there is, and on, where the two look at the loop's noise at different times; then
the ADC's spread over repeats is added.

    python benchmarks/camera.py [--samples 2000] [--protocol sample_moons]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import common
import numpy as np
from labctl_sim_devices import OpticalBench

from labctl.engines import Batch, OpticalLoopEngine
from labctl.procedures import Chain, chains_of, load_protocol
from labctl.rig import Rig, open_rig
from labctl.sampling import HostMachine, asks_of, start_noise

RMS_BAR = 1.2
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
    biased: float  # rms over rows of (mean difference / its standard error)
    camera_units: float
    other_units: float
    transient_share: float
    transient_percent: float


def batch_of(chain: Chain, index: int, repeats: int = 1) -> Batch:
    """Typical injections of one settle: states on the data's own path at its noise level."""
    segment, ask = chain.program.segments[index], asks_of(chain.sampler)[index]
    count = len(chain.sample_id) // repeats
    ids = np.arange(count)
    labels = None if chain.labels is None else chain.labels[:: len(chain.labels) // count][:count]
    d = chain.x_start.shape[1]
    x = start_noise(ids, d, seed=index, sigma_max=ask.sigma)
    host = HostMachine(chain.subject.network, labels=labels)
    x = x + host.denoise(x, ask.sigma)
    start = np.zeros((count, chain.program.weights.placement.n_channels))
    start[:, chain.program.weights.placement.state] = segment.inject_scale * x
    return Batch(
        np.repeat(x, repeats, axis=0),
        np.repeat(start, repeats, axis=0),
        None if labels is None else np.repeat(labels, repeats),
        np.arange(count * repeats),
        index,
    )


def quiet_loop(rig: Rig) -> None:
    """The loop's noise off, the camera's on."""
    world = rig.world
    assert isinstance(world, OpticalBench)
    world.noise = world.profile.noise.scaled(0.0)


def compare(rig: Rig, chain: Chain, *, loop_noise: bool) -> list[Row]:
    """Every segment of a chain, read both ways."""
    engine = rig.engine
    assert isinstance(engine, OpticalLoopEngine)
    read = {}
    for kind in ("adc", "camera"):
        rig.set_readout(kind)
        rig.set_noise_scale(1.0)
        if not loop_noise:
            quiet_loop(rig)
        engine.load(chain.program)
        for index, segment in enumerate(chain.program.segments):
            batch = batch_of(chain, index)
            read[kind, index] = engine.solve(segment, batch, audit=64 if kind == "camera" else 0)
            if loop_noise and kind == "adc":
                again = batch_of(chain, index, repeats=16)
                z = engine.solve(segment, again).z.reshape(-1, 16, engine.n_channels)
                # the median point: one on a ridge between modes jumps
                read["spread", index] = np.median(z.std(axis=1, ddof=1), axis=0)
    rows = []
    spec = engine.electronics.spec
    rounding = spec.adc.units_per_code / np.sqrt(12)
    for index, segment in enumerate(chain.program.segments):
        adc, seen = read["adc", index], read["camera", index]
        watched = chain.program.watched(segment)
        camera = seen.camera
        assert camera is not None
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
                biased=float(np.sqrt(np.mean(np.square(bias)))),
                camera_units=float(np.sqrt((own**2).mean())),
                other_units=float(np.sqrt(np.mean(np.square(other)))),
                transient_share=float(share["camera_transient_share_p95"]),
                transient_percent=100 * float(np.quantile(left, 0.95)) / spec.adc.range_units,
            )
        )
    return rows


def show(title: str, rows: list[Row]) -> bool:
    """A table; whether every row meets the bars."""
    print(f"\n## {title}\n")
    head = ["settle", "rows", "rms of ratio", *(f"q{100 * q:.0f}" for q in QUANTILES), "bias, s.e. (rms over rows)",
            "camera sd, units", "ADC side sd, units", "transient p95, % FS"]  # fmt: skip
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for r in rows:
        cells = [r.name, str(r.rows), f"{r.rms:.3f}", *(f"{q:+.2f}" for q in r.quantiles), f"{r.biased:.2f}",
                 f"{r.camera_units:.5f}", f"{r.other_units:.5f}", f"{r.transient_percent:.2f}"]  # fmt: skip
        print("| " + " | ".join(cells) + " |")
    met = all(r.rms <= RMS_BAR and r.biased <= BIAS_BAR for r in rows)
    print(f"\nrms <= {RMS_BAR}, bias <= {BIAS_BAR} standard errors: {'met' if met else '**missed**'}")
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--protocol", default="sample_moons")
    arguments = parser.parse_args()
    with open_rig("optical-twin") as rig:
        chain = chains_of(
            load_protocol(arguments.protocol, {"samples": arguments.samples}), rig, lambda *_: None
        )[0]
        print(f"# Camera against ADC, {arguments.protocol} on optical-twin, {arguments.samples} settles a row")
        print(f"ratio of a standard normal at the quantiles shown: {', '.join(f'{q:+.2f}' for q in NORMAL)}")
        show("Loop noise off: the camera's own budget", compare(rig, chain, loop_noise=False))
        print("\nread-out:", ", ".join(f"{k} {v:.4g}" for k, v in rig.readout_summary().items()))
        show("Loop noise on", compare(rig, chain, loop_noise=True))
        print("\nread-out:", ", ".join(f"{k} {v:.4g}" for k, v in rig.readout_summary().items()))


if __name__ == "__main__":
    common.torch.set_num_threads(1)
    main()
