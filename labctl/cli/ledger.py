"""`labctl run` of a ledger: what an image costs, on a page of the terminal.

Tables are made as plain cells, for whoever prints them in another way.
"""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from labctl.cli.console import err, out, print_json
from labctl.cli.sheet import print_path
from labctl.devices import ConfigError
from labctl.energy import Constants, Interval, Posterior, shipped_claims
from labctl.procedures import LedgerRecipe, LedgerResult, Protocol, ledger
from labctl.reports.words import duration, number, quantity, share

MOST_MOVED = 8  # constants printed for a claim; the file has all
Cells = tuple[list[str], list[list[str]]]  # headings, rows


def run_ledger(
    protocol: Protocol, rig: str | None, folder: Path, *, as_json: bool = False, quiet: bool = False
) -> None:
    """Make it, say where the file is, print the tables. Raises ConfigError where a rig was named."""
    refuse_rig(protocol, rig)
    console = err()
    silent = as_json or quiet or not console.is_terminal
    with console.status("timing", spinner="dots") as status:
        if silent:
            status.stop()
        result = ledger(protocol, out=folder, say=status.update)
    if as_json:
        print_json({"exit_code": 0, "file": str(result.file), **json.loads(result.file.read_text("utf-8"))})
    elif quiet:
        print(result.file)
    else:
        print_ledger(out(), result)


def validate_ledger(protocol: Protocol, rig: str | None) -> None:
    """Everything the ledger would take, nothing timed: its rows, and every constant."""
    refuse_rig(protocol, rig)
    recipe = protocol.recipe
    if not isinstance(recipe, LedgerRecipe):
        raise ConfigError(f"recipe {protocol.name} is no ledger")
    console = out()
    console.print(Text(recipe.title, "bold"))
    names = [row.name for row in (*recipe.oscillators, *recipe.optics, *recipe.measured)]
    console.print(Text(f"rows: {'; '.join(names)}", "dim"))
    console.print()
    print_constants(console, recipe.constants_of({}))
    console.print()
    console.print(Text.assemble(("valid", "green"), f": {recipe.draws:,} draws, no rig, no samples"))


def refuse_rig(protocol: Protocol, rig: str | None) -> None:
    """A ledger compares on paper; a rig that somebody names would be left unused in silence."""
    if rig is not None:
        raise ConfigError(
            f"--rig {rig}: recipe {protocol.name} runs on no rig; allowed: none, or --set of=FILE for the "
            "times of a run"
        )


def print_ledger(console: Console, result: LedgerResult) -> None:
    """Costs, where they come from, claims, what they would need."""
    console.print(Text(result.title, "bold"))
    console.print(
        Text(f"an image, its batch shared out; in brackets 5% to 95% of {result.draws:,} draws", "dim")
    )
    for cells in (costs(result), items(result)):
        console.print()
        console.print(_table(cells))
    console.print()
    for line in counted(result):
        console.print(Text(line, "dim"))
    if result.ratios:
        console.print()
        console.print(_table(ratios(result)))
    console.print()
    console.print(Text("claims, never ours", "bold"))
    for claim in shipped_claims().values():
        console.print(Text(f"  claim: {claim.says}. {claim.source}"))
    for found in result.posteriors:
        console.print()
        console.print(Text(found.claim, "bold"))
        console.print(Text(held(found), "dim"))
        if found.ranking:
            console.print(_table(ranking(found, result.constants)))
    console.print()
    print_path(console, "file", result.file)


def print_constants(console: Console, constants: Constants) -> None:
    """Every constant with its interval and where it comes from."""
    rows = []
    for name, constant in constants.table.items():
        low, high = (quantity(end, constant.unit) for end in constant.interval)
        between = "certain" if constant.distribution == "point" else f"{low} to {high}"
        own = quantity(constant.value, constant.unit)
        rows.append([name, own, between, constant.provenance, constant.meaning])
    console.print(_table((["constant", "value", "interval", "", "meaning"], rows)))


