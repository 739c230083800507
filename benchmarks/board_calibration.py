"""Oscillator boards calibrated and compensated: whether uncertainties say the truth, and what is left of damage.

`python benchmarks/board_calibration.py [BOARDS BOARDS BOARDS BOARDS BOARDS]` prints this page: so many boards of
5 x 5 and of 10 x 10 for the intervals (80 and 20), and for each table of digits (20): two of twins, one of the
foreign device; cells are resumable. Every twin has every error of the profile unit50 on, every board has detuning
.5, gain .1, offset .05 drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from common import cell
from foreign_board import Spread, WaveformBoard, WaveformWorld, drawn_board, perfect_board
from held_intervals import HEAD, Scores, table
from labctl_calibration.oscillators import (
    ANCHORS,
    ESSENTIAL,
    FREQUENCIES,
    OSCILLATOR_PROCEDURES,
    READ_PATHS,
    TEMPERATURE,
)
from labctl_calibration.oscillators.compensation import compensated
from labctl_calibration.oscillators.diffusion import KIND as DIFFUSION_KIND
from labctl_calibration.oscillators.frequency import KIND as FREQUENCY_KIND
from labctl_calibration.oscillators.lag import KIND as LAG_KIND
from labctl_calibration.oscillators.settling import KIND as SETTLING_KIND
from labctl_calibration.oscillators.skew import KIND as SKEW_KIND
from labctl_calibration.oscillators.skew import ReadPaths
from labctl_calibration.oscillators.temperature import KIND as TEMPERATURE_KIND
from labctl_calibration.procedure import Devices, Measured, Procedure
from labctl_sim_devices.oscillator_bench import OscillatorBench
from labctl_sim_devices.oscillator_board import OscillatorBoardTwin
from labctl_sim_devices.oscillator_profile import OscillatorProfile, load_oscillator_profile
from labctl_sim_devices.oscillator_units import OSCILLATOR_TERMS

from labctl.devices import BoardImage, CalibrationRecord, OscillatorBoard, RunCodes
from labctl.models.oscillators.checkpoint import load_generator
from labctl.models.oscillators.generator import program_of
from labctl.models.oscillators.scoring import PictureJudge
from labctl.models.pictures import Pictures
from labctl.programs import board_image

BOARDS = (80, 20, 20, 20, 20)  # 2,000 values of what every oscillator of 5 x 5, and of 10 x 10, has
MODEL = "digits8_oscillators-4bit"
DETUNING, GAIN, OFFSET = 0.5, 0.1, 0.05
WIDE = {"detuning_units": 3.0, "detuning_bits": 10}  # a trim that reaches six standard deviations
CELL_SHAPE = {"rows": 5, "columns": 5, "radius": 1.0}  # every procedure
NODE_SHAPE = {"rows": 10, "columns": 10, "radius": 1.0}  # those of oscillators alone
NODE_PROCEDURES = (FREQUENCIES, READ_PATHS, ANCHORS, TEMPERATURE)
FAMILIES = (
    "detuning", "read skew", "read bow", "anchor gain", "anchor phase", "coupling gain", "coupling offset",
    "even bow", "odd bow", "phase lag", "supply", "diffusion", "settling rate", "temperature coefficient",
)  # fmt: skip
MEAN_BAR, WORST_BAR, AIM = 0.10, 0.20, 0.05
VERSION, CELL_VERSION = 4, 5


def profile_of(**overrides: object) -> OscillatorProfile:
    """The profile unit50 with the bar's errors instead of its own of these three terms."""
    profile = load_oscillator_profile("unit50", overrides)
    if profile.unit is None:
        raise TypeError("unit50 describes no population")
    sizes = {"detuning": DETUNING, "coupling_gain": GAIN, "coupling_offset": OFFSET}
    terms = {name: getattr(profile.unit, name).model_copy(update={"sd": sd}) for name, sd in sizes.items()}
    return profile.model_copy(update={"unit": profile.unit.model_copy(update=terms)})


@dataclass(frozen=True, eq=False)
class Unit:
    """An opened board with its records as they come."""

    board: OscillatorBoard
    records: dict[str, CalibrationRecord]

    def measure(self, procedure: Procedure) -> Measured:
        """Run a procedure and keep its record."""
        devices = Devices({OscillatorBoard: self.board})
        found = procedure.measure(devices, self.records, lambda what, done, total: None)
        self.records[procedure.kind] = CalibrationRecord(found.kind, "twin", "", dict(found.arrays))
        return found


