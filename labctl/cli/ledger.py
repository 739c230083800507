"""`labctl run` of a ledger: what an image costs, on a page of the terminal."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from labctl.cli.console import err, out, print_json
from labctl.cli.sheet import print_path
from labctl.devices import ConfigError
from labctl.energy import Constants, Interval, Posterior, Value, shipped_claims
from labctl.procedures import LedgerRecipe, LedgerResult, Protocol, ledger
from labctl.reports.words import duration, number, quantity, share

MOST_MOVED = 8  # constants printed for a claim; the file has all


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
        Text(
            f"an image, its batch shared out; in brackets 5% to 95% of {result.draws:,} draws of the constants",
            "dim",
        )
    )
    console.print()
    console.print(_costs(result))
    console.print()
    console.print(_items(result))
    console.print()
    for line in _measured(result):
        console.print(Text(line, "dim"))
    if result.ratios:
        console.print()
        console.print(_ratios(result))
    console.print()
    console.print(Text("claims, never ours", "bold"))
    for claim in shipped_claims().values():
        console.print(Text(f"  claim: {claim.says}. {claim.source}"))
    for found in result.posteriors:
        console.print()
        print_posterior(console, found, result.constants)
    console.print()
    print_path(console, "file", result.file)


def print_constants(console: Console, constants: Constants) -> None:
    """Every constant with its interval and where it comes from."""
    table = _table("constant", "value", "interval", "", "meaning")
    for name, constant in constants.table.items():
        low, high = (quantity(end, constant.unit) for end in constant.interval)
        between = "certain" if constant.distribution == "point" else f"{low} to {high}"
        table.add_row(
            name, quantity(constant.value, constant.unit), between, constant.provenance, constant.meaning
        )
    console.print(table)


def print_posterior(console: Console, found: Posterior, constants: Constants) -> None:
    """What must be true for one claim."""
    console.print(Text(found.claim, "bold"))
    held = "holds" if found.at_own_holds else "does not hold"
    told = f"{held} at the constants' own values; holds in {found.kept:,} of {found.draws:,} draws"
    console.print(Text(f"{told} ({share(found.prior_share)})", "dim"))
    if not found.ranking:
        console.print(
            Text(
                f"too few, or all: no constant can be ranked; own values give {number(found.at_own)}, all "
                f"constants at their raising ends {number(found.highest)}, at the others {number(found.lowest)}",
                "dim",
            )
        )
        return
    console.print(
        Text(
            f"moved: distance of its distribution given the claim from the one before (chance: below "
            f"{found.floor:.3f}); share: of the variance of ln(result), together {share(found.explained)}; "
            "alone: where it would have to be with all others at their own values",
            "dim",
        )
    )
    missing = "as it is" if found.at_own_holds else "not enough"
    table = _table("constant", "moved", "own value", "median before", "given the claim", "alone", "share")
    for one in found.ranking[:MOST_MOVED]:
        unit = constants[one.name].unit
        given = f"{quantity(one.median, unit)} [{quantity(one.low, unit)}, {quantity(one.high, unit)}]"
        table.add_row(
            one.name,
            f"{one.moved:.3f}" if one.moved > found.floor else "chance",
            quantity(constants[one.name].value, unit),
            quantity(one.prior_median, unit),
            given,
            quantity(one.alone, unit) if one.alone is not None else missing,
            share(one.share),
        )
    console.print(table)


def _costs(result: LedgerResult) -> Table:
    table = _table("image", "core", "wall plug", "time")
    for row in result.rows:
        table.add_row(
            f"{row.name}{' (this CPU)' if row.how.startswith('this CPU') else ''}",
            _told(row.core_j),
            _told(row.wall_j),
            _time(row.latency_s),
        )
    return table


def _items(result: LedgerResult) -> Table:
    table = _table("of which", "core", "wall plug", "time")
    for row in result.rows:
        if row.kind == "digital":
            continue
        latency = {name: duration(float(s) * 1e6) for name, s in row.account.latency_s.items()}
        table.add_row(
            row.name,
            _parts({name: _joule(j) for name, j in row.account.core_j.items()}),
            _parts({name: _joule(j) for name, j in row.account.wall_j.items()}),
            _parts(latency),
        )
    return table


def _parts(items: dict[str, str]) -> str:
    return "\n".join(f"{name} {value}" for name, value in items.items())


def _measured(result: LedgerResult) -> list[str]:
    lines = [
        f"{row.name}: {row.how}" + (f", {result.processor}" if row.how.startswith("this CPU") else "")
        for row in result.rows
    ]
    if result.measured:
        lines.append("This CPU: time measured (CPU time of a thread), power assumed: p_cpu_w, p_cpu_rest_w.")
    return lines


def _ratios(result: LedgerResult) -> Table:
    table = _table("digital / machine", "against", "core", "100x holds in", "wall plug", "100x holds in")
    for one in result.ratios:
        table.add_row(
            one.machine,
            one.digital,
            _factor(one.core),
            share(one.core_share),
            _factor(one.wall),
            share(one.wall_share),
        )
    return table


def _joule(value: Value) -> str:
    return quantity(float(value), "J")


def _told(found: Interval) -> str:
    return f"{quantity(found.value, 'J')} [{quantity(found.low, 'J')}, {quantity(found.high, 'J')}]"


def _time(found: Interval) -> str:
    if found.low == found.high:
        return duration(found.value * 1e6)
    return f"{duration(found.value * 1e6)} [{duration(found.low * 1e6)}, {duration(found.high * 1e6)}]"


def _factor(found: Interval) -> str:
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
