"""Forecasts before a run against what the runs came to: drawn benches, every fault on.

    python benchmarks/forecast.py [--units 50] [--foreign 20] [--shorter 4] [--find]

A unit is calibrated (what the fitted twin rests on; records are kept in the cache), moons' network adapted to
it, its quality forecast and then measured, all as `labctl run` does it, the run's own seed and n included.
--shorter divides the iterations of the adaptation's trainings: networks fit their bench less well then, and
the question, whether what is forecast comes out, stays the same; 1 is what labctl does.

What no bench tells (`labctl_calibration.forecast.WIDER`) was found on the units of FOUND_ON, which are not among
those scored: --find computes, for each candidate, mean and standard deviation of E over machines drawn for it, and
from the E that these units came to how likely each width is. Its middle and its own uncertainty are taken. Cells
resume; results/forecast.md holds the last run of both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from common import RESULTS, cell, milli, records_of
from foreign import ForeignRig
from labctl_calibration import compensation
from labctl_calibration.forecast import METHOD, SHARE, WIDER, WIDER_SD, energies_of
from labctl_calibration.optical.agreement import AGREEMENT
from labctl_calibration.optical.twin import FittedTwin
from labctl_calibration.procedure import Procedure
from labctl_calibration.registry import PROCEDURES
from labctl_calibration.session import calibrate
from labctl_calibration.store import RecordStore
from scipy.stats import beta, norm
from sheet import Sheet, verdict

from labctl.models.metrics import energy_distance
from labctl.procedures import Chain, chains_of, compensated, compensating, expected, load_protocol
from labctl.procedures.forecasting import asked_of
from labctl.procedures.plan import run_sampler
from labctl.procedures.threads import one_thread
from labctl.rig import Rig, load_rig
from labctl.rig.calibrating import bench_of

RECIPE = "sample_moons"
ASKED_UNITS = 50
FOUND_ON = tuple(range(201, 213))
CANDIDATES, FIND_DRAWS = (0.5, 1.0, 2.0, 3.0), 19
BAR = (0.85, 0.95)
VERSION, FIND_VERSION = 3, 6
STAGES = ("FREE", "CODING", "TRIAL", "REFIT")


def needed() -> tuple[Procedure, ...]:
    """What the fitted twin's agreement rests on, and itself."""
    by_kind = {one.kind: one for one in PROCEDURES}
    found: list[Procedure] = []

    def add(procedure: Procedure) -> None:
        for kind in procedure.needs:
            add(by_kind[kind])
        if procedure not in found:
            found.append(procedure)

    add(AGREEMENT)
    return tuple(found)


def opened(unit: int) -> Rig:
    """The unit's rig with its records, measured now where they are missing or stale."""
    config = load_rig("optical-unit")
    if config.world is None:
        raise SystemExit("optical-unit has no world")
    world = config.world.model_copy(update={"unit_seed": unit, "seed": unit})
    config = config.model_copy(update={"world": world})
    store = records_of(unit)
    with Rig(config) as rig:
        bring_into(store, rig)
    return Rig(config, store).open()


def foreign_opened(unit: int) -> Rig:
    """The same of the foreign device."""
    store = records_of(f"foreign {unit}")
    with ForeignRig(unit) as rig:
        bring_into(store, rig)
    return ForeignRig(unit, store).open()


def bring_into(store: RecordStore, rig: Rig) -> None:
    """What is missing or stale there of an open rig."""
    for outcome in calibrate(bench_of(rig, store, procedures=needed())):
        if outcome.stored is None:
            raise SystemExit(f"{store.folder.name}: {outcome.procedure.name}: {outcome.failed}")


@dataclass(frozen=True)
class Population:
    """Benches: in words; the row of their cells; how one is opened by its number; how many are asked for."""

    words: str
    row: str
    opened: Callable[[int], Rig]
    asked: int


TWINS = Population("drawn benches, every fault on", "forecast", opened, ASKED_UNITS)
FOREIGN = Population("units of the foreign device", "forecast foreign", foreign_opened, 20)


