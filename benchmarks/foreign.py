"""What bring-up and compensation recover on a bench of other equations than the twin's: the foreign device.

    python benchmarks/foreign.py [--units 20] [--seeds 5] [--samples 20000] [--sets moons gaussians_unequal]

Every unit is drawn by its number and brought up through its interfaces alone; each network is compensated with the
matrix that 6,400 probes estimate. Damage recovered = 1 - mean(E_cal - E_ideal) / mean(E_naive - E_ideal)
(conventions, section 7), ideal being the noise-free loop of the shipped twin with the same 4-bit network. Cells
resume, unit by unit; results/foreign.md holds the last run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from common import (
    CACHE,
    N_SAMPLES,
    RESULTS,
    SEEDS,
    cell,
    engine_energy,
    milli,
    networks,
    open_named,
    rig_energy,
    sampler_of,
)
from foreign_bench import ForeignBench, ForeignElectronics, ForeignPanel, drawn_unit
from labctl_calibration import calibrate_open_loop, calibrate_steady, nominal_panel_record
from labctl_calibration.bench import Bench
from labctl_calibration.bringup import bring_up
from labctl_calibration.compensation import METHOD, STAGES, compensate
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.rows_record import KIND as ROWS_KIND
from labctl_calibration.store import RecordStore, Stored
from sheet import Sheet

from labctl.devices import CalibrationRecord, Device, LoopElectronics
from labctl.engines import OpticalLoopEngine
from labctl.models.datasets import TOY_SETS
from labctl.models.network import RowTableNetwork
from labctl.rig import Rig, load_rig
from labctl.sampling import Sampler

SETS = ("moons", "gaussians_unequal")
STEPS = 4
PROBES = 6400
BAR = 0.85  # mean over units
ASKED_UNITS = 20
LEAST_DAMAGE = (
    5e-3  # ten standard errors of E at some thousand samples; less says nothing of what is regained
)
MODEL = 1  # of the foreign bench's equations: cells of another are not these


class Foreign:
    """One drawn unit as it stands in the morning: devices open, clock at zero, nothing known. `bench`: where it is
    another than the sound one, each channel at its own place, of the unit's own day.
    """

    def __init__(self, unit: int, bench: ForeignBench | None = None) -> None:
        self.bench = ForeignBench(drawn_unit(unit), seed=unit) if bench is None else bench
        self.panel = ForeignPanel("panel", self.bench)
        self.electronics = ForeignElectronics("electronics", self.bench)
        self.panel.open()
        self.electronics.open()

    def engine(
        self, null: Callable[[LoopElectronics], CalibrationRecord] = calibrate_open_loop
    ) -> OpticalLoopEngine:
        """Working by the data sheet, with a null measured so."""
        record = nominal_panel_record(
            self.panel.spec, self.electronics.spec.n_channels, self.panel.open().serial
        )
        return OpticalLoopEngine(self.panel, self.electronics, record, null)

    def brought_up(self, store: RecordStore) -> Bench:
        """By its records, taken now where it has none."""
        panel, rows = self._newest(store)
        if panel is None or rows is None:
            found = bring_up(self.panel, self.electronics)
            found.keep(store)
            panel, rows = self._newest(store)
        if panel is None or rows is None:
            raise SystemExit(f"{store.folder} does not keep records")
        return Bench.of(panel.record, rows.record, (panel.id, rows.id))

    def compensated(self, name: str, seed: int) -> tuple[OpticalLoopEngine, RowTableNetwork]:
        """An engine by the unit's records, and the network as it was made to fit."""
        bench = self.brought_up(RecordStore(CACHE / "records"))
        engine = OpticalLoopEngine(self.panel, self.electronics, bench.panel, calibrate_steady)
        again = PROBES // 4  # what the load measures again is part of the budget
        engine.use_bench(bench.trims, partial(bench.map_of, probes=again))
        floats, coded = networks(name)
        made = compensate(
            engine, bench, coded[seed], TOY_SETS[name], probes=PROBES - again, teacher=floats[seed],
            tell=lambda *_: None,
        )  # fmt: skip
        return engine, made

    def _newest(self, store: RecordStore) -> tuple[Stored | None, Stored | None]:
        return (
            store.newest(PANEL_KIND, self.panel.open().serial),
            store.newest(ROWS_KIND, self.electronics.open().serial),
        )


