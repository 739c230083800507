"""Fitted twins of drawn benches, all faults on: how much of held-out probes they predict, and settle times.

    python benchmarks/fitted_twin.py [--units 20] [--boards 20] [--foreign-boards 20]

A unit is calibrated once (its records are kept in the cache), agreement included: the records' own numbers
are printed. Then drawn oscillator boards, and foreign ones (foreign_board); twins of foreign optical devices are in
whole_calibration.py, which calibrates these. Units resume; results/fitted_twin.md holds the last run.
"""

from __future__ import annotations

import argparse

import numpy as np
from board_calibration import foreign_unit
from common import RESULTS, cell, records_of
from labctl_calibration.agreement import GATE, SETTLE_WITHIN
from labctl_calibration.optical.agreement import AGREEMENT, SETTLE_RATIO, SHARE, SHARE_UNSEEN
from labctl_calibration.oscillators import AGREEMENT as OF_BOARDS
from labctl_calibration.oscillators import DIFFUSION, ESSENTIAL, SETTLING
from labctl_calibration.oscillators import agreement as of_boards
from labctl_calibration.session import calibrate
from sheet import Sheet

from labctl.rig import Rig, load_rig
from labctl.rig.calibrating import bench_of

ASKED_UNITS = 20
VERSION = 2
BOARDS = 2  # version of the boards' agreement
OF_TWIN = (*ESSENTIAL, DIFFUSION, SETTLING, OF_BOARDS)  # what a board's twin rests on, and its agreement


def of_unit(unit: int) -> dict[str, float]:
    """The quantities of a drawn bench's agreement."""

    def work() -> dict[str, float]:
        config = load_rig("optical-unit")
        if config.world is None:
            raise SystemExit("optical-unit has no world")
        world = config.world.model_copy(update={"unit_seed": unit, "seed": unit})
        with Rig(config.model_copy(update={"world": world})) as rig:
            bench = bench_of(rig, records_of(unit))
            outcomes = {one.procedure.name: one for one in calibrate(bench)}
        found = outcomes[AGREEMENT.name]
        if found.stored is None:
            raise SystemExit(f"unit {unit}: {found.failed}")
        return {one.name: one.value for one in found.stored.about.quantities}

    return cell({"row": "fitted twin", "unit": unit, "v": VERSION}, work)


def of_board(board: int) -> dict[str, float]:
    """The same of a drawn oscillator board, all errors on."""

    def work() -> dict[str, float]:
        config = load_rig("oscillator-unit")
        if config.world is None:
            raise SystemExit("oscillator-unit has no world")
        world = config.world.model_copy(update={"unit_seed": board, "seed": board})
        with Rig(config.model_copy(update={"world": world})) as rig:
            bench = bench_of(rig, records_of(f"board {board}"), procedures=OF_TWIN)
            outcomes = {one.procedure.name: one for one in calibrate(bench)}
        found = outcomes[OF_BOARDS.name]
        if found.stored is None:
            raise SystemExit(f"board {board}: {found.failed}")
        return {one.name: one.value for one in found.stored.about.quantities}

    return cell({"row": "fitted board", "board": board, "v": BOARDS}, work)


def of_foreign_board(board: int) -> dict[str, float]:
    """The same of a waveform board."""

    def work() -> dict[str, float]:
        unit = foreign_unit(board)
        *_, agreement = [unit.measure(procedure) for procedure in OF_TWIN]
        return {one.name: one.value for one in agreement.quantities}

    return cell({"row": "fitted foreign board", "board": board, "v": BOARDS}, work)


def boards_table(sheet: Sheet, words: str, boards: list[dict[str, float]]) -> None:
    """Agreements of boards."""
    share = np.array([one[of_boards.SHARE] for one in boards])
    rate = np.abs(np.array([one[of_boards.RATE_RATIO] for one in boards]) - 1)
    sheet.say("")
    sheet.say(f"## Fitted twins: {len(boards)} {words}")
    sheet.say("")
    if len(boards) < ASKED_UNITS:
        sheet.say(f"The bar asks for {ASKED_UNITS} boards: this run is smaller.")
        sheet.say("")
    sheet.rows(
        ["", "mean", "worst board", "bar"],
        [
            ["variance of what couplings do, held-out programs", f"{share.mean():.2f}%", f"{share.min():.2f}%",
             f">= {100 * GATE:.0f}%: {'met' if share.min() >= 100 * GATE else 'NOT MET'}"],
            ["settling rate off the twin's", f"{100 * rate.mean():.1f}%", f"{100 * rate.max():.1f}%",
             f"<= {100 * SETTLE_WITHIN:.0f}%: {'met' if rate.max() <= SETTLE_WITHIN else 'NOT MET'}"],
        ],
    )  # fmt: skip


def _alone() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=ASKED_UNITS)
    parser.add_argument("--boards", type=int, default=ASKED_UNITS, help="oscillator boards; 0: none")
    parser.add_argument("--foreign-boards", type=int, default=ASKED_UNITS, help="waveform boards; 0: none")
    given = parser.parse_args()
    units = given.units
    sheet = Sheet()
    sheet.say(f"## Fitted twins: {units} drawn optical benches, every fault on")
    sheet.say("")
    if units < ASKED_UNITS:
        sheet.say(f"The bar asks for {ASKED_UNITS} units: this run is smaller.")
        sheet.say("")
    found = [of_unit(unit) for unit in range(1, units + 1)]
    rows = []
    for name, words in ((SHARE, "held-out probes"), (SHARE_UNSEEN, "a frame never probed")):
        values = np.array([one[name] for one in found])
        met = "met" if values.min() >= 100 * GATE else "NOT MET"
        bar = f">= {100 * GATE:.0f}%: {met}"
        rows.append(
            [f"variance of what light adds, {words}", f"{values.mean():.2f}%", f"{values.min():.2f}%", bar]
        )
    ratio = np.array([one[SETTLE_RATIO] for one in found])
    off = np.abs(ratio - 1)
    met = "met" if off.max() <= SETTLE_WITHIN else "NOT MET"
    rows.append(
        ["settle time (p95) off the twin's", f"{100 * off.mean():.1f}%", f"{100 * off.max():.1f}%",
         f"<= {100 * SETTLE_WITHIN:.0f}%: {met}"]
    )  # fmt: skip
    sheet.rows(["", "mean", "worst unit", "bar"], rows)
    for words, count, of in (
        ("drawn oscillator boards of 64, every error on", given.boards, of_board),
        ("foreign oscillator boards of 64, every error on", given.foreign_boards, of_foreign_board),
    ):
        if count:
            boards_table(sheet, words, [of(board) for board in range(1, count + 1)])
    sheet.write(RESULTS / "fitted_twin.md")


if __name__ == "__main__":
    _alone()
