"""Drift: alarm rates, steps found, and what 24 simulated hours cost a compensated bench.

    python benchmarks/drift.py [--units 20] [--days 20] [--every 60]

Three tables. Alarm rates: charts of still devices, readings drawn from the scatter that a drawn bench showed
in its baseline. Steps: 1% of all light of drawn benches, looked at once a second, also of the foreign device.
A day: drawn benches that wander, warm up and age (profile "unit-ageing"), moons with 4-bit weights; quality loss =
E after 24 h less E right after calibration, in units of the damage that calibration recovered (E as it came less E
right after).
With a watch, the bench is brought up and compensated anew at each alarm; as a bench's world is a function of
its clock, only the last of these has to be done. Cells resume; results/drift.md holds the last run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from common import RESULTS, cell, engine_energy, milli, sampler_of
from foreign import Foreign
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


@dataclass(frozen=True)
class Still:
    """A bench that is looked at: its devices, its clock (us), and what takes a share of all light away."""

    modulator: WeightModulator
    electronics: LoopElectronics
    advance: Callable[[float], None]
    dim: Callable[[float], None]

    @classmethod
    def of(cls, rig: Rig) -> Still:
        """A twin's."""

        def dim(share: float) -> None:
            rig.world.damage.alive[:] *= 1 - share

        return cls(rig.device(WeightModulator), rig.device(LoopElectronics), rig.world.advance, dim)

    @classmethod
    def foreign(cls, unit: int) -> Still:
        """Of the foreign device, as warm as it gets."""
        made = Foreign(unit)
        bench = made.bench
        bench.advance(START_H * 3.6e9)

        def dim(share: float) -> None:
            bench.unit = replace(bench.unit, efficiency=(1 - share) * bench.unit.efficiency)

        return cls(made.panel, made.electronics, bench.advance, dim)


def watch_of(still: Still, every_s: float) -> Watch:
    """A dense frame on display and nulled, and a watch that has still to learn. The bench then rests until its
    emitters are as cold as later looks find them: the null held them lit, between looks they are dark.
    """
    modulator, electronics = still.modulator, still.electronics
    n = electronics.spec.n_channels
    panel = nominal_panel_record(modulator.spec, n, "by design")
    modulator.show(encode_frame(dense_fractions(n), modulator.spec, panel).levels)
    null = calibrate_steady(electronics).array("null_codes")
    still.advance(REST_US)
    return Watch(OpticalProber(electronics, lambda: null), Pace(every_s=every_s))


def learn_slowly(still: Still, watch: Watch) -> None:
    """A baseline of looks a tenth of a second apart, as a host takes them."""
    looks = []
    for _ in range(LEARN):
        looks.append(watch.prober.look())
        still.advance(1e5)
    watch.use(learn(watch.prober, looks))


def scatter(unit: int) -> dict[str, Any]:
    """Mean and sd of every series of a still bench."""
    with opened(unit, "unit", {"drift": 0.0, "warm_up": 0.0}) as rig:
        still = Still.of(rig)
        watch = watch_of(still, 1.0)
        learn_slowly(still, watch)
        if watch.learnt is None:
            raise SystemExit("the watch learnt nothing")
        return {"sd": watch.learnt.baseline.sd.tolist(), "names": list(watch.learnt.baseline.names)}


def false_alarms(day: int, every_s: float) -> dict[str, float]:
    """Alarms of all charts in 24 h of a device that does nothing; the baseline is drawn as well."""
    series = cell({"row": "drift scatter", "unit": 1, "v": CHARTS}, partial(scatter, 1))
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


def steps_found(unit: int) -> dict[str, float]:
    """Looks until a step was told by a twin's watch."""
    with opened(unit, "unit", {"drift": 0.0, "warm_up": 0.0}) as rig:
        return {"looks": looks_until_told(Still.of(rig))}


def looks_until_told(still: Still) -> float:
    """Looks, a second apart, until a loss of 1% of all light was told; never as 99."""
    watch = watch_of(still, 1.0)
    learn_slowly(still, watch)
    still.dim(STEP)
    for look in range(1, 2 * WITHIN + 1):
        still.advance(1e6)
        if watch.look(float(look)):
            return look
    return 99


def watched_day(unit: int, every_s: float) -> dict[str, float]:
    """When a watch on the dense frame told of drift: how often, and the last time, in h. It learns anew
    after each; by the looks' schedule, what a look takes passes beside it.
    """
    events, last_h = 0, START_H
    with opened(unit, "unit-ageing", hours=START_H) as rig:
        still = Still.of(rig)
        watch = watch_of(still, every_s)
        learn_slowly(still, watch)
        looks_us, begun_us = 0.0, rig.world.now_us
        while rig.world.now_us < (START_H + HOURS) * 3.6e9:
            rig.world.advance(every_s * 1e6)
            if watch.look(rig.world.now_us * 1e-6):
                events, last_h = events + 1, rig.world.now_us / 3.6e9
                looks_us += watch.device_us
                watch = watch_of(still, every_s)
                learn_slowly(still, watch)
        looks_us += watch.device_us
        passed_us = rig.world.now_us - begun_us
    return {"events": events, "last_h": last_h, "duty": looks_us / passed_us}