@contextmanager
def stages(shorter: int) -> Iterator[None]:
    """Trainings of the adaptation of a fraction of their length, their networks kept apart from others."""
    whole, method = {name: getattr(compensation, name) for name in STAGES}, compensating.METHOD
    try:
        if shorter > 1:
            for name, stage in whole.items():
                setattr(compensation, name, replace(stage, iterations=stage.iterations // shorter))
            compensating.METHOD = (*method, "shorter", shorter)  # type: ignore[assignment]
        yield
    finally:
        for name, stage in whole.items():
            setattr(compensation, name, stage)
        compensating.METHOD = method


def adapted(rig: Rig) -> Chain:
    """The recipe's chain on the unit."""
    (chain,) = compensated(chains_of(load_protocol(RECIPE, {"audit": 0}), rig, _silent), rig, _silent)
    return chain


def measured(kind: Population, unit: int, shorter: int) -> float:
    """E of the run."""

    def work() -> dict[str, float]:
        rig = kind.opened(unit)
        try:
            chain = adapted(rig)
            rig.engine.load(chain.program)
            samples = run_sampler(chain, rig, lambda _: None, lambda _: None)
        finally:
            rig.close()
        if chain.reference is None:
            raise SystemExit(f"{RECIPE} has no reference")
        return {"e": energy_distance(samples, chain.reference)}

    key = {"row": f"{kind.row}: run", "recipe": RECIPE, "unit": unit, "shorter": shorter, "v": VERSION}
    return cell(key, work)["e"]


def foretold(kind: Population, unit: int, shorter: int) -> dict[str, float]:
    """The forecast, and the agreement of the twin that it is from."""

    def work() -> dict[str, float]:
        rig = kind.opened(unit)
        try:
            found = expected([adapted(rig)], rig, _silent)
        finally:
            rig.close()
        if found.interval is None:
            raise SystemExit(f"unit {unit}: {found.words}")
        inner = found.interval
        return {
            "low": inner.low, "middle": inner.middle, "high": inner.high, "agreement": found.agreement
        }  # fmt: skip

    key = {"row": kind.row, "recipe": RECIPE, "unit": unit, "shorter": shorter, "how": METHOD, "v": VERSION}
    return cell(key, work)


def drawn(unit: int, shorter: int, wider: float) -> tuple[float, float]:
    """Mean and standard deviation of E of machines drawn with that `wider`, and no other."""

    def work() -> dict[str, float]:
        rig = opened(unit)
        try:
            twin = rig.fitted_twin()
            if not isinstance(twin, FittedTwin):
                raise SystemExit(f"unit {unit} has no fitted twin")
            asked = asked_of(adapted(rig), twin)
            found = energies_of(*asked, draws=FIND_DRAWS, wider=wider, wider_sd=0.0)
        finally:
            rig.close()
        return {"mean": float(found.mean()), "sd": float(found.std(ddof=1))}

    key = {"row": "forecast: find", "recipe": RECIPE, "unit": unit, "shorter": shorter, "wider": wider}
    found = cell({**key, "v": FIND_VERSION}, work)
    return found["mean"], found["sd"]


def log_likelihood(came: float, mean: np.ndarray, sd: np.ndarray, wider: np.ndarray) -> np.ndarray:
    """Of one bench's E at each `wider`; between CANDIDATES the mean follows their squares, the sd a power."""
    tried = np.array(CANDIDATES)
    centre = np.polyval(np.polyfit(tried**2, mean, 1), wider**2)
    scale = np.exp(np.polyval(np.polyfit(np.log(tried), np.log(sd), 1), np.log(wider)))
    return norm.logpdf(came, centre, scale)


def find(sheet: Sheet, shorter: int) -> None:
    """A row a candidate, and what all of them leave open: WIDER and WIDER_SD."""
    with stages(shorter), one_thread():
        came = np.array([measured(TWINS, unit, shorter) for unit in FOUND_ON])
        told = np.array([[drawn(unit, shorter, wider) for wider in CANDIDATES] for unit in FOUND_ON])
    scores = (came[:, None] - told[..., 0]) / told[..., 1]
    sheet.say(f"## What no bench tells: {len(FOUND_ON)} other benches, {FOUND_ON[0]} to {FOUND_ON[-1]}")
    sheet.say()
    sheet.table(
        ["WIDER", "rms of (E - mean) / sd (1: as wide as they say)", "mean"],
        [
            [f"{wider:g}", f"{np.sqrt((score**2).mean()):.2f}", f"{score.mean():+.2f}"]
            for wider, score in zip(CANDIDATES, scores.T, strict=True)
        ],
    )
    grid = np.exp(np.linspace(np.log(0.3), np.log(6.0), 400))
    total = sum(log_likelihood(e, *one.T, grid) for e, one in zip(came, told, strict=True))
    weight = np.exp(total - np.max(total))
    weight /= weight.sum()
    middle = float(weight @ np.log(grid))
    width = float(np.sqrt(weight @ (np.log(grid) - middle) ** 2))
    sheet.say(
        f"Together, with a flat prior of its logarithm: WIDER {np.exp(middle):.2f}, standard deviation of the "
        f"logarithm {width:.2f}. Every machine of a forecast draws its own."
    )
    sheet.say()


def _silent(what: str, done: int, total: int) -> None:
    pass


def binomial(inside: int, of: int) -> tuple[float, float]:
    """95% interval of a share (Clopper and Pearson 1934)."""
    low = beta.ppf(0.025, inside, of - inside + 1) if inside else 0.0
    high = beta.ppf(0.975, inside + 1, of - inside) if inside < of else 1.0
    return float(low), float(high)


def table(sheet: Sheet, kind: Population, units: int, shorter: int) -> None:
    """A row a unit, and what they come to."""
    told = "as labctl does it" if shorter == 1 else f"its trainings at 1/{shorter} of their length"
    sheet.say(f"## Forecasts of {RECIPE}: {units} {kind.words}; adaptation {told}")
    sheet.say()
    if units < kind.asked:
        sheet.say(f"The bar asks for {kind.asked} units: this run is smaller.")
        sheet.say()
    sheet.say(f"n = 4,000; E x 1e3; intervals of {100 * SHARE:.0f}%; WIDER {WIDER:g} with {WIDER_SD:g}")
    sheet.say()
    rows, inside, width = [], 0, []
    for unit in range(1, units + 1):
        with stages(shorter), one_thread():
            came, found = measured(kind, unit, shorter), foretold(kind, unit, shorter)
        holds = found["low"] <= came <= found["high"]
        inside += holds
        width.append((found["high"] - found["low"]) / came)
        rows.append(
            [str(unit), f"{milli(found['low'])} to {milli(found['high'])}", milli(found["middle"]), milli(came),
             "inside" if holds else "outside"]
        )  # fmt: skip
    sheet.table(["unit", "forecast", "its middle", "came to", ""], rows)
    low, high = binomial(inside, units)
    share = inside / units
    sheet.table(
        ["runs inside", "share", "95% interval of the share", "median width / value", "bar"],
        [[f"{inside} of {units}", f"{100 * share:.0f}%", f"{100 * low:.0f} to {100 * high:.0f}%",
          f"{np.median(width):.1f}", f"{100 * BAR[0]:.0f} to {100 * BAR[1]:.0f}%: "
          + (verdict(BAR[0] <= share <= BAR[1]) if units >= kind.asked else "too few units to say")]],
    )  # fmt: skip


def _alone() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=ASKED_UNITS)
    parser.add_argument("--foreign", type=int, default=FOREIGN.asked, help="units of the foreign device")
    parser.add_argument("--shorter", type=int, default=1)
    parser.add_argument("--find", action="store_true", help="what the intervals' width rests on, as well")
    given = parser.parse_args()
    sheet = Sheet()
    for kind, units in ((TWINS, given.units), (FOREIGN, given.foreign)):
        if units:
            table(sheet, kind, units, given.shorter)
    if given.find:
        find(sheet, given.shorter)
    sheet.write(RESULTS / "forecast.md")


if __name__ == "__main__":
    _alone()
