"""Whole calibrations of drawn benches into a store, and what a run that finds its records there recovers.

    python benchmarks/whole_calibration.py [--units 20] [--foreign 20] [--timed 2]

Every procedure of `labctl calibrate` into a store. Then the shipped 4-bit networks on the same bench, opened anew
with that store: E as it came, and compensated by the records that the store gives. Damage recovered = 1 - mean(E_cal - E_ideal) / mean(E_naive - E_ideal)
(conventions, section 7), ideal being the noise-free loop. The foreign device is calibrated by the same procedures,
as far as its devices go. `--timed` units are calibrated into an empty store now, and looked at as the first
morning does, by the clock on the wall and the device's. All else resumes (a unit's records are kept in the cache);
results/whole_calibration.md holds the last run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import numpy as np
from common import RESULTS, cell, engine_energy, milli, open_named, records_of, rig_energy, sampler_of
from foreign import Foreign, ForeignRig
from labctl_calibration.bench import LOAD_PROBES
from labctl_calibration.bench import Bench as Known
from labctl_calibration.compensation import METHOD, compensate
from labctl_calibration.drift.morning import OpticalMorning, check_morning, panel_of
from labctl_calibration.optical.agreement import KIND as AGREEMENT
from labctl_calibration.optical.agreement import SETTLE_RATIO, SHARE, SHARE_UNSEEN
from labctl_calibration.session import Outcome, calibrate
from labctl_calibration.store import RecordStore
from sheet import Sheet, verdict

from labctl.devices import LoopElectronics, WeightModulator
from labctl.engines import OpticalLoopEngine
from labctl.models.checkpoint import load_checkpoint
from labctl.models.datasets import TOY_SETS
from labctl.models.network import RowTableNetwork
from labctl.rig import Rig, load_rig
from labctl.rig.calibrating import bench_of
from labctl.rig.config import RigConfig

SETS = ("moons", "gaussians_unequal")
SEED, STEPS, N = 1, 4, 4_000
PROBES = 6400
ASKED_UNITS = 20
MOST_WALL_S, MOST_MORNING_S = 180.0, 60.0
MEAN_BAR, WORST_BAR, FOREIGN_BAR, AIM = 0.95, 0.80, 0.85, 0.98
SHARE_BAR, SETTLE_BAR = 99.0, 0.10
VERSION = 4


@dataclass(frozen=True)
class Kind:
    """A population of benches: what its cells are kept under, the version of those of compensated runs, and the
    bar of what is recovered.
    """

    name: str
    row: str
    version: int
    bar: float


TWIN = Kind("the twin's", "whole", VERSION, MEAN_BAR)
FOREIGN = Kind("the foreign device's", "whole foreign", VERSION + 1, FOREIGN_BAR)


def config_of(unit: int) -> RigConfig:
    """The drawn bench of that number, every fault on."""
    config = load_rig("optical-unit")
    if config.world is None:
        raise SystemExit("optical-unit has no world")
    world = config.world.model_copy(update={"unit_seed": unit, "seed": unit})
    return config.model_copy(update={"world": world})


def told(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """What the calibration left: procedures measured, accepted and refused, and the agreement's quantities."""
    out = {
        "records": float(sum(one.stored is not None for one in outcomes)),
        "accepted": float(sum(one.accepted for one in outcomes)),
    }
    agreed = next((one for one in outcomes if one.procedure.kind == AGREEMENT), None)
    if agreed is not None and agreed.stored is not None:
        out |= {one.name: one.value for one in agreed.stored.about.quantities}
    return out


def calibrated(unit: int) -> dict[str, float]:
    """A whole calibration into the store of the unit."""
    with Rig(config_of(unit)) as rig:
        return told(list(calibrate(bench_of(rig, records_of(unit)))))


def timed_now(unit: int, folder: Path) -> dict[str, float]:
    """A whole calibration and the first morning check after it. Times of the device are by the twin's clock."""
    with Rig(config_of(unit)) as rig:
        bench = bench_of(rig, RecordStore(folder))
        began_us, began = rig.world.now_us, monotonic()
        out = told(list(calibrate(bench)))
        out |= {"session_s": monotonic() - began, "device_s": (rig.world.now_us - began_us) * 1e-6}
        modulator, electronics = rig.device(WeightModulator), rig.device(LoopElectronics)
        if not isinstance(rig.engine, OpticalLoopEngine):
            raise SystemExit("optical-unit has no loop")
        panel = panel_of(bench, modulator, electronics.spec.n_channels)
        prober = OpticalMorning(rig.engine, modulator, electronics, panel)
        began_us, began = rig.world.now_us, monotonic()
        check_morning(bench, prober, electronics)
        out |= {"morning_s": (rig.world.now_us - began_us) * 1e-6, "morning_wall_s": monotonic() - began}
    return out


