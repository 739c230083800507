"""Drift: alarm rates, steps found, and what 24 simulated hours cost a compensated bench.

    python benchmarks/drift.py [--units 20] [--foreign 20] [--days 20] [--every 60]

Alarm rates: charts of still devices, readings drawn from the scatter that a drawn bench showed in its baseline; and
real looks at benches that stand still. Steps: 1% of all light, looked at once a second. A day: drawn benches that
wander, warm up and age (profile "unit-ageing"), then foreign devices, which age in their own way
(foreign_bench/ageing.py); moons with 4-bit weights. Quality loss = E after 24 h less E right after calibration, in
units of the damage that calibration recovered (E as it came less E right after).
With a watch, the bench is brought up and compensated anew at each alarm; as a bench's world is a function of
its clock, only the last of these has to be done. Cells resume; results/drift.md holds the last run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from common import RESULTS, cell, engine_energy, milli, sampler_of
from foreign import Foreign
from foreign_bench import Ageing, ForeignBench, drawn_unit
from labctl_calibration.bench import Bench
from labctl_calibration.bringup import bring_up
from labctl_calibration.compensation import compensate
from labctl_calibration.drift.charts import DAY_S, Baseline, Charts
from labctl_calibration.drift.look import learn
from labctl_calibration.drift.optical import OpticalProber
from labctl_calibration.drift.watch import LEARN, Pace, Watch
from labctl_calibration.nominal import nominal_panel_record
from labctl_calibration.open_loop import calibrate_steady
from labctl_calibration.optical.dense import dense_fractions
from labctl_calibration.panel_record import KIND as PANEL_KIND
from sheet import Sheet, verdict

from labctl.devices import LoopElectronics, WeightModulator
from labctl.engines import OpticalLoopEngine
from labctl.models.checkpoint import load_checkpoint
from labctl.models.datasets import TOY_SETS
from labctl.models.network import RowTableNetwork
from labctl.programs import encode_frame
from labctl.rig import Rig, load_rig

ASKED_UNITS, ASKED_DAYS = 20, 20
NAME, SEED, STEPS, N = "moons", 1, 4, 4_000
PROBES = 6400
START_H, HOURS = 1.0, 24.0  # a bench is warm before it is calibrated
STEP, WITHIN = 0.01, 3
MOST_LOSS = 0.10
REST_US = 2e6  # ten times what the twin's emitters remember
VERSION = 2
CHARTS = 4  # version of what a watch learnt and saw


def opened(unit: int, profile: str, terms: dict[str, float] | None = None, hours: float = 0.0) -> Rig:
    """A drawn bench of a profile, so many hours after it was switched on."""
    config = load_rig("optical-unit")
    if config.world is None:
        raise SystemExit("optical-unit has no world")
    world = config.world.model_copy(
        update={
            "profile": profile, "unit_seed": unit, "seed": unit, "terms": terms or {}, "started_h": hours,
        }
    )  # fmt: skip
    return Rig(config.model_copy(update={"world": world})).open()


class Clocked(Protocol):
    """What keeps a simulated bench's time."""

    now_us: float

    def advance(self, us: float) -> None:
        """Let time go by."""


@dataclass(frozen=True)
class Standing:
    """A bench that is looked at: its devices, its clock, an engine by the data sheet, and what takes a share of
    all light away.
    """

    modulator: WeightModulator
    electronics: LoopElectronics
    clock: Clocked
    engine: Callable[[], OpticalLoopEngine]
    dim: Callable[[float], None]

    @property
    def now_h(self) -> float:
        """Hours since it was switched on."""
        return self.clock.now_us / 3.6e9

    @classmethod
    def of(cls, rig: Rig) -> Standing:
        """A twin's."""

        def dim(share: float) -> None:
            rig.world.damage.alive[:] *= 1 - share

        def engine() -> OpticalLoopEngine:
            if not isinstance(rig.engine, OpticalLoopEngine):
                raise SystemExit("optical-unit has no loop")
            return rig.engine

        return cls(rig.device(WeightModulator), rig.device(LoopElectronics), rig.world, engine, dim)

    @classmethod
    def foreign(cls, bench: ForeignBench, unit: int) -> Standing:
        """Of a foreign device."""
        made = Foreign(unit, bench)

        def dim(share: float) -> None:
            bench.unit = replace(bench.unit, efficiency=(1 - share) * bench.unit.efficiency)

        return cls(made.panel, made.electronics, bench, made.engine, dim)


@contextmanager
def still_twin(unit: int) -> Iterator[Standing]:
    """A drawn bench that neither warms up nor wanders."""
    with opened(unit, "unit", {"drift": 0.0, "warm_up": 0.0}) as rig:
        yield Standing.of(rig)