class ForeignRig(Rig):
    """A drawn unit under labctl's own rig: what a user's commands do, on the foreign device."""

    def __init__(
        self, unit: int, records: RecordStore | None = None, bench: ForeignBench | None = None
    ) -> None:
        config = load_rig("optical-unit")
        devices = tuple(one for one in config.device if one.name in ("panel", "electronics"))
        super().__init__(
            config.model_copy(update={"name": "foreign", "world": None, "device": devices}), records
        )
        self._unit, self._bench = unit, bench

    def build(self) -> Mapping[str, Device]:
        """The unit's devices instead of the twins that the rig file names."""
        if not self.devices:
            made = Foreign(self._unit, self._bench)
            self.devices = {made.panel.name: made.panel, made.electronics.name: made.electronics}
            self._wire()
        return self.devices


def energies(name: str, unit: int, seed: int, n: int) -> dict[str, float]:
    """E of the ideal loop, of the unit by its data sheet, and of the unit compensated by its records."""
    coded = networks(name)[1][seed]
    how: Sampler = sampler_of("implicit-midpoint", "flow", STEPS)

    def ideal() -> dict[str, float]:
        with open_named("optical-ideal", seed=seed) as rig:
            return {"e": rig_energy(rig, coded, name, seed, how, n)["e"]}

    def naive() -> dict[str, float]:
        return {"e": engine_energy(Foreign(unit).engine(), coded, name, seed, how, n)["e"]}

    def made() -> dict[str, float]:
        engine, network = Foreign(unit).compensated(name, seed)
        out = engine_energy(engine, network, name, seed, how, n)
        return {"e": out["e"], "converged": out["converged"]}

    at = {"set": name, "seed": seed, **({} if n == N_SAMPLES else {"n": n})}
    own = {**at, "unit": unit, "model": MODEL}
    by = {**own, "probes": PROBES, "method": repr(METHOD), "null": "steady"}
    return {
        "ideal": cell({"row": "unit ideal", **at, "v": 1}, ideal)["e"],
        "naive": cell({"row": "foreign naive", **own}, naive)["e"],
        "cal": cell({"row": "foreign compensated", **by}, made)["e"],
    }


def table(
    say: Callable[[str], None],
    draw: Callable[[list[str], list[list[str]]], None],
    *,
    units: int,
    seeds: int,
    samples: int = N_SAMPLES,
    sets: tuple[str, ...] = SETS,
) -> None:
    """The page's rows: one for each set."""
    say(
        f"## Foreign device, every fault on: {units} drawn units, {seeds} training seeds, midpoint N = {STEPS}"
    )
    say("")
    say(
        f"E x 1e3, n = {samples:,}, {PROBES:,} probes; {sum(s.iterations for s in STAGES):,} iterations in all"
    )
    say("")
    if units < ASKED_UNITS or seeds < len(SEEDS) or samples < N_SAMPLES:
        say(
            f"The bar asks for {ASKED_UNITS} units x {len(SEEDS)} seeds at n = {N_SAMPLES:,}: this run is smaller."
        )
        say("")
    numbers = range(1, units + 1)
    cells = {(s, u, k): energies(s, u, k, samples) for u in numbers for s in sets for k in SEEDS[:seeds]}
    rows = []
    for name in sets:
        of = [[cells[name, unit, seed] for seed in SEEDS[:seeds]] for unit in numbers]
        damage = np.array([[c["naive"] - c["ideal"] for c in unit] for unit in of])
        left = np.array([[c["cal"] - c["ideal"] for c in unit] for unit in of])
        hurt = damage.mean(axis=1) > LEAST_DAMAGE
        by_unit = 1 - left.mean(axis=1)[hurt] / damage.mean(axis=1)[hurt]
        recovered = 1 - left[hurt].mean() / damage[hurt].mean()
        rows.append(
            [name, str(int(hurt.sum())), f"{milli(float(damage.mean()))} ({milli(float(damage.min()))})",
             milli(float(left.mean())), f"{milli(float(np.median(left)))} ({milli(float(left.max()))})",
             f"{100 * recovered:.1f}%", f"{100 * by_unit.min():.1f}%",
             f">= {100 * BAR:.0f}%: {'met' if recovered >= BAR else 'NOT MET'}"]
        )  # fmt: skip
    draw(
        ["set", "units", "damage, mean (least)", "remaining, mean", "median (worst)", "recovered", "worst unit",
         "bar"],
        rows,
    )  # fmt: skip
    say("")


def _alone() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, default=ASKED_UNITS)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--samples", type=int, default=N_SAMPLES)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    given = parser.parse_args()
    sheet = Sheet()
    table(
        sheet.say,
        sheet.rows,
        units=given.units,
        seeds=given.seeds,
        samples=given.samples,
        sets=tuple(given.sets),
    )
    sheet.write(RESULTS / "foreign.md")


if __name__ == "__main__":
    _alone()