def foreign_calibrated(unit: int) -> dict[str, float]:
    """The same procedures on a bench of other equations, as far as its devices go."""
    with ForeignRig(unit) as rig:
        return told(list(calibrate(bench_of(rig, records_of(f"foreign {unit}")))))


def run_by(engine: OpticalLoopEngine, known: Known, name: str) -> dict[str, float]:
    """E of a set's shipped network, compensated by the records as a run does."""
    coded, teacher = (load_checkpoint(one).network for one in (f"{name}-4bit", name))
    how = sampler_of("implicit-midpoint", "flow", STEPS)
    engine.use_bench(known.trims, partial(known.map_of, probes=LOAD_PROBES))
    network: RowTableNetwork = compensate(
        engine, known, coded, TOY_SETS[name], probes=PROBES - LOAD_PROBES, teacher=teacher,
        tell=lambda *_: None,
    )  # fmt: skip
    out = engine_energy(engine, network, name, SEED, how, N)
    return {"e": out["e"], "converged": out["converged"]}


def of_unit(kind: Kind, unit: int) -> dict[str, float]:
    """Everything of one unit: the calibration's figures, and E of each set before and after."""
    how = sampler_of("implicit-midpoint", "flow", STEPS)
    start = calibrated if kind is TWIN else foreign_calibrated
    found = dict(cell({"row": kind.row, "unit": unit, "v": VERSION}, partial(start, unit)))

    def ideal(name: str) -> dict[str, float]:
        with open_named("optical-ideal", seed=SEED) as rig:
            net = load_checkpoint(f"{name}-4bit").network
            return {"e": rig_energy(rig, net, name, SEED, how, N)["e"]}

    def naive(name: str) -> dict[str, float]:
        net = load_checkpoint(f"{name}-4bit").network
        if kind is FOREIGN:
            return {"e": engine_energy(Foreign(unit).engine(), net, name, SEED, how, N)["e"]}
        with open_named("optical-unit", seed=unit, unit_seed=unit) as rig:
            return {"e": rig_energy(rig, net, name, SEED, how, N)["e"]}

    def through(name: str) -> dict[str, float]:
        store = records_of(unit if kind is TWIN else f"foreign {unit}")
        with Rig(config_of(unit), store) if kind is TWIN else ForeignRig(unit, store) as rig:
            if not isinstance(rig.bench, Known) or not isinstance(rig.engine, OpticalLoopEngine):
                raise SystemExit(f"unit {unit}: the store gave no bench")
            return run_by(rig.engine, rig.bench, name)

    for name in SETS:
        at = {"set": name, "n": N, "v": VERSION}
        own = {**at, "unit": unit}
        found[f"{name} ideal"] = cell({"row": "whole ideal", **at}, partial(ideal, name))["e"]
        found[f"{name} naive"] = cell({"row": f"{kind.row} naive", **own}, partial(naive, name))["e"]
        key = {"row": f"{kind.row} through", **own, "v": kind.version, "method": repr(METHOD)}
        found[f"{name} cal"] = cell(key, partial(through, name))["e"]
    return found


def recovered_table(sheet: Sheet, kind: Kind, found: Sequence[dict[str, float]]) -> None:
    """Damage, what is left, what was recovered."""
    sheet.say(f"### Damage recovered through the store: {len(found)} units of {kind.name} population")
    sheet.say()
    sheet.say(f"E x 1e3, n = {N:,}, midpoint N = {STEPS}, {PROBES:,} probes; the shipped 4-bit networks.")
    sheet.say()
    rows = []
    for name in SETS:
        ideal = np.array([one[f"{name} ideal"] for one in found])
        damage = np.array([one[f"{name} naive"] for one in found]) - ideal
        left = np.array([one[f"{name} cal"] for one in found]) - ideal
        all_of, worst = 1 - left.mean() / damage.mean(), float((1 - left / damage).min())
        met = all_of >= kind.bar and (kind is FOREIGN or worst >= WORST_BAR)
        wanted = f"{100 * kind.bar:.0f}%" + ("" if kind is FOREIGN else f", worst {100 * WORST_BAR:.0f}%")
        rows.append(
            [name, f"{milli(damage.mean())} ({milli(damage.min())})", milli(left.mean()), milli(left.max()),
             f"{100 * all_of:.1f}%", f"{100 * worst:.1f}%", f">= {wanted}: {verdict(bool(met))}; aim "
             f"{100 * AIM:.0f}%: {verdict(bool(all_of >= AIM))}"]
        )  # fmt: skip
    sheet.table(
        ["set", "damage, mean (least)", "remaining, mean", "worst", "recovered", "worst unit", "bar"], rows
    )


