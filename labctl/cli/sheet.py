"""What a run file holds, on a page of the terminal: the end of `labctl run`, and `labctl show`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from labctl.cli import words
from labctl.cli.console import out
from labctl.devices import Scalar
from labctl.reports import ledger_totals, report, step_statistics
from labctl.reports.classes import class_rows, worst_in_words
from labctl.reports.controls import NO_CONTROLS, controls_in_words
from labctl.reports.meanings import legend, notes, said
from labctl.reports.watching import drift_in_words, watch_in_words
from labctl.reports.words import STATUS_WORDS, duration, microseconds, share
from labctl.runlog import OscillatorRecord, PanelReader, RunHeader, RunReader

STEP_TABLES = 8  # panels beyond that get their row in the overview alone
STATUS_STYLES = {"success": "green", "running": "cyan", "aborted": "yellow", "failed": "red", "killed": "red"}

# Overview columns: metric -> heading and how its value reads under it.
OVERVIEW: dict[str, tuple[str, Callable[[float], str]]] = {
    "converged_share": ("converged", share),
    "settle_p95_us": ("p95 µs", microseconds),
    "energy_distance": ("E ×10⁻³", lambda value: f"{value * 1e3:+.2f}"),
    "sliced_wasserstein": ("sliced W", lambda value: f"{value:.3f}"),
    "mode_total_variation": ("mode error", share),
    "class_agreement": ("in class", share),
    "frechet_star": ("FD*", lambda value: f"{value:.3f}"),
    "FID": ("FID", lambda value: f"{value:.2f}"),
    "path_error": ("path error", lambda value: f"{value:.3f}"),
    "device_time_per_sample_us": ("µs/sample", lambda value: f"{value:.0f}" if value else "–"),
}
# The same for programs of oscillator boards.
OVERVIEW_OF_PROGRAMS: dict[str, tuple[str, Callable[[float], str]]] = {
    "frechet_star": ("FD*", lambda value: f"{value:.3f}"),
    "density": ("density", lambda value: f"{value:.2f}"),
    "coverage": ("coverage", share),
    "locked_share": ("locked", share),
    "device_time_per_sample_us": ("µs/sample", lambda value: f"{value:.3g}"),
}


def show_file(path: Path) -> None:
    """`labctl show`."""
    with RunReader(path) as run:
        console = out()
        console.print(head(run))
        print_sheet(console, run)
        print_path(console, "file", run.path)


def report_file(path: Path, folder: Path | None) -> None:
    """`labctl report`."""
    print_path(out(), "report", report(path, folder))


def head(run: RunReader) -> RenderableType:
    """Title, rig, how the run ended."""
    header, status = run.header, run.status
    lines = [
        Text(header.title, "bold"),
        Text(f"{header.protocol.name} on {header.rig.name}, {rig_words(header)}, seed {header.seed}", "dim"),
        Text.assemble((status, STATUS_STYLES.get(status, "")), ("  " + STATUS_WORDS.get(status, ""), "dim")),
    ]
    if run.exit_reason:
        lines.append(Text(run.exit_reason, "red" if status == "failed" else "yellow"))
    return Group(*lines)


def rig_words(header: RunHeader) -> str:
    """Whether anything real took part."""
    return "simulated" if header.simulated else "with real devices"


def print_sheet(console: Console, run: RunReader) -> None:
    """Steps, then metrics: in words for one panel, side by side for several."""
    panels = list(run.panels.values())
    if len(panels) <= STEP_TABLES and (len(panels) == 1 or any(panel.n_steps > 1 for panel in panels)):
        for panel in panels:
            console.print()
            if len(panels) > 1:
                console.print(Text(panel.title, "bold"))
            console.print(steps_table(panel) if panel.n_steps else Text("not begun", "dim"))
    console.print()
    measured = [panel for panel in panels if panel.metrics]
    if len(panels) == 1:
        console.print(metrics_in_words(panels[0], run.header))
        one_shot = isinstance(panels[0].program, OscillatorRecord) and not panels[0].anchored
        if panels[0].metrics and one_shot:
            console.print()
            _print_controls(console, panels[0])
        if panels[0].n_steps:
            console.print()
            console.print(cost_table(panels[0]))
    elif measured:
        console.print(overview(measured))
        console.print()
        for line in (*legend(_columns(measured)), *notes(measured)):
            console.print(Text(line, "dim"))
    _print_watch(console, run)
    console.print()


def _print_watch(console: Console, run: RunReader) -> None:
    """What the watch on drift cost and saw; nothing where there was none."""
    said_first = watch_in_words(run)
    if not said_first:
        return
    console.print()
    console.print(Text.assemble(("drift     ", "dim"), said_first))
    for event in run.drift_events:
        console.print(Text.assemble(("  ✗ ", "bold yellow"), drift_in_words(event)), soft_wrap=True)


def steps_table(panel: PanelReader) -> Table:
    """One row a settle: kind, sigma, settle time, unsettled share, outcomes. A segment has neither of the
    three in between.
    """
    steps = step_statistics(panel)
    settling = any(math.isfinite(step.sigma) for step in steps)
    table = _table()
    columns = [("step", 4), ("kind", 9), *([("σ", 6), ("p95 µs", 9), ("unsettled", 9)] if settling else [])]
    for heading, width in columns:
        justify: JustifyMethod = "left" if heading == "kind" else "right"
        table.add_column(heading, justify=justify, no_wrap=True, min_width=width)
    table.add_column("outcomes")
    for step in steps:
        settled = (
            f"{step.sigma:.3g}" if math.isfinite(step.sigma) else "–",
            microseconds(step.settle.p95_us) if step.settle else "–",
            share(step.settle.unsettled_share) if step.settle else "–",
        )
        counts = words.outcomes({outcome.name: count for outcome, count in step.counts.items()})
        table.add_row(str(step.step), step.kind, *(settled if settling else ()), counts)
    return table


def metrics_in_words(panel: PanelReader, header: RunHeader) -> Table:
    """What one chain's metrics say."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for one in said(panel.metrics, panel.settings, header, brief=True, forecast=panel.forecast):
        grid.add_row(one.label, one.sentence)
    if worst := worst_in_words(class_rows(panel, header.class_names)):
        grid.add_row("by class", worst)
    return grid