@contextmanager
def ageing_twin(unit: int, hours: float) -> Iterator[Standing]:
    """One that ages, so many hours after it was switched on."""
    with opened(unit, "unit-ageing", hours=hours) as rig:
        yield Standing.of(rig)


@contextmanager
def still_foreign(unit: int) -> Iterator[Standing]:
    """A foreign device as warm as it gets, in a room that never changes."""
    bench = ForeignBench(drawn_unit(unit), seed=unit)
    bench.advance(START_H * 3.6e9)
    yield Standing.foreign(bench, unit)


@contextmanager
def ageing_foreign(unit: int, hours: float) -> Iterator[Standing]:
    """One that ages, so many hours after it was switched on."""
    bench = ForeignBench(drawn_unit(unit), seed=unit, ageing=Ageing.drawn(unit))
    bench.advance(hours * 3.6e9)
    yield Standing.foreign(bench, unit)


@dataclass(frozen=True)
class Population:
    """Benches: in words; how their cells are named; one that stands still, and one that ages."""

    words: str
    suffix: str
    still: Callable[[int], AbstractContextManager[Standing]]
    ageing: Callable[[int, float], AbstractContextManager[Standing]]


TWINS = Population("drawn benches", "", still_twin, ageing_twin)
FOREIGN = Population("units of the foreign device", " foreign", still_foreign, ageing_foreign)
POPULATIONS = (TWINS, FOREIGN)


def watch_of(at: Standing, every_s: float) -> Watch:
    """A dense frame on display and nulled, and a watch that has still to learn. The bench then rests until its
    emitters are as cold as later looks find them: the null held them lit, between looks they are dark.
    """
    modulator, electronics = at.modulator, at.electronics
    n = electronics.spec.n_channels
    panel = nominal_panel_record(modulator.spec, n, "by design")
    modulator.show(encode_frame(dense_fractions(n), modulator.spec, panel).levels)
    null = calibrate_steady(electronics).array("null_codes")
    at.clock.advance(REST_US)
    return Watch(OpticalProber(electronics, lambda: null), Pace(every_s=every_s))


def learn_slowly(at: Standing, watch: Watch) -> None:
    """A baseline of looks a tenth of a second apart, as a host takes them."""
    looks = []
    for _ in range(LEARN):
        looks.append(watch.prober.look())
        at.clock.advance(1e5)
    watch.use(learn(watch.prober, looks))


def scatter(unit: int) -> dict[str, Any]:
    """Mean and sd of every series of a still bench."""
    with still_twin(unit) as at:
        watch = watch_of(at, 1.0)
        learn_slowly(at, watch)
        if watch.learnt is None:
            raise SystemExit("the watch learnt nothing")
        return {"sd": watch.learnt.baseline.sd.tolist(), "names": list(watch.learnt.baseline.names)}


def false_alarms(day: int, every_s: float) -> dict[str, float]:
    """Alarms of all charts in 24 h of a device that does nothing; the baseline is drawn as well."""
    series: dict[str, Any] = cell({"row": "drift scatter", "unit": 1, "v": CHARTS}, partial(scatter, 1))
    names, sd = tuple(series["names"]), np.array(series["sd"])
    rng = np.random.Generator(np.random.Philox(key=77_000 + day))
    baseline = Baseline.of(names, rng.standard_normal((LEARN, len(names))) * sd)
    charts = Charts.new(baseline, interval_s=every_s, alarms_per_day=Pace().alarms_per_day)
    count, looks = 0, int(DAY_S / every_s)
    for first in range(0, looks, 1000):
        for reading in rng.standard_normal((min(1000, looks - first), len(names))) * sd:
            charts, alarms = charts.after(reading)
            if alarms:
                count, charts = count + 1, charts.afresh()
    return {"alarms": count}


def still_day(kind: Population, unit: int, every_s: float) -> dict[str, float]:
    """Alarms of real looks at a bench that stands still, for 24 h."""
    with kind.still(unit) as at:
        watch = watch_of(at, every_s)
        learn_slowly(at, watch)
        alarms = 0
        for look in range(int(DAY_S / every_s)):
            at.clock.advance(every_s * 1e6)
            if watch.look(every_s * (look + 1)):
                alarms += 1
                learn_slowly(at, watch)
        return {"alarms": alarms}


def steps_found(kind: Population, unit: int) -> dict[str, float]:
    """Looks, a second apart, until a loss of 1% of all light was told; never as 99."""
    with kind.still(unit) as at:
        watch = watch_of(at, 1.0)
        learn_slowly(at, watch)
        at.dim(STEP)
        for look in range(1, 2 * WITHIN + 1):
            at.clock.advance(1e6)
            if watch.look(float(look)):
                return {"looks": look}
        return {"looks": 99}