def agreement_table(sheet: Sheet, kind: Kind, found: Sequence[dict[str, float]]) -> None:
    """How much of held-out probes the fitted twin of the same calibration predicts."""
    sheet.say(f"### Fitted twins of the same calibrations: {kind.name}")
    sheet.say()
    rows = []
    for name, words in ((SHARE, "held-out probes"), (SHARE_UNSEEN, "a frame never probed")):
        of = np.array([one[name] for one in found])
        rows.append(
            [f"variance of what light adds, {words}", f"{of.mean():.2f}%", f"{of.min():.2f}%",
             f">= {SHARE_BAR:.0f}%: {verdict(bool(of.min() >= SHARE_BAR))}"]
        )  # fmt: skip
    off = np.abs(np.array([one[SETTLE_RATIO] for one in found]) - 1)
    rows.append(
        ["settle time (p95) off the device's", f"{100 * off.mean():.1f}%", f"{100 * off.max():.1f}%",
         f"<= {100 * SETTLE_BAR:.0f}%: {verdict(bool(off.max() <= SETTLE_BAR))}"]
    )  # fmt: skip
    sheet.table(["", "mean", "worst unit", "bar"], rows)


def times_table(sheet: Sheet, timed: int) -> None:
    """Of calibrations run now, each alone."""
    walls = []
    for unit in range(1, timed + 1):
        with TemporaryDirectory() as folder:
            walls.append(timed_now(unit, Path(folder)))
    sheet.say("### Time")
    sheet.say()
    wall = np.array([one["session_s"] for one in walls])
    device = np.array([one["device_s"] for one in walls])
    morning = np.array([one["morning_s"] for one in walls])
    quick = np.array([one["morning_wall_s"] for one in walls])
    rows = [
        ["whole calibration, wall, one core", f"{wall.mean():.0f} s", f"{wall.max():.0f} s",
         f"<= {MOST_WALL_S:.0f} s: {verdict(bool(wall.max() <= MOST_WALL_S))}"],
        ["whole calibration, simulated", f"{device.mean():.1f} s", f"{device.max():.1f} s", "reported"],
        ["first morning check, which learns, simulated", f"{morning.mean():.2f} s", f"{morning.max():.2f} s",
         f"<= {MOST_MORNING_S:.0f} s: {verdict(bool(morning.max() <= MOST_MORNING_S))}"],
        ["first morning check, wall", f"{quick.mean():.1f} s", f"{quick.max():.1f} s", ""],
    ]  # fmt: skip
    sheet.table(["", "mean", f"worst of {timed}", "bar"], rows)


def _alone() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, default=ASKED_UNITS)
    parser.add_argument("--foreign", type=int, default=ASKED_UNITS, help="foreign units; 0: none")
    parser.add_argument("--timed", type=int, default=2, help="units whose calibration is timed now")
    given = parser.parse_args()
    sheet = Sheet()
    sheet.say("## Whole calibrations")
    sheet.say()
    if min(given.units, given.foreign) < ASKED_UNITS:
        sheet.say(f"The bar asks for {ASKED_UNITS} units of each: this run is smaller.")
        sheet.say()
    for kind, units in ((TWIN, given.units), (FOREIGN, given.foreign)):
        if not units:
            continue
        found = [of_unit(kind, unit) for unit in range(1, units + 1)]
        recovered_table(sheet, kind, found)
        agreement_table(sheet, kind, found)
        kept = sum(one["records"] for one in found)
        accepted = sum(one["accepted"] for one in found)
        sheet.say(f"{accepted:.0f} of {kept:.0f} records were accepted by their own ranges.")
        sheet.say()
    if given.timed:
        times_table(sheet, given.timed)
    sheet.write(RESULTS / "whole_calibration.md")


if __name__ == "__main__":
    _alone()