def costs(result: LedgerResult) -> Cells:
    """A row a machine: core, wall plug and time, with their intervals."""
    rows = [
        [
            f"{row.name}{' (this CPU)' if row.how.startswith('this CPU') else ''}",
            _told(row.core_j),
            _told(row.wall_j),
            _time(row.latency_s),
        ]
        for row in result.rows
    ]
    return ["image", "core", "wall plug", "time"], rows


def items(result: LedgerResult, between: str = "\n") -> Cells:
    """What the machines' figures are made of, at the constants' own values."""
    rows = [
        [
            row.name,
            between.join(f"{name} {quantity(float(j), 'J')}" for name, j in row.account.core_j.items()),
            between.join(f"{name} {quantity(float(j), 'J')}" for name, j in row.account.wall_j.items()),
            between.join(f"{name} {duration(float(s) * 1e6)}" for name, s in row.account.latency_s.items()),
        ]
        for row in result.rows
        if row.kind != "digital"
    ]
    return ["of which", "core", "wall plug", "time"], rows


def counted(result: LedgerResult) -> list[str]:
    """What was counted or run for each row, and what the digital ones are not."""
    lines = [
        f"{row.name}: {row.how}" + (f", {result.processor}" if row.how.startswith("this CPU") else "")
        for row in result.rows
    ]
    if result.measured:
        lines.append("This CPU: time measured (CPU time of a thread), power assumed: p_cpu_w, p_cpu_rest_w.")
        lines.append("A generator as large as a program: nobody has shown it to be of equal quality.")
    return lines


def ratios(result: LedgerResult) -> Cells:
    """Digital energy over every machine's."""
    rows = [
        [
            one.machine,
            one.digital,
            _factor(one.core),
            share(one.core_share),
            _factor(one.wall),
            share(one.wall_share),
        ]
        for one in result.ratios
    ]
    return ["digital / machine", "against", "core", "100x holds in", "wall plug", "100x holds in"], rows


def held(found: Posterior) -> str:
    """How far a claim holds, and how its ranking is to be read, in words."""
    own = "holds" if found.at_own_holds else "does not hold"
    told = (
        f"{own} at the constants' own values; holds in {found.kept:,} of {found.draws:,} draws "
        f"({share(found.prior_share)}). "
    )
    if not found.ranking:
        return told
    if found.nearest is not None:
        told += (
            f"Own values give {number(found.at_own)}, the ends of all intervals {number(found.lowest)} to "
            f"{number(found.highest)}. What follows is of the 1% of draws that come nearest, with "
            f"{number(found.nearest[0])} to {number(found.nearest[1])}. "
        )
    return told + (
        f"Moved: distance of a constant's distribution given the claim from the one before (chance: below "
        f"{found.floor:.3f}). Share: of the variance of ln(result), together {share(found.explained)}. "
        "Alone: where it would have to be with all others at their own values."
    )


def ranking(found: Posterior, constants: Constants) -> Cells:
    """The constants that a claim moves most."""
    missing = "as it is" if found.at_own_holds else "not enough"
    rows = []
    for one in found.ranking[:MOST_MOVED]:
        unit = constants[one.name].unit
        rows.append(
            [
                one.name,
                f"{one.moved:.3f}" if one.moved > found.floor else "chance",
                quantity(constants[one.name].value, unit),
                quantity(one.prior_median, unit),
                f"{quantity(one.median, unit)} [{quantity(one.low, unit)}, {quantity(one.high, unit)}]",
                quantity(one.alone, unit) if one.alone is not None else missing,
                share(one.share),
            ]
        )
    return ["constant", "moved", "own value", "median before", "given the claim", "alone", "share"], rows


def _told(found: Interval) -> str:
    return f"{quantity(found.value, 'J')} [{quantity(found.low, 'J')}, {quantity(found.high, 'J')}]"


def _time(found: Interval) -> str:
    if found.low == found.high:
        return duration(found.value * 1e6)
    return f"{duration(found.value * 1e6)} [{duration(found.low * 1e6)}, {duration(found.high * 1e6)}]"


def _factor(found: Interval) -> str:
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"


def _table(cells: Cells) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    headings, rows = cells
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