def made_right(rig: Rig) -> tuple[OpticalLoopEngine, RowTableNetwork]:
    """The bench brought up, and the network as it was made to fit: what an alarm asks for."""
    nets = [load_checkpoint(name).network for name in (f"{NAME}-4bit", NAME)]
    modulator, electronics = rig.device(WeightModulator), rig.device(LoopElectronics)
    taken = bring_up(modulator, electronics)
    panel = taken.taken[PANEL_KIND].record
    engine = OpticalLoopEngine(modulator, electronics, panel, calibrate_steady)
    bench = Bench.of(panel, taken.rows, ("panel", "rows"))
    again = PROBES // 4
    engine.use_bench(bench.trims, partial(bench.map_of, probes=again))
    network = compensate(
        engine, bench, nets[0], TOY_SETS[NAME], probes=PROBES - again, teacher=nets[1],
        tell=lambda *_: None,
    )  # fmt: skip
    return engine, network


def day(unit: int, calibrated_h: float, judged_h: tuple[float, ...]) -> dict[str, float]:
    """E of a bench that was calibrated at one hour and judged at others, one after the other."""
    how = sampler_of("implicit-midpoint", "flow", STEPS)
    with opened(unit, "unit-ageing", hours=calibrated_h) as rig:
        engine, network = made_right(rig)
        found = {}
        for at in judged_h:
            rig.world.advance(max(at * 3.6e9 - rig.world.now_us, 0.0))
            found[f"e {at:g}"] = engine_energy(engine, network, NAME, SEED, how, N)["e"]
        return found


def cost(unit: int) -> dict[str, float]:
    """Device time of what an alarm asks for, by the bench's own clock."""
    with opened(unit, "unit-ageing", hours=START_H) as rig:
        began_us = rig.world.now_us
        made_right(rig)
        return {"device_s": 1e-6 * (rig.world.now_us - began_us)}


def naive(unit: int) -> dict[str, float]:
    """E of the bench as it came."""
    with opened(unit, "unit-ageing", hours=START_H) as rig:
        net = load_checkpoint(f"{NAME}-4bit").network
        how = sampler_of("implicit-midpoint", "flow", STEPS)
        if not isinstance(rig.engine, OpticalLoopEngine):
            raise SystemExit("optical-unit has no loop")
        return {"e": engine_energy(rig.engine, net, NAME, SEED, how, N)["e"]}


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


def steps_table(sheet: Sheet, units: int) -> None:
    """Looks until a step was found, on either population."""
    sheet.say(f"## A step of 1% of all light: {units} drawn benches of each kind, a look a second")
    sheet.say()
    rows = []
    for words, row, found_on in (
        ("twins", "drift step", steps_found),
        ("the foreign device", "drift step foreign", lambda u: {"looks": looks_until_told(Still.foreign(u))}),
    ):
        found = np.array(
            [
                cell({"row": row, "unit": u, "v": CHARTS}, partial(found_on, u))["looks"]
                for u in range(1, units + 1)
            ]
        )
        rows.append(
            [words, f"{np.median(found):.0f}", f"{found.max():.0f}", f"{(found <= WITHIN).sum()} of {units}",
             f"all: {verdict(bool((found <= WITHIN).all()))}"]
        )  # fmt: skip
    sheet.table(["benches", "looks, median", "worst", f"found within {WITHIN}", "bar"], rows)


def day_table(sheet: Sheet, units: int, every_s: float) -> None:
    """Quality after a day."""
    rows, losses, alarms, end = [], [], [], START_H + HOURS
    for unit in range(1, units + 1):
        key = {"unit": unit, "set": NAME, "v": VERSION}
        looked = {**key, "every": every_s, "v": CHARTS}
        seen = cell({"row": "drift day", **looked}, partial(watched_day, unit, every_s))
        came = cell({"row": "drift naive", **key}, partial(naive, unit))["e"]
        both = cell({"row": "drift e", **key, "at": START_H}, partial(day, unit, START_H, (START_H, end)))
        begun, left = both[f"e {START_H:g}"], both[f"e {end:g}"]
        at = round(seen["last_h"], 4)
        kept = cell({"row": "drift e", **key, "at": at}, partial(day, unit, at, (end,)))[f"e {end:g}"]
        damage = came - begun
        alarms.append(seen["events"])
        losses.append(((kept - begun) / damage, (left - begun) / damage))
        rows.append(
            [str(unit), milli(came), milli(begun), milli(left), milli(kept), f"{seen['events']:.0f}",
             f"{max(end - seen['last_h'], 0.0):.2f} h", f"{100 * seen['duty']:.2g}%",
             f"{100 * losses[-1][1]:.1f}%", f"{100 * losses[-1][0]:.1f}%"]
        )  # fmt: skip
    sheet.say(
        f"## After 24 h: {units} drawn benches that age, {NAME}, E x 1e3 (n = {N:,}), a look every {every_s:g} s"
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
    once_s = cell({"row": "drift cost", "unit": 1, "set": NAME, "v": VERSION}, partial(cost, 1))["device_s"]
    share = np.mean(alarms) * once_s / (HOURS * 3600)
    sheet.say(
        f"Looks see far less than a run suffers from, so these benches, which warm up and wander all day, are "
        f"calibrated {np.mean(alarms):.0f} times: {once_s:.1f} s of the device each (unit 1, adaptation included), "
        f"{100 * share:.1f}% of the day."
    )
    sheet.say()


def _alone() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=ASKED_UNITS)
    parser.add_argument("--steps", type=int, default=ASKED_UNITS, help="units for steps")
    parser.add_argument("--days", type=int, default=ASKED_DAYS, help="days for alarm rates")
    parser.add_argument("--every", type=float, default=60.0, help="s from look to look")
    given = parser.parse_args()
    sheet = Sheet()
    sheet.say("# Drift")
    sheet.say()
    for every_s in (1.0, given.every):
        rates_table(sheet, given.days, every_s)
    steps_table(sheet, given.steps)
    if given.units:
        day_table(sheet, given.units, given.every)
    sheet.write(RESULTS / "drift.md")


if __name__ == "__main__":
    _alone()