@dataclass(frozen=True, eq=False)
class TwinUnit(Unit):
    """One board of the twin's population."""

    bench: OscillatorBench
    board: OscillatorBoardTwin

    @classmethod
    def drawn(cls, profile: OscillatorProfile, seed: int) -> TwinUnit:
        """The board number `seed`, on a day of its own."""
        bench = OscillatorBench(profile, seed=1000 + seed, unit_seed=seed)
        board = OscillatorBoardTwin("board", bench)
        board.open()
        return cls(board, {}, bench)


def foreign_unit(number: int | None) -> Unit:
    """A waveform board of the bar's errors and its own; None: one without mismatch, its noise on."""
    spread = Spread(detuning_units=DETUNING, gain=GAIN, offset_units=OFFSET)
    wiring = program_of(load_generator(MODEL).generator).topology
    if number is None:
        own = perfect_board(wiring, diffusion=spread.diffusion_rad2_per_unit)
    else:
        own = drawn_board(wiring, number, spread)
    world = WaveformWorld(
        wiring, seed=number or 0, unit=own, read_bits=8, trim_units=WIDE["detuning_units"],
        trim_bits=int(WIDE["detuning_bits"]), steps_a_period=8, dtype=np.float32,
    )  # fmt: skip
    board = WaveformBoard("board", world)
    board.open()
    return Unit(board, {})


def scores_of(seed: int, shape: dict[str, float], procedures: tuple[Procedure, ...]) -> dict[str, float]:
    """Sums of `held_intervals.Scores` by family, and cells that were dead, found dead and wrongly called so."""
    unit = TwinUnit.drawn(profile_of(**shape, **WIDE), seed)
    scores = Scores()

    def scored(
        family: str, found: Measured, array: str, truth: np.ndarray | float, also: object = True
    ) -> None:
        scores.add(family, found.arrays[array], found.arrays[f"{array}_sd"], truth, also)

    truth = unit.bench.unit
    live = truth.dead < 0.5
    for procedure in procedures:
        before = unit.bench.detuning()
        found = unit.measure(procedure)
        if found.kind == FREQUENCY_KIND:
            scored("detuning", found, "detuning_units", (before + unit.bench.detuning()) / 2)
        elif found.kind == SKEW_KIND:
            scored("read skew", found, "skew_rad", truth.read_skew_rad)
            scored("read bow", found, "bow_sine_rad", truth.read_bow_rad[:, 0])
            scored("read bow", found, "bow_cosine_rad", truth.read_bow_rad[:, 1])
        elif procedure.name == "anchors":
            scored("anchor gain", found, "gain", 1 + truth.injection_gain)
            scored("anchor phase", found, "phase_rad", truth.injection_phase_rad)
        elif procedure.name == "couplings":
            scores.sums["dead"] = float((~live).sum())
            scores.sums["found dead"] = float((found.arrays["dead"] * ~live).sum())
            scores.sums["wrongly dead"] = float((found.arrays["dead"] * live).sum())
            for family, array, value in (
                ("coupling gain", "gain", truth.coupling_gain),
                ("coupling offset", "offset_units", truth.coupling_offset),
                ("even bow", "bow_even", truth.bow_even),
                ("odd bow", "bow_odd", truth.bow_odd),
            ):
                scored(family, found, array, value, live)
            scored("supply", found, "supply", truth.supply)
        elif found.kind == LAG_KIND:
            scored("phase lag", found, "lag_rad", truth.lag_rad, live)
        elif found.kind == DIFFUSION_KIND:
            scored("diffusion", found, "diffusion_rad2_per_unit", unit.bench.profile.diffusion_rad2_per_unit)
        elif found.kind == SETTLING_KIND:
            scored("settling rate", found, "rate_per_unit", return_rates(unit, found))
        elif found.kind == TEMPERATURE_KIND:
            scored("temperature coefficient", found, "units_per_c", truth.units_per_c)
    return scores.sums


