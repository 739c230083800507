"""Blind commissioning: drawn machines that somebody wired in a hurry, to a golden sample without a person.

`python benchmarks/commissioning.py [UNITS [CALIBRATED [FOREIGN]]]` prints the page and writes it (50 units, all of
them calibrated, the first CALIBRATED where told; 20 of the foreign device); cells are resumable. Each unit is a machine of profile `unit` with every error on, cold, its drive and read cables in any order, a share of them
inverted, the panel mounted in one of eight ways, up to one drive cable unplugged beside the channel that the
profile's machines have dead. What `labctl commission` does is done, in this process: wires, then all procedures that
the golden sample rests on; a served bench is bit for bit the same (tests/rig, tests/cli). Found is compared with the
truth, which nothing else looks at.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from common import RESULTS, cell
from foreign import ForeignRig
from foreign_bench import Cables, ForeignBench, drawn_unit
from labctl_calibration.commissioning import WIRING, wiring_of
from labctl_calibration.known_answers import WORST_ANSWER
from labctl_calibration.optical import OPTICAL
from labctl_calibration.optical.golden import GOLDEN, METRIC
from labctl_calibration.optical.linear_answers import LINEAR_ANSWERS
from labctl_calibration.planning import in_order
from labctl_calibration.procedure import Devices, Procedure
from labctl_calibration.taking import silent, take, take_all
from labctl_sim_devices import OpticalBench
from sheet import Sheet, verdict

from labctl.devices import LabctlError, Wiring
from labctl.rig import Rig, RigConfig, load_rig
from labctl.rig.calibrating import bench_of
from labctl.rig.config import ScrambleConfig
from labctl.rig.wiring import WiringConfig

UNITS, MUST, FOREIGN = 50, 45, 20
MINUTES = 10.0
VERSION = 3
COMPARED = ("drive", "read", "drive sign", "read sign", "dead")
ALIVE = 0.05  # of the median emitter's light, as calibration has it


def golden_needs() -> tuple[Procedure, ...]:
    """Every procedure that the golden sample, the known answers and the linear ones rest on, in order."""
    by_kind = {one.kind: one for one in OPTICAL}
    wanted = {GOLDEN.kind, LINEAR_ANSWERS.kind, "known answers"}
    while True:
        more = {need for kind in wanted if kind in by_kind for need in by_kind[kind].needs} - wanted
        if not more:
            return tuple(one for one in in_order(OPTICAL) if one.kind in wanted)
        wanted |= more


def drawn(unit: int) -> RigConfig:
    """The rig of a unit: a machine, a day and a scramble of its own."""
    config = load_rig("optical-unit")
    if config.world is None:
        raise ValueError("optical-unit has no world; allowed: a twin")
    how = ScrambleConfig(seed=unit, unplugged=unit % 2)
    world = {"seed": 1000 + unit, "unit_seed": unit, "scramble": how}
    return config.model_copy(update={"world": config.world.model_copy(update=world)})


def true_wiring(rig: Rig) -> tuple[Wiring, np.ndarray]:
    """By the panel's pixels, as it is found; and which drive channels have light."""
    bench, n = rig.world, rig.config.n_channels
    cables, flip = bench.cables, bench.profile.panel_flip
    (_, left), (_, right) = bench.profile.path_origin_px
    row, column = cables.detector, cables.emitter
    bare = bench.unit.input_efficiency.min(axis=0) * bench.emitters()
    truth = Wiring(
        column=n - 1 - column if flip in ("columns", "both") else column,
        row=n - 1 - row if flip in ("rows", "both") else row,
        drive_sign=cables.emitter_sign,
        read_sign=cables.detector_sign * (1.0 if left < right else -1.0),
    )
    return truth, (bare > ALIVE * np.median(bare))[cables.emitter]


def compared(found: Wiring, dead: tuple[int, ...], truth: Wiring, lives: np.ndarray) -> dict[str, float]:
    """Shares that were found as they are. Columns and signs of dead channels cannot be told, and are not compared."""
    return {
        "drive": float((found.column == truth.column)[lives].mean()),
        "read": float((found.row == truth.row).mean()),
        "drive sign": float((found.drive_sign == truth.drive_sign)[lives].mean()),
        "read sign": float((found.read_sign == truth.read_sign).mean()),
        "dead": float(set(dead) == set(np.flatnonzero(~lives))),
        "dead channels": float((~lives).sum()),
        "inverted": float((truth.read_sign < 0).sum() + (truth.drive_sign < 0).sum()),
    }


