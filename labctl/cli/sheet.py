"""What a run file holds, on a page of the terminal: the end of `labctl run`, and `labctl show`."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from labctl.cli import words
from labctl.cli.console import out
from labctl.devices import Scalar
from labctl.reports import report, step_statistics
from labctl.reports.words import STATUS_WORDS, duration, number, share
from labctl.runlog import PanelReader, RunHeader, RunReader

STEP_TABLES = 8  # panels beyond that get their row in the overview alone
STATUS_STYLES = {"success": "green", "running": "cyan", "aborted": "yellow", "failed": "red", "killed": "red"}

# Overview columns: metric -> heading and how its value reads.
OVERVIEW = {
    "converged_share": ("converged", share),
    "settle_p95_us": ("settle p95", words.settle_us),
    "unsettled_share": ("unsettled", share),
    "energy_distance": ("energy distance", lambda value: f"{value * 1e3:+.2f}e-3"),
    "sliced_wasserstein": ("sliced W", number),
    "mode_total_variation": ("mode error", share),
    "class_agreement": ("class agreement", share),
    "device_time_per_sample_us": ("device, a sample", duration),
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
        Text.assemble(
            (status, STATUS_STYLES.get(status, "")), ("  " + STATUS_WORDS.get(status, ""), "dim")
        ),
    ]
    if run.exit_reason:
        lines.append(Text(run.exit_reason, "red" if status == "failed" else "yellow"))
    return Group(*lines)


def rig_words(header: RunHeader) -> str:
    """Whether anything real took part."""
    return "simulated" if header.simulated else "with real devices"


def print_sheet(console: Console, run: RunReader) -> None:
    """Steps, then metrics in words or, where there are several panels, side by side."""
    panels = list(run.panels.values())
    if len(panels) <= STEP_TABLES:
        console.print()
        console.print(steps_table(panels))
    console.print()
    if len(panels) == 1:
        console.print(metrics_in_words(panels[0], run.header))
    else:
        console.print(overview(panels))
        console.print(Text(legend(panels), "dim"))
    console.print()


def steps_table(panels: list[PanelReader]) -> Table:
    """One row a settle: kind, sigma, settle time, unsettled share, outcomes."""
    table = _table()
    several = len(panels) > 1
    if several:
        table.add_column("", no_wrap=True, overflow="ellipsis", max_width=28)
    for heading in ("step", "σ", "settle p95", "unsettled"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("kind")
    table.add_column("outcomes")
    for panel in panels:
        steps = step_statistics(panel)
        for step in steps:
            row: list[RenderableType] = [str(step.step), f"{step.sigma:.3g}"]
            row += [
                words.settle_us(step.settle.p95_us if step.settle else math.nan),
                share(step.settle.unsettled_share) if step.settle else "–",
                step.kind,
                words.outcomes({outcome.name: count for outcome, count in step.counts.items()}),
            ]
            name = Text(panel.title, "bold") if step is steps[0] else Text("")
            table.add_row(*([name] if several else []), *row)
        if several:
            table.add_section()
    return table


def metrics_in_words(panel: PanelReader, header: RunHeader) -> Table:
    """What one chain's metrics say."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for label, text in _sentences(panel.metrics, panel.settings, header):
        grid.add_row(label, text)
    return grid


def overview(panels: list[PanelReader]) -> Table:
    """One row a panel, one column a metric that any of them has."""
    metrics = {panel.name: panel.metrics for panel in panels}
    keys = [key for key in OVERVIEW if any(key in found for found in metrics.values())]
    scanned = len(panels) > STEP_TABLES
    table = _table()
    table.add_column("", no_wrap=True)
    for key in keys:
        table.add_column(OVERVIEW[key][0], justify="right")
    for panel in panels:
        found = metrics[panel.name]
        cells = [_cell(key, found) for key in keys]
        table.add_row(Text(panel.name.replace("_", " ") if scanned else panel.title, "bold"), *cells)
    return table


def legend(panels: list[PanelReader]) -> str:
    """What the overview's columns mean."""
    told = {key for panel in panels for key in panel.metrics}
    parts = []
    if "settle_p95_us" in told:
        parts.append("settle p95: 95 % of samples at the slowest step are within 1 % of full scale by then")
    if "energy_distance" in told:
        parts.append("energy distance to fresh data: 0 for the same distribution; noise can make it negative")
    return "; ".join(parts)


def _sentences(
    metrics: dict[str, Scalar], settings: dict[str, Scalar], header: RunHeader
) -> list[tuple[str, str]]:
    value = {key: float(found) for key, found in metrics.items() if isinstance(found, int | float)}
    told: list[tuple[str, str]] = []

    def tell(label: str, key: str, text: str) -> None:
        if key in value:
            told.append((label, text.format(_cell(key, metrics))))

    wait = header.timing.wait_us if header.timing else None
    tell("converged", "converged_share", "{} of all settles")
    tell(
        "settle time",
        "settle_p95_us",
        "95 % of samples within {} at the slowest step" + (f"; the machine waits {wait:g} µs" if wait else ""),
    )
    tell("energy distance", "energy_distance", "{} to fresh data; 0 is the same distribution")
    tell("sliced Wasserstein", "sliced_wasserstein", "{} to fresh data, in standard deviations")
    tell("mode error", "mode_total_variation", "{} of the samples would have to change mode")
    tell("class agreement", "class_agreement", "{} of the pictures are of the class asked for")
    if value.get("device_time_per_sample_us"):
        tell("device time", "device_time_per_sample_us", "{} a sample, modelled")
    if value.get("state_noise"):
        low = settings.get("sigma_min")
        told.append(("state noise", f"{value['state_noise']:.3g}" + (f"; the chain ends at σ {low:g}" if low else "")))
    return told


def _cell(key: str, metrics: dict[str, Scalar]) -> str:
    found = metrics.get(key)
    if not isinstance(found, int | float):
        return "–"
    write = OVERVIEW[key][1]
    return write(float(found)) if key in ("settle_p95_us", "class_agreement") or math.isfinite(found) else "–"


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)


def print_path(console: Console, label: str, path: Path) -> None:
    console.print(Text.assemble((f"{label:8}", "dim"), str(path)), soft_wrap=True)
