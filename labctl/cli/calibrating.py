"""`labctl calibrate`: what is missing or stale, in order, with progress, values, changes and a page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labctl_calibration.planning import Bench, Plan, Step, Wish
from labctl_calibration.registry import PROCEDURES
from labctl_calibration.session import Outcome, calibrate
from labctl_calibration.store.collecting import raw_policy
from labctl_calibration.today import Ability, abilities
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labctl.cli.console import out
from labctl.cli.live import Silent, progress
from labctl.cli.sheet import print_path
from labctl.devices import Aborted, DeviceFault, LabctlError
from labctl.procedures.forecasting import Expected, of_golden_task
from labctl.reports.calibration_page import change_in_words, state_of, told, write_page
from labctl.reports.words import seconds
from labctl.rig import Rig, load_rig
from labctl.rig.calibrating import bench_of
from labctl.rig.config import RigConfig
from labctl.rig.interlocks import overrides_of

STYLES = {"success": "green", "running": "dim", "aborted": "yellow", "failed": "red"}


@dataclass(frozen=True)
class Asked:
    """The command line. overrides: "NAME: REASON", of procedures, software limits and interlocks.
    raw: which raw readings to keep.
    """

    rig: str
    records: Path
    only: str | None
    again: str | None
    dry_run: bool
    operator: str
    overrides: tuple[str, ...]
    raw: str = "last"
    forecast: bool = True


def calibrate_rig(asked: Asked) -> None:
    """Run what is due of a rig and say what it can do. DeviceFault where a record was not accepted, or could
    not be had.
    """
    config, keep_raw = load_rig(asked.rig), raw_policy(asked.raw)
    names = tuple(procedure.name for procedure in PROCEDURES)
    reasons = overrides_of(
        asked.overrides, (*names, *config.overridable), "procedure, software limit or interlock"
    )
    wish = Wish(asked.only, asked.again, {name: why for name, why in reasons.items() if name in names})
    of_rig = [f"{name}: {why}" for name, why in reasons.items() if name not in names]
    console = out()
    outcomes: list[Outcome] = []
    with progress(quiet=False) as watcher:
        watcher.doing(f"opening {asked.rig}")
        with Rig(config, overrides=of_rig) as rig:
            bench = bench_of(rig, asked.records, asked.operator)
            plan = bench.plan(datetime.now(UTC), wish)
            watcher.doing(f"{len(plan.due)} of {len(bench.procedures)} due, {_duration(plan)}")
            stopped: BaseException | None = None
            try:
                for outcome in (
                    () if asked.dry_run else calibrate(bench, wish, tell=watcher.preparing, keep_raw=keep_raw)
                ):
                    outcomes.append(outcome)
                    rig.interlocks.check(f"after {outcome.procedure.name}")
            except (LabctlError, KeyboardInterrupt) as error:
                stopped = error  # what was measured is kept, and shown
            able = abilities_of(bench)
        foreseen = _foreseen(asked, config, outcomes, stopped, watcher)
    console.print(Text(config.name, "bold"))
    if asked.dry_run:
        _print_plan(console, plan)
    else:
        _print_results(console, asked, bench, outcomes, able, foreseen)
        if isinstance(stopped, KeyboardInterrupt):
            kept = sum(one.measured is not None for one in outcomes)
            raise Aborted(f"{kept} records were measured and are kept in {asked.records}")
    if stopped is not None:
        raise stopped
    require_accepted(config.name, outcomes)


def _foreseen(
    asked: Asked,
    config: RigConfig,
    outcomes: list[Outcome],
    stopped: BaseException | None,
    watcher: Silent,
) -> Expected | None:
    """Of the golden task; its network is adapted now where a whole calibration measured something."""
    if asked.dry_run or stopped is not None or not asked.forecast:
        return None
    watcher.doing("what quality to expect")
    measured = any(one.measured is not None for one in outcomes)

    def tell(what: str, done: int, total: int) -> None:
        (watcher.computing if what == "forecast" else watcher.training)(what, done, total)

    return of_golden_task(config, asked.records, tell, adapt=measured and asked.only is None)


def _duration(plan: Plan) -> str:
    return f"about {seconds(plan.duration_s)} of device time"


def _print_plan(console: Console, plan: Plan) -> None:
    """What would be measured, why, and for how long."""
    for heading, steps in (
        (f"to be measured, in this order, {_duration(plan)}", plan.due),
        ("only if what they rest on has changed beyond its uncertainty", plan.perhaps),
        ("left alone", plan.in_use),
    ):
        if steps:
            console.print(Text(heading, "dim"))
            console.print(_steps(steps))


def _steps(steps: tuple[Step, ...]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column()
    for step in steps:
        grid.add_row(f"  {step.procedure.name}", seconds(step.duration_s), step.standing.words)
    return grid


def _print_results(
    console: Console,
    asked: Asked,
    bench: Bench,
    outcomes: list[Outcome],
    able: tuple[Ability, ...],
    foreseen: Expected | None,
) -> None:
    """Values, what the rig can do, and the page."""
    for outcome in outcomes:
        print_outcome(console, outcome)
    if able:
        console.print()
        console.print(Text("what the rig can do today", "bold"))
        console.print(able_table(able))
    if foreseen is not None:
        console.print(Text(f"  predicted quality  {foreseen.words}"), soft_wrap=True)
    console.print()
    if not any(one.measured is not None for one in outcomes):
        console.print(Text("nothing was measured", "dim"))
        return
    now, rig = datetime.now(UTC), bench.circumstances.rig
    folder = asked.records / "reports" / f"{rig}_{now:%Y%m%d-%H%M%S}"
    page = write_page(folder, rig, asked.operator, f"{now:%Y-%m-%d %H:%M} UTC", outcomes, able)
    print_path(console, "records", asked.records)
    print_path(console, "page", page)


def require_accepted(rig: str, outcomes: list[Outcome]) -> None:
    """DeviceFault, naming the first, where a procedure failed or a value lies outside its range."""
    bad = [one for one in outcomes if one.failed or (one.measured is not None and not one.accepted)]
    if not bad:
        return
    first = bad[0]
    quantities = () if first.stored is None else first.stored.about.quantities
    outside = "; ".join(
        f"{one.name} is {told(one)}; allowed: {one.allowed}" for one in quantities if not one.accepted
    )
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    raise DeviceFault(
        (first.failed or outside) + more, device=rig, operation=f"calibrate {first.procedure.name}"
    )


def print_outcome(console: Console, outcome: Outcome) -> None:
    """State, values, changes."""
    state, style = state_of(outcome)
    head = Text.assemble((f"{outcome.procedure.title:33} ", "bold"), (state, STYLES[style]))
    if outcome.measured is None:
        why = outcome.failed or outcome.before.words
        console.print(Text.assemble(head, (f"  {why}" if why != "in order" else "", "dim")), soft_wrap=True)
        return
    console.print(head)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False, show_header=False)
    for _ in range(4):
        table.add_column(no_wrap=False)
    for one in outcome.measured.quantities:
        allowed = f"allowed: {one.allowed}" if one.allowed and not one.accepted else ""
        table.add_row(
            f"  {one.name}",
            Text(told(one), "" if one.accepted else "red"),
            Text(change_in_words(outcome, one), "dim"),
            Text(allowed or one.words, "red" if allowed else "dim"),
        )
    console.print(table)


def abilities_of(bench: Bench) -> tuple[Ability, ...]:
    """By the records in order now."""
    now = datetime.now(UTC)
    standings = [bench.standing(procedure, now) for procedure in bench.procedures]
    return abilities(one.stored for one in standings if one.stored is not None and one.in_order)


def able_table(able: tuple[Ability, ...]) -> Table:
    """Name, value, what it is."""
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column()
    for one in able:
        value, words = Text(told(one.quantity), "bold"), Text(one.quantity.words, "dim")
        grid.add_row(f"  {one.quantity.name}", value, words)
    return grid