def commissioned(unit: int, calibrates: bool = True) -> dict[str, float]:
    """Scores of one unit: wires, then, where it `calibrates`, to the golden sample."""
    with Rig(drawn(unit)) as rig:
        return scored(rig, rig.world, *true_wiring(rig), calibrates)


def foreign_commissioned(unit: int) -> dict[str, float]:
    """The same of a foreign device, whose panel and electronics are all that it has."""
    cables = Cables.drawn(unit, unplugged=unit % 2)
    bench = ForeignBench(drawn_unit(unit), seed=unit, cables=cables)
    n, light = len(cables.emitter), bench.unit.efficiency
    truth = Wiring(
        column=n - 1 - cables.emitter if cables.mirrored else cables.emitter,
        row=n - 1 - cables.detector if cables.upside_down else cables.detector,
        drive_sign=np.where(cables.inverted, -1.0, 1.0),
        read_sign=np.where(cables.crossed, -1.0, 1.0)
        * (-1.0 if cables.mirrored != cables.exchanged else 1.0),
    )
    lives = (light > ALIVE * np.median(light))[cables.emitter] & cables.plugged
    with ForeignRig(unit, bench=bench) as rig:
        return scored(rig, bench, truth, lives)


def scored(
    rig: Rig, bench: OpticalBench | ForeignBench, truth: Wiring, lives: np.ndarray, calibrates: bool = True
) -> dict[str, float]:
    """What `labctl commission` does on an open rig, beside the truth; times by the bench's clock."""
    began, out, store = time.process_time(), {"error": 0.0}, RESULTS / "cache" / "commissioning-store"
    try:
        taken = take(WIRING, bench_of(rig, store, "", (WIRING,)).devices, {}, silent)
        found, dead = wiring_of(taken.record)
        out |= compared(found, dead, truth, lives) | {"wiring_s": 1e-6 * bench.now_us}
        if calibrates:
            rig.rewire(WiringConfig.of(found, dead))
            out |= calibrated(bench_of(rig, store, "", golden_needs()).devices)
    except LabctlError as error:
        print(f"{rig.name}: {error}", file=sys.stderr)
        out["error"] = 1.0
    return out | {"device_s": 1e-6 * bench.now_us, "cpu_s": time.process_time() - began}


def calibrated(devices: Devices) -> dict[str, float]:
    """What the golden sample rests on, by the electronics' wiring; and itself."""
    records, failed = take_all(golden_needs(), devices, silent)
    quantities = {q.name: q for one in records.values() for q in one.measured.quantities}
    return {
        "golden": quantities[METRIC].value,
        "golden accepted": float(quantities[METRIC].accepted),
        "accepted": float(not failed and all(one.measured.accepted for one in records.values())),
        "answers": quantities["known answers missed by"].value,
        "linear": quantities["linear answers missed by"].value,
    }


def right(row: dict[str, float]) -> bool:
    """Whether all that can be told was found as it is."""
    return all(row.get(name) == 1.0 for name in COMPARED)


def good(row: dict[str, float]) -> bool:
    """Whether the unit ended with a golden sample in time, on the right wiring."""
    if row["error"] or not right(row):
        return False
    return row["device_s"] <= 60 * MINUTES and row["golden accepted"] == row["accepted"] == 1.0


def scores(
    row: str, units: int, of: Callable[[int], dict[str, float]], judge: Callable[[dict[str, float]], bool]
) -> list[dict[str, float]]:
    """Of units 1 .. `units`, told as they come."""
    rows = []
    for unit in range(1, units + 1):
        rows.append(cell({"row": row, "unit": unit, "v": VERSION}, partial(of, unit)))
        fine = "good" if judge(rows[-1]) else "NOT good"
        print(f"{row}, unit {unit}: {fine} {rows[-1]}", file=sys.stderr, flush=True)
    return rows


def failed(rows: list[dict[str, float]], judge: Callable[[dict[str, float]], bool]) -> str:
    """Numbers of the units that did not end well."""
    return ", ".join(str(unit) for unit, row in enumerate(rows, start=1) if not judge(row)) or "none"