def watched_day(kind: Population, unit: int, every_s: float) -> dict[str, float]:
    """When a watch on the dense frame told of drift: how often, and the last time, in h. It learns anew
    after each; by the looks' schedule, what a look takes passes beside it.
    """
    events, last_h = 0, START_H
    with kind.ageing(unit, START_H) as at:
        watch = watch_of(at, every_s)
        learn_slowly(at, watch)
        looks_us, begun_us = 0.0, at.clock.now_us
        while at.now_h < START_H + HOURS:
            at.clock.advance(every_s * 1e6)
            if watch.look(at.clock.now_us * 1e-6):
                events, last_h = events + 1, at.now_h
                looks_us += watch.device_us
                watch = watch_of(at, every_s)
                learn_slowly(at, watch)
        looks_us += watch.device_us
        passed_us = at.clock.now_us - begun_us
    return {"events": events, "last_h": last_h, "duty": looks_us / passed_us}


def made_right(at: Standing) -> tuple[OpticalLoopEngine, RowTableNetwork]:
    """The bench brought up, and the network as it was made to fit: what an alarm asks for."""
    nets = [load_checkpoint(name).network for name in (f"{NAME}-4bit", NAME)]
    taken = bring_up(at.modulator, at.electronics)
    panel = taken.taken[PANEL_KIND].record
    engine = OpticalLoopEngine(at.modulator, at.electronics, panel, calibrate_steady)
    bench = Bench.of(panel, taken.rows, ("panel", "rows"))
    again = PROBES // 4
    engine.use_bench(bench.trims, partial(bench.map_of, probes=again))
    network = compensate(
        engine, bench, nets[0], TOY_SETS[NAME], probes=PROBES - again, teacher=nets[1],
        tell=lambda *_: None,
    )  # fmt: skip
    return engine, network


def day(kind: Population, unit: int, calibrated_h: float, judged_h: tuple[float, ...]) -> dict[str, float]:
    """E of a bench that was calibrated at one hour and judged at others, one after the other."""
    how = sampler_of("implicit-midpoint", "flow", STEPS)
    with kind.ageing(unit, calibrated_h) as at:
        engine, network = made_right(at)
        found = {}
        for then_h in judged_h:
            at.clock.advance(max(then_h * 3.6e9 - at.clock.now_us, 0.0))
            found[f"e {then_h:g}"] = engine_energy(engine, network, NAME, SEED, how, N)["e"]
        return found


def cost(kind: Population, unit: int) -> dict[str, float]:
    """Device time of what an alarm asks for, by the bench's own clock."""
    with kind.ageing(unit, START_H) as at:
        began_us = at.clock.now_us
        made_right(at)
        return {"device_s": 1e-6 * (at.clock.now_us - began_us)}


def naive(kind: Population, unit: int) -> dict[str, float]:
    """E of the bench as it came."""
    with kind.ageing(unit, START_H) as at:
        net = load_checkpoint(f"{NAME}-4bit").network
        how = sampler_of("implicit-midpoint", "flow", STEPS)
        return {"e": engine_energy(at.engine(), net, NAME, SEED, how, N)["e"]}


def rates_table(sheet: Sheet, days: int, every_s: float) -> None:
    """False alarms in 24 h."""
    found = [
        cell(
            {"row": "drift false", "day": k, "every": every_s, "v": CHARTS},
            partial(false_alarms, k, every_s),
        )
        for k in range(days)
    ]
    counts = np.array([one["alarms"] for one in found])
    sheet.say(
        f"## False alarms of a bench that does not drift: {days} days of 24 h, a look every {every_s:g} s"
    )
    sheet.say()
    sheet.table(
        ["alarms in 24 h, mean", "worst day", "bar"],
        [
            [
                f"{counts.mean():.2f}",
                str(int(counts.max())),
                f"<= 1 on the mean: {verdict(counts.mean() <= 1)}",
            ]
        ],
    )


def stills_table(sheet: Sheet, units: int, every_s: float) -> None:
    """Alarms of real looks where nothing happens."""
    sheet.say(
        f"## False alarms of real looks: a day each of {units} benches that stand still, every {every_s:g} s"
    )
    sheet.say()
    rows = []
    for kind in POPULATIONS:
        key = {"row": "drift still day" + kind.suffix, "every": every_s, "v": CHARTS}
        counts = np.array(
            [
                cell({**key, "unit": u}, partial(still_day, kind, u, every_s))["alarms"]
                for u in range(1, units + 1)
            ]
        )
        rows.append(
            [kind.words, f"{counts.mean():.2f}", f"{counts.max():.0f}",
             f"<= 1 on the mean: {verdict(bool(counts.mean() <= 1))}"]
        )  # fmt: skip
    sheet.table(["benches", "alarms in 24 h, mean", "worst day", "bar"], rows)


