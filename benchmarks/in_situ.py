"""Fine-tuning on the machine beyond compensation by re-fit: E of drawn benches, at a budget of device calls.

    python benchmarks/in_situ.py [--units 3] [--budget 8192]

Each unit is brought up and compensated as in compensation.py (set moons, seed 0), its chain loaded once; E is
of samples through that load, before and after fine-tuning, against the same points with the same start noise.
The re-fit row spends the same number of further settles on the re-fit instead. Cells resume;
results/in_situ.md holds the last run.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np
from common import RESULTS, SIGMA_MAX, cell, milli, networks, reference, sampler_of
from compensation import STEPS, opened
from labctl_calibration.bench import Bench
from labctl_calibration.compensation import compensate
from labctl_calibration.in_situ import SAMPLES, fine_tune
from sheet import Sheet

from labctl.engines import OpticalLoopEngine
from labctl.models.datasets import TOY_SETS
from labctl.models.network import RowTableNetwork
from labctl.programs import LoopProgram
from labctl.sampling import LoopMachine, compile_program, start_noise

SET, SEED, N = "moons", 0, 20_000
PROBES, LOAD = 4800, 1600
VERSION = 1


def energy(engine: OpticalLoopEngine, network: RowTableNetwork, program: LoopProgram) -> float:
    """E of the chain through what is loaded."""
    ids, how = np.arange(N), sampler_of("implicit-midpoint", "flow", STEPS)
    machine = LoopMachine(engine, network, program, labels=None, sample_id=ids, seen=lambda _: None)
    x = start_noise(ids, 2, seed=SEED, sigma_max=SIGMA_MAX)
    return reference(SET, SEED, N).distance(how.run(machine, x, sample_id=ids, seed=SEED))


def of_unit(unit: int, budget: int) -> dict[str, float]:
    """E compensated, fine-tuned within the budget, and re-fitted with so many more settles."""

    def adapted(engine: OpticalLoopEngine, bench: Bench, probes: int) -> tuple[RowTableNetwork, LoopProgram]:
        floats, codeds = networks(SET)
        engine.use_bench(bench.trims, partial(bench.map_of, probes=LOAD))
        network = compensate(
            engine, bench, codeds[SEED], TOY_SETS[SET], probes=probes, teacher=floats[SEED],
            tell=lambda *_: None,
        )  # fmt: skip
        program = compile_program(network, sampler_of("implicit-midpoint", "flow", STEPS), engine.n_channels)
        engine.load(program)
        return network, program

    def work() -> dict[str, float]:
        teacher, out = networks(SET)[0][SEED], {}
        with opened(unit) as rig:
            engine, bench = _of(rig)
            network, program = adapted(engine, bench, PROBES)
            out["refit"] = energy(engine, network, program)
            tuned = fine_tune(engine, program, teacher, TOY_SETS[SET], budget=budget)
            out["tuned"] = energy(engine, network, tuned.program)
            out["calls"] = float(tuned.calls)
            out["first"], out["last"] = (float(np.sqrt((part**2).mean())) for part in
                                         (tuned.missed[:2], tuned.missed[-4:]))  # fmt: skip
        with opened(unit) as rig:
            engine, bench = _of(rig)
            network, program = adapted(engine, bench, PROBES + 3 * budget)  # a third goes to settles
            out["more"] = energy(engine, network, program)
        return out

    key = {"row": "in situ", "set": SET, "unit": unit, "budget": budget, "samples": SAMPLES, "v": VERSION}
    return cell(key, work)


def _of(rig: Any) -> tuple[OpticalLoopEngine, Bench]:
    if not isinstance(rig.bench, Bench) or not isinstance(rig.engine, OpticalLoopEngine):
        raise SystemExit(f"rig {rig.name} was not brought up")
    return rig.engine, rig.bench


def _alone() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=3)
    parser.add_argument("--budget", type=int, default=8192)
    given = parser.parse_args()
    sheet = Sheet()
    sheet.say(f"## Fine-tuning on the machine: {SET}, midpoint N = {STEPS}, {given.budget:,} device calls")
    sheet.say("")
    sheet.say(f"E x 1e3, n = {N:,}; all columns through one load of the frame, but for the last")
    sheet.say("")
    rows = []
    for unit in range(1, given.units + 1):
        found = of_unit(unit, given.budget)
        missed = f"{found['first']:.4f} to {found['last']:.4f}"
        energies = [milli(found[name]) for name in ("refit", "tuned", "more")]
        rows.append([str(unit), f"{found['calls']:,.0f}", missed, *energies])
    sheet.rows(
        [
            "unit",
            "calls",
            "roots missed by, rms (units)",
            "E, re-fit",
            "E, fine-tuned",
            "E, re-fit with as many settles",
        ],
        rows,
    )
    sheet.write(RESULTS / "in_situ.md")


if __name__ == "__main__":
    _alone()