def columns(
    rows: list[dict[str, float]], names: tuple[tuple[str, str, float, str, Callable[..., float]], ...]
) -> list[list[str]]:
    """Mean and worst of each value, in words."""
    found = []
    for title, key, scale, unit, worst in names:
        values = [scale * row[key] for row in rows if key in row]
        if values:
            found.append([title, f"{np.mean(values):.3g}", f"{worst(values):.3g}", unit])
    return found


def main() -> None:
    """Print and write the page."""
    units = int(sys.argv[1]) if len(sys.argv) > 1 else UNITS
    also = int(sys.argv[2]) if len(sys.argv) > 2 else units
    other = int(sys.argv[3]) if len(sys.argv) > 3 else FOREIGN
    wired = scores("commissioning wires", units, partial(commissioned, calibrates=False), right)
    whole = scores("commissioning", also, commissioned, good)
    foreign = scores("commissioning foreign", other, foreign_commissioned, good)
    sheet, wins = Sheet(), sum(good(row) for row in whole)
    sheet.say("# Blind commissioning")
    sheet.say()
    sheet.say(
        "Drawn machines of profile `unit`, cold, every error on: cables in any order, a share of them inverted, the "
        "panel in one of eight mountings, one or two dead channels. What `labctl commission` does, in process (a "
        "served bench gives the same bits): wires, then all that the golden sample rests on. Waiting for a machine to "
        "warm up is no part of it. Device time by the simulated bench's own clock."
    )
    sheet.say()
    met = verdict(wins >= MUST) if also >= UNITS else f"{also} units were run, so it is not decided"
    sheet.say(
        f"- To a good golden sample on the right wiring within {MINUTES:g} simulated minutes: **{wins} of {also}** "
        f"(bar {MUST} of {UNITS}: {met}; aim {UNITS}). Not so: {failed(whole, good)}."
    )
    sheet.say(
        f"- Wiring as it truly is, every channel: **{sum(map(right, wired))} of {units}**. Not so: "
        f"{failed(wired, right)}."
    )
    sheet.say()
    names = (
        ("drive cables right", "drive", 100.0, "%", min),
        ("read cables right", "read", 100.0, "%", min),
        ("polarities of drives right", "drive sign", 100.0, "%", min),
        ("polarities of reads right", "read sign", 100.0, "%", min),
        ("units with all dead channels named", "dead", 100.0, "%", min),
        ("device time of the wiring", "wiring_s", 1.0, "s", max),
        ("dead channels drawn", "dead channels", 1.0, "of 48", max),
        ("polarities inverted", "inverted", 1.0, "of 96", max),
    )
    sheet.say(f"## Wires: {units} units")
    sheet.say()
    sheet.table(["over the units", "mean", "worst", "unit"], columns(wired, names))
    ends = (
        ("device time, wires and calibration", "device_s", 1.0, "s", max),
        ("golden distance (allowed: 3)", "golden", 1.0, "% of full scale", max),
        (
            f"known answers missed by (allowed: {100 * WORST_ANSWER:g})",
            "answers",
            1.0,
            "% of full scale",
            max,
        ),
        ("linear answers missed by (allowed: 5)", "linear", 1.0, "%", max),
    )
    sheet.say(f"## To the golden sample: {also} units")
    sheet.say()
    sheet.table(["over the units", "mean", "worst", "unit"], columns(whole, ends))
    if foreign:
        sheet.say(f"## The foreign device: {other} units")
        sheet.say()
        sheet.say(
            "A bench of other equations (`foreign_bench`), scrambled likewise, its panel in one of eight mountings: to a "
            f"good golden sample on the right wiring: **{sum(map(good, foreign))} of {other}**. Not so: "
            f"{failed(foreign, good)}."
        )
        sheet.say()
        sheet.table(["over the units", "mean", "worst", "unit"], columns(foreign, names + ends))
    sheet.say(
        "Gauges: a dead channel's column and polarity cannot be told and are not compared; a panel turned over cannot "
        "be told from cables in reverse, so places are compared along the panel's own pixels."
    )
    sheet.write(RESULTS / "commissioning.md")


if __name__ == "__main__":
    main()