def cost_table(panel: PanelReader) -> Table:
    """Where the time went: the device's, modelled and measured apart, and the host's."""
    totals = ledger_totals(panel.ledger, panel.n_samples)
    table = _table()
    for heading in ("time", "a sample", "the batch", "of which, a sample"):
        table.add_column(heading, justify="left" if heading in ("time", "of which, a sample") else "right")
    for name, total_us, parts, unit_us in (
        ("device, modelled", totals.modelled_total_us, totals.modelled_us, 1.0),
        ("device, measured", totals.measured_total_us, totals.measured_us, 1.0),
        ("host, measured", totals.host_total_s * 1e6, totals.host_s, 1e6),
    ):
        if not math.isfinite(total_us):
            continue
        told = ", ".join(
            f"{part} {duration(value * unit_us / panel.n_samples)}"
            for part, value in parts.items()
            if math.isfinite(value) and part != "settle"  # it lies inside the wait
        )
        table.add_row(name, duration(total_us / panel.n_samples), duration(total_us), told)
    return table


def overview(panels: list[PanelReader]) -> Table:
    """One row a panel, one column a metric that any of them has."""
    metrics = {panel.name: panel.metrics for panel in panels}
    table = _table()
    table.add_column("", max_width=34)  # the one that gives way on a narrow terminal
    columns = _columns(panels)
    for heading, _ in columns.values():
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for panel in panels:
        cells = [_cell(key, metrics[panel.name], write) for key, (_, write) in columns.items()]
        table.add_row(Text(panel.title, no_wrap=True, overflow="ellipsis"), *cells)
    return table


def _print_controls(console: Console, panel: PanelReader) -> None:
    """What else makes such pictures, beside what this run made."""
    if not panel.controls:
        console.print(Text(NO_CONTROLS, "dim"))
        return
    keys = ("frechet_star", "density", "coverage")
    table = _table()
    table.add_column("beside it")
    for key in keys:
        table.add_column(OVERVIEW_OF_PROGRAMS[key][0], justify="right", no_wrap=True)
    rows = [("this run", panel.metrics), *((one.what, one.figures) for one in panel.controls)]
    for what, figures in rows:
        table.add_row(what, *(_cell(key, figures, OVERVIEW_OF_PROGRAMS[key][1]) for key in keys))
    console.print(table)
    console.print(Text(controls_in_words(panel.controls), "dim"))


def _columns(panels: list[PanelReader]) -> dict[str, tuple[str, Callable[[float], str]]]:
    known = OVERVIEW_OF_PROGRAMS if any("locked_share" in panel.metrics for panel in panels) else OVERVIEW
    return {key: how for key, how in known.items() if any(key in panel.metrics for panel in panels)}


def _cell(key: str, metrics: Mapping[str, Scalar], write: Callable[[float], str]) -> str:
    found = metrics.get(key)
    return write(float(found)) if isinstance(found, int | float) else "–"


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)


def print_pictures(console: Console, pictures: list[Path]) -> None:
    """The pictures to look at first: the scan's, or every panel's samples."""
    scans = [picture for picture in pictures if picture.stem == "scan"]
    for picture in scans or [p for p in pictures if p.stem.endswith(("samples", "pictures"))]:
        print_path(console, "picture", picture)


def print_path(console: Console, label: str, path: Path) -> None:
    """A labelled path on one line, however narrow the terminal."""
    console.print(Text.assemble((f"{label:10}", "dim"), str(path)), soft_wrap=True)
