"""`labctl morning`: a minute with a rig before the day's work; green, or what is wrong and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labctl_calibration.drift.board import BoardProber
from labctl_calibration.drift.charts import Alarm
from labctl_calibration.drift.look import Prober
from labctl_calibration.drift.morning import Morning, OpticalMorning, check_morning, panel_of
from labctl_calibration.optical.warm_up import KIND as WARM_UP
from labctl_calibration.planning import Bench
from labctl_calibration.store import RecordStore
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labctl.cli.console import out
from labctl.cli.live import progress
from labctl.cli.run_signs import signs_of
from labctl.cli.sheet import print_path
from labctl.devices import ConfigError, Device, DeviceFault, LoopElectronics, OscillatorBoard, WeightModulator
from labctl.engines import OpticalLoopEngine
from labctl.reports.morning_page import write_page
from labctl.reports.words import seconds
from labctl.rig import Rig, load_rig
from labctl.rig.calibrating import bench_of


@dataclass(frozen=True)
class Asked:
    """The command line. again: what is usual is to be learnt anew. run: a file whose signs count too."""

    rig: str
    records: Path
    operator: str
    again: bool
    overrides: tuple[str, ...]
    run: Path | None = None


def check_rig_today(asked: Asked) -> None:
    """Check a rig against its charts. DeviceFault where it is not green."""
    config = load_rig(asked.rig)
    console = out()
    signs = None if asked.run is None else signs_of(asked.run, config.name)
    with progress(quiet=False) as watcher:
        watcher.doing(f"opening {asked.rig}")
        with Rig(config, RecordStore(asked.records), overrides=asked.overrides) as rig:
            bench = bench_of(rig, asked.records, asked.operator)
            prober, device = prober_of(rig, bench)
            found = check_morning(
                bench, prober, device, tell=watcher.preparing, again=asked.again,
                odds=None if signs is None else signs.odds(),
            )  # fmt: skip
            rig.interlocks.check("after the morning check")
    print_morning(console, found, in_process=config.world is not None)
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    page = write_page(asked.records / "reports" / f"{config.name}_morning_{stamp}", found)
    print_path(console, "records", asked.records)
    print_path(console, "page", page)
    if not found.green:
        said = [one.words for one in found.wrong] + [f"{one.kind}: {one.words}" for one in found.stale]
        if found.diagnosis is not None and found.fault:
            said.insert(0, f"{found.diagnosis.first.words}: {found.diagnosis.first.evidence}")
        first, more = said[0], len(said) - 1
        raise DeviceFault(
            f"not green: {first}" + (f" (and {more} more)" if more else ""), device=config.name,
            operation="morning",
        )  # fmt: skip


def prober_of(rig: Rig, bench: Bench) -> tuple[Prober, Device]:
    """What the check looks with, and the device that its charts belong to. ConfigError for other rigs."""
    if rig.config.law == "oscillator":
        board = rig.device(OscillatorBoard)
        return BoardProber(board, plain=True), board
    if not isinstance(rig.engine, OpticalLoopEngine):
        raise ConfigError(
            f"rig {rig.name}: its engine is {rig.config.engine}; allowed for a morning check: optical-loop, "
            "oscillator"
        )
    modulator, electronics = rig.device(WeightModulator), rig.device(LoopElectronics)
    panel = panel_of(bench, modulator, electronics.spec.n_channels)
    return OpticalMorning(rig.engine, modulator, electronics, panel), electronics


def print_morning(console: Console, found: Morning, *, in_process: bool) -> None:
    """Green or not, each group of series with its farthest, and what to recalibrate. in_process: of a twin
    that is switched on as a rig opens it, so that nobody can wait for it.
    """
    state = Text("green", "bold green") if found.green else Text("not green", "bold red")
    console.print(Text.assemble((found.rig, "bold"), "  ", state))
    took = f"{seconds(found.device_s)} of device time, {len(found.charts.baseline.names)} charts"
    since = f"reading {len(found.history)} since {found.baseline_at[:16].replace('T', ' ')} UTC"
    console.print(Text(f"{took}, {since}", "dim"))
    if found.learnt:
        console.print(Text("learnt what is usual: later mornings are compared with today", "yellow"))
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in ("", "probe", "farthest out", "of its limit"):
        table.add_column(heading, justify="right" if heading == "of its limit" else "left")
    over = found.charts.over.max(axis=0)
    for name in dict.fromkeys(group.name for group in found.baseline.groups):
        mine = [i for i, group in enumerate(found.baseline.groups) if group.name == name]
        worst = max(mine, key=lambda i: over[i])
        bad = over[worst] > 1
        table.add_row(
            Text("✗" if bad else "✓", "bold red" if bad else "green"),
            Text(name, "bold"),
            Text(_series(found, worst), "red" if bad else ""),
            Text(f"{100 * over[worst]:.0f}%", "red" if bad else "dim"),
        )
    console.print(table)
    if found.cold:
        waits = (
            "this twin is switched on as it is opened; started_h = 1 below [world] of its file opens it warm"
            if in_process
            else f"labctl calibrate {found.rig} --again {WARM_UP} waits"
        )
        console.print(Text(f"\n{found.cold}; what moved may be that: {waits}", "yellow"), soft_wrap=True)
    print_diagnosis(console, found)
    for one in found.wrong:
        console.print(Text.assemble(("✗ ", "bold red"), one.words), soft_wrap=True)
    for standing in found.stale:
        console.print(Text.assemble(("✗ ", "bold red"), f"{standing.kind}: {standing.words}"), soft_wrap=True)
    for name in found.remedies:
        console.print(
            Text.assemble(("  → ", "bold"), f"labctl calibrate {found.rig} --only {name}"), soft_wrap=True
        )
    console.print()


def print_diagnosis(console: Console, found: Morning) -> None:
    """Which physical fault the readings speak for, what else may be, and what a person does about it."""
    if found.diagnosis is None:
        if not found.green:
            console.print()
        return
    console.print()
    first = found.diagnosis.first
    if found.diagnosis.healthy:
        drifted = "it drifted, and nothing is broken" if found.wrong else "nothing points to a physical fault"
        console.print(Text.assemble(("healthy  ", "bold green"), drifted, (f"  {first.percent}", "dim")))
    else:
        console.print(
            Text.assemble(("✗ ", "bold red"), (first.words, "bold red"), (f"  {first.percent}", "dim")),
            soft_wrap=True,
        )
        console.print(Text(f"  seen: {first.evidence}"), soft_wrap=True)
        console.print(Text.assemble(("  → ", "bold"), first.remedy), soft_wrap=True)
    if found.diagnosis.others:
        others = ", ".join(f"{one.words} {one.percent}" for one in found.diagnosis.others)
        console.print(Text(f"  or else: {others}", "dim"), soft_wrap=True)


def _series(found: Morning, index: int) -> str:
    baseline, group = found.charts.baseline, found.baseline.groups[index]
    value = float(found.history[-1, index])
    alarm = Alarm(index, baseline.names[index], "", 0.0, value, float(baseline.mean[index]))
    change = f"{100 * alarm.change:+.2g}%" if not group.unit else f"{alarm.change:+.2g} {group.unit}"
    return f"{alarm.name}: {change}"