def return_rates(unit: TwinUnit, found: Measured) -> np.ndarray:
    """True rates [n], 1/unit, at which each oscillator returns to its rest under the settling's anchors.

    The slope of its own equation at the rest of all, with what the codes that make the board quiet still
    couple: what the procedure measures, not the anchor's gain alone.
    """
    law, wiring, truth = unit.board.law(np.array([0])), unit.board.spec.topology, unit.bench.unit
    step = unit.board.spec.injection.units_per_code
    anchor = (1 + truth.injection_gain) * round(float(found.settings["anchor_units"]) / step) * step
    direct, late = law.direct[0], law.lagging[0]

    def pulls(theta: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        away = theta[wiring.source] - theta[wiring.target]
        return np.bincount(wiring.target, a * np.sin(away) + b * np.cos(away), wiring.n)

    theta = truth.injection_phase_rad.copy()
    for _ in range(200):
        rate = pulls(theta, direct, -late) - anchor * np.sin(theta - truth.injection_phase_rad)
        theta = theta + 0.5 * (rate + law.detuning[0]) / anchor
    return pulls(theta, late, direct) + anchor * np.cos(theta - truth.injection_phase_rad)


def distance(unit: Unit, image: BoardImage, *, read: bool) -> dict[str, float]:
    """FD of the digits that an image makes on a board; `read`: its phases corrected by the record."""
    loaded = load_generator(MODEL)
    program, judge = program_of(loaded.generator), PictureJudge.named_by(loaded.card)
    paths = ReadPaths(unit.records[SKEW_KIND]) if read else None
    unit.board.load(image)
    spec = unit.board.spec

    def draw(count: int, seed: int) -> Pictures:
        del seed
        parts = []
        for first in range(0, count, spec.max_queue):
            ids = np.arange(first, min(first + spec.max_queue, count))
            phases = spec.read_rad(unit.board.run(RunCodes(ids, step_id=3)).codes[:, 0])
            if paths is not None:
                phases = paths.phases(phases)
            parts.append(program.pixels(phases[:, program.visible]))
        return np.concatenate(parts).reshape(count, 8, 8).astype(np.float32)

    found, reference = judge.scores(draw), judge.reference
    floor = reference.floors[-1]
    raw = reference.gaussian - floor
    return {"fd": found.frechet_star * raw + floor, "error": found.spread * raw}


def perfect() -> dict[str, float]:
    """FD of the same program on a board without any mismatch, noise on."""
    unit = TwinUnit.drawn(profile_of(), 0)
    unit.bench.set_terms(dict.fromkeys(OSCILLATOR_TERMS, 0.0))
    return distance(unit, plain_image(unit), read=False)


def plain_image(unit: Unit) -> BoardImage:
    """The program in a board's codes, as if it were without mismatch."""
    return board_image(program_of(load_generator(MODEL).generator), unit.board.spec)[0]


def damage_of(unit: Unit) -> dict[str, float]:
    """FD as it comes and after calibration and compensation, on one board."""
    raw = distance(unit, plain_image(unit), read=False)
    for procedure in ESSENTIAL:
        unit.measure(procedure)
    made = compensated(program_of(load_generator(MODEL).generator), unit.board.spec, unit.records)
    out = distance(unit, made.image, read=True)
    return {
        "raw": raw["fd"], "fd": out["fd"], "error": out["error"],
        "misfit": float(made.misfit.mean()), "before": float(made.before.mean()),
    }  # fmt: skip


def damaged(seed: int, trim: dict[str, float]) -> dict[str, float]:
    """`damage_of` a board of the twin's population."""
    unit = TwinUnit.drawn(profile_of(**trim), seed)
    return damage_of(unit) | {"dead": float(unit.bench.unit.dead.sum())}


def foreign_perfect() -> dict[str, float]:
    """As `perfect`, on a waveform board."""
    unit = foreign_unit(None)
    return distance(unit, plain_image(unit), read=False)


def coverage_lines(small: int, large: int) -> list[str]:
    """The table of intervals, of so many boards of either size."""
    rows = []
    for shape, procedures, version, boards in (
        (CELL_SHAPE, OSCILLATOR_PROCEDURES, CELL_VERSION, small),
        (NODE_SHAPE, NODE_PROCEDURES, VERSION, large),
    ):
        key = {"row": "board coverage", "shape": shape, "v": version}
        rows += [
            cell({**key, "board": k}, partial(scores_of, k, shape, procedures)) for k in range(1, boards + 1)
        ]
    lines = [
        f"### Intervals: {small} boards of 5 x 5 oscillators, {large} of 10 x 10, radius 1",
        "",
        f"{HEAD} Families of cells, and supply, diffusion and settling rate, are of the smaller boards.",
        "",
        *table(rows, FAMILIES),
    ]
    dead, found, wrongly = (
        sum(row.get(k, 0.0) for row in rows) for k in ("dead", "found dead", "wrongly dead")
    )
    of_dead = f"{found:.0f} of {dead:.0f} dead cells were found" if dead else "No cell was dead"
    lines += ["", f"{of_dead}; {wrongly:.0f} live ones were called dead.", ""]
    return lines


@dataclass(frozen=True)
class Population:
    """Boards whose digits are judged: words; how cells are named; FD without mismatch and of board k."""

    words: str
    key: dict[str, object]
    base: Callable[[], dict[str, float]]
    of: Callable[[int], dict[str, float]]
    others: str = "all else of unit50"
    row: str = "board"


def twins(words: str, trim: dict[str, float]) -> Population:
    """Twins whose trims are others."""
    return Population(words, {"trim": trim}, perfect, partial(damaged, trim=trim))


FOREIGN = Population(
    "the foreign device, oscillators with their carrier, trims that reach 3 units",
    {},
    foreign_perfect,
    lambda k: damage_of(foreign_unit(k)),
    "all else of `foreign_board.Spread`",
    "foreign board",
)


def damage_lines(boards: int, kind: Population) -> list[str]:
    """The table of FD."""
    base = cell({"row": f"{kind.row} perfect", "v": VERSION}, kind.base)
    key = {"row": f"{kind.row} damage", "v": VERSION, **kind.key}
    rows = [cell({**key, "board": k}, partial(kind.of, k)) for k in range(1, boards + 1)]
    rise = np.array([row["fd"] / base["fd"] - 1 for row in rows])
    raw = np.array([row["raw"] / base["fd"] - 1 for row in rows])
    misfit, before = (np.mean([row[k] for row in rows]) for k in ("misfit", "before"))
    mean, worst = float(rise.mean()), float(rise.max())
    met = "met" if mean <= MEAN_BAR and worst <= WORST_BAR else "missed"
    return [
        f"### Digits on {len(rows)} boards of 8 x 8: {kind.words}",
        "",
        f"FD {base['fd']:.3f} ± {base['error']:.3f} on a board without mismatch, noise on; "
        f"{MODEL}, detuning {DETUNING}, gain {GAIN}, offset {OFFSET}, {kind.others}.",
        "",
        "| | mean | worst | best |",
        "|---|---|---|---|",
        f"| FD as it comes | {raw.mean():+.0%} | {raw.max():+.0%} | {raw.min():+.0%} |",
        f"| FD calibrated and compensated | {mean:+.1%} | {worst:+.1%} | {rise.min():+.1%} |",
        f"| misfit of the phases' rates, units rms | {before:.3f} to {misfit:.3f} | | |",
        "",
        f"Bar {MEAN_BAR:+.0%} mean, {WORST_BAR:+.0%} worst: {met}; aim {AIM:+.0%}: "
        f"{'met' if mean <= AIM else 'missed'}.",
        "",
    ]


def page(small: int, large: int, wide: int, own: int, foreign: int) -> list[str]:
    """This page, as lines of Markdown; so many boards for each of its parts, no table where 0."""
    return [
        "## Oscillator boards, calibrated and compensated",
        "",
        *(coverage_lines(small, large) if small or large else ()),
        *(damage_lines(wide, twins("trims that reach 3 units", WIDE)) if wide else ()),
        *(damage_lines(own, twins("the profile's own trims, which reach 1 unit", {})) if own else ()),
        *(damage_lines(foreign, FOREIGN) if foreign else ()),
    ]


if __name__ == "__main__":
    counts = [int(word) for word in sys.argv[1:]] or BOARDS
    if len(counts) != len(BOARDS):
        raise SystemExit(f"{len(counts)} numbers of boards; allowed: none or {len(BOARDS)}")
    print("\n".join(page(*counts)))
