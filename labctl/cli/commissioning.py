"""`labctl commission`: from wires alone to a rig file with its wiring, records and a golden sample."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from labctl_calibration.commissioning import WIRING, wiring_of
from labctl_calibration.optical.golden import KIND as GOLDEN
from labctl_calibration.optical.golden import METRIC
from labctl_calibration.optical.warm_up import WARM_UP
from labctl_calibration.registry import PROCEDURES
from labctl_calibration.session import Outcome, calibrate
from labctl_calibration.store import RecordStore
from labctl_calibration.taking import take
from rich.console import Console
from rich.text import Text

from labctl.cli.calibrating import abilities_of, able_table, print_outcome, require_accepted
from labctl.cli.console import out
from labctl.cli.live import Silent, progress
from labctl.cli.sheet import print_path
from labctl.config_files import toml_text
from labctl.devices import ConfigError, DeviceFault
from labctl.reports.words import seconds
from labctl.rig import Rig, RigConfig, load_rig
from labctl.rig.calibrating import bench_of
from labctl.rig.wiring import WiringConfig

NOW = tuple(one for one in PROCEDURES if one is not WARM_UP)  # to wait, up to 40 minutes, is no finding


@dataclass(frozen=True)
class Asked:
    """The command line. file: the commissioned rig file; None: beside here, by the rig's name."""

    rig: str
    file: Path | None
    records: Path
    operator: str


def commission_rig(asked: Asked) -> None:
    """Find the wiring, write it down, calibrate by it, judge the golden sample; each finding as it is made.

    A bench is not waited for to warm up. ConfigError for a rig that has no loop electronics and a file that
    cannot be written; DeviceFault where the wiring cannot be found, or the calibration does not end well:
    what was found until then is kept.
    """
    config = load_rig(asked.rig)
    if config.engine != "optical-loop":
        raise ConfigError(
            f"rig {config.name} has engine {config.engine}; allowed: optical-loop, a modulator and loop "
            "electronics"
        )
    path = asked.file or Path(f"{Path(asked.rig).stem}-commissioned.toml")
    began, console = monotonic(), out()
    console.print(Text(config.name, "bold"))
    with progress(quiet=False) as watcher:
        watcher.doing(f"opening {asked.rig}")
        with Rig(config.model_copy(update={"wiring": None})) as rig:
            clock = _Clock(rig)
            commissioned = _wire(rig, asked, path, watcher, console)
            outcomes = _calibrate(rig, asked, watcher, console)
            device_s = clock.passed_s(outcomes)
    require_accepted(config.name, outcomes)
    _print_end(console, asked, path, outcomes)
    simulated = "simulated " if commissioned.world is not None else ""
    console.print(
        f"{seconds(device_s)} of {simulated}device time, {seconds(monotonic() - began)} by the wall's clock"
    )
    for line in (
        f"labctl calibrate {path} --records {asked.records}, once the bench is warm",
        f"labctl run sample_moons --rig {path} --records {asked.records}",
    ):
        console.print(Text(line, "dim"), soft_wrap=True)


def _wire(rig: Rig, asked: Asked, path: Path, watcher: Silent, console: Console) -> RigConfig:
    """Find the wiring, keep its record, write the rig file."""
    bench = bench_of(rig, asked.records, asked.operator, (WIRING,))
    taken = take(WIRING, bench.devices, {}, watcher.preparing, bench.circumstances)
    taken.keep(bench.store, ())
    for line in taken.measured.findings:
        console.print(Text.assemble(("· ", "dim"), line), soft_wrap=True)
    if not taken.measured.accepted:
        bad = next(one for one in taken.measured.quantities if not one.accepted)
        raise DeviceFault(
            f"{bad.name}: {bad.value:.3g}; allowed: {bad.allowed}", device=rig.name, operation="commission"
        )
    rig.rewire(WiringConfig.of(*wiring_of(taken.record)))
    write_rig(rig.config, path)
    print_path(console, "rig", path)
    return rig.config


def write_rig(config: RigConfig, path: Path) -> None:
    """The rig as a file. ConfigError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(toml_text(config.model_dump(mode="json", exclude_defaults=True)), "utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def _calibrate(rig: Rig, asked: Asked, watcher: Silent, console: Console) -> list[Outcome]:
    """Everything that is due but the wait for warmth, by the wiring that was found."""
    bench = bench_of(rig, asked.records, asked.operator, NOW)
    plan = bench.plan(datetime.now(UTC))
    watcher.doing(f"{len(plan.due)} procedures, about {seconds(plan.duration_s)} of device time")
    outcomes = []
    for outcome in calibrate(bench, tell=watcher.preparing):
        outcomes.append(outcome)
        print_outcome(console, outcome)
        rig.interlocks.check(f"after {outcome.procedure.name}")
    able = abilities_of(bench)
    if able:
        console.print()
        console.print(Text("what the rig can do today", "bold"))
        console.print(able_table(able))
    return outcomes


class _Clock:
    """Device time: of a simulated bench by its own clock, of a real one by what procedures are to take."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._began_us = self._now_us()

    def _now_us(self) -> float:
        return 0.0 if self._rig.world is None else float(self._rig.world.now_us)

    def passed_s(self, outcomes: list[Outcome]) -> float:
        """Since the beginning."""
        if self._rig.world is not None:
            return 1e-6 * (self._now_us() - self._began_us)
        devices = bench_of(self._rig, RecordStore(Path())).devices
        done = [one.procedure for one in outcomes if one.measured is not None]
        return sum(one.duration_s(devices) for one in (WIRING, *done))


def _print_end(console: Console, asked: Asked, path: Path, outcomes: list[Outcome]) -> None:
    golden = next((one for one in outcomes if one.procedure.kind == GOLDEN), None)
    found = None if golden is None or golden.stored is None else golden.stored.about.quantity(METRIC)
    if found is None:
        raise DeviceFault("there is no golden sample", device=path.stem, operation="commission")
    console.print()
    console.print(
        f"golden sample good: it ends {found.value:.3f} ± {found.sd:.1g}% of full scale from what the "
        f"records predict; allowed: {found.allowed}",
        soft_wrap=True,
    )  # fmt: skip
    print_path(console, "records", asked.records)