def steps_table(sheet: Sheet, units: int) -> None:
    """Looks until a step was found, on either population."""
    sheet.say(f"## A step of 1% of all light: {units} benches of each kind, a look a second")
    sheet.say()
    rows = []
    for kind in POPULATIONS:
        key = {"row": "drift step" + kind.suffix, "v": CHARTS}
        found = np.array(
            [cell({**key, "unit": u}, partial(steps_found, kind, u))["looks"] for u in range(1, units + 1)]
        )
        rows.append(
            [kind.words, f"{np.median(found):.0f}", f"{found.max():.0f}",
             f"{(found <= WITHIN).sum()} of {units}", f"all: {verdict(bool((found <= WITHIN).all()))}"]
        )  # fmt: skip
    sheet.table(["benches", "looks, median", "worst", f"found within {WITHIN}", "bar"], rows)


def day_table(sheet: Sheet, kind: Population, units: int, every_s: float) -> None:
    """Quality after a day."""
    rows, losses, alarms, end = [], [], [], START_H + HOURS

    def of(row: str, found: Callable[[], dict[str, float]], **key: Any) -> dict[str, float]:
        return cell({"row": f"drift {row}{kind.suffix}", **key}, found)

    for unit in range(1, units + 1):
        key = {"unit": unit, "set": NAME, "v": VERSION}
        looked = {**key, "every": every_s, "v": CHARTS}
        seen = of("day", partial(watched_day, kind, unit, every_s), **looked)
        came = of("naive", partial(naive, kind, unit), **key)["e"]
        both = of("e", partial(day, kind, unit, START_H, (START_H, end)), **key, at=START_H)
        begun, left = both[f"e {START_H:g}"], both[f"e {end:g}"]
        at = round(seen["last_h"], 4)
        kept = of("e", partial(day, kind, unit, at, (end,)), **key, at=at)[f"e {end:g}"]
        damage = came - begun
        alarms.append(seen["events"])
        losses.append(((kept - begun) / damage, (left - begun) / damage))
        rows.append(
            [str(unit), milli(came), milli(begun), milli(left), milli(kept), f"{seen['events']:.0f}",
             f"{max(end - seen['last_h'], 0.0):.2f} h", f"{100 * seen['duty']:.2g}%",
             f"{100 * losses[-1][1]:.1f}%", f"{100 * losses[-1][0]:.1f}%"]
        )  # fmt: skip
    sheet.say(
        f"## After 24 h: {units} {kind.words} that age, {NAME}, E x 1e3 (n = {N:,}), a look every {every_s:g} s"
    )
    sheet.say()
    if units < ASKED_UNITS:
        sheet.say(f"The bar asks for {ASKED_UNITS} units: this run is smaller.")
        sheet.say()
    sheet.table(
        ["unit", "as it came", "calibrated", "24 h later, no watch", "with a watch", "alarms",
         "since the last", "duty of looks", "loss, no watch", "loss, watch"],
        rows,
    )  # fmt: skip
    watched = np.array([one for one, _ in losses])
    met = watched.mean() <= MOST_LOSS
    sheet.say(
        f"Loss with a watch: mean {100 * watched.mean():.1f}%, worst {100 * watched.max():.1f}% of the damage; bar "
        f"<= {100 * MOST_LOSS:.0f}%: {verdict(bool(met))}"
    )
    sheet.say()
    once_s = of("cost", partial(cost, kind, 1), unit=1, set=NAME, v=VERSION)["device_s"]
    share = np.mean(alarms) * once_s / (HOURS * 3600)
    sheet.say(
        f"Looks see far less than a run suffers from, so these benches, which wander all day, are "
        f"calibrated {np.mean(alarms):.0f} times: {once_s:.1f} s of the device each (unit 1, adaptation included), "
        f"{100 * share:.1f}% of the day."
    )
    sheet.say()


def _alone() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=ASKED_UNITS)
    parser.add_argument(
        "--foreign", type=int, default=ASKED_UNITS, help="units of the foreign device for a day"
    )
    parser.add_argument(
        "--steps", type=int, default=ASKED_UNITS, help="units that stand still, of each kind; 0: none"
    )
    parser.add_argument("--days", type=int, default=ASKED_DAYS, help="days for alarm rates")
    parser.add_argument("--every", type=float, default=60.0, help="s from look to look")
    given = parser.parse_args()
    sheet = Sheet()
    sheet.say("# Drift")
    sheet.say()
    for every_s in (1.0, given.every):
        rates_table(sheet, given.days, every_s)
    if given.steps:
        stills_table(sheet, given.steps, given.every)
        steps_table(sheet, given.steps)
    for kind, units in ((TWINS, given.units), (FOREIGN, given.foreign)):
        if units:
            day_table(sheet, kind, units, given.every)
    sheet.write(RESULTS / "drift.md")


if __name__ == "__main__":
    _alone()
