"""What a run file holds, on a page of the terminal: the end of `labctl run`, and `labctl show`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from labctl.cli import words
from labctl.cli.console import out
from labctl.devices import Scalar
from labctl.reports import ledger_totals, report, step_statistics
from labctl.reports.words import STATUS_WORDS, duration, microseconds, number, share
from labctl.runlog import PanelReader, RunHeader, RunReader

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
    "path_error": ("path error", lambda value: f"{value:.3f}"),
    "device_time_per_sample_us": ("µs/sample", lambda value: f"{value:.0f}" if value else "–"),
}
LEGEND = {
    "settle_p95_us": "p95: at the slowest step, 95% of samples are within 1% of full scale by then",
    "energy_distance": "E: energy distance to fresh data; 0 for the same distribution, below it by chance",
    "mode_total_variation": "mode error: share of the samples that would have to change mode",
    "class_agreement": "in class: pictures that a classifier puts into the class asked for",
    "frechet_star": "FD*: in our classifier's features; 0 as fresh real pictures, 1 a decoded Gaussian",
    "path_error": "path error: rms distance to where the net's own converged sampler ends, latent units",
    "device_time_per_sample_us": "µs/sample: modelled device time, from the rig's own timing",
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
    if len(panels) <= STEP_TABLES:
        for panel in panels:
            console.print()
            if len(panels) > 1:
                console.print(Text(panel.title, "bold"))
            console.print(steps_table(panel) if panel.n_steps else Text("not begun", "dim"))
    console.print()
    measured = [panel for panel in panels if panel.metrics]
    if len(panels) == 1:
        console.print(metrics_in_words(panels[0], run.header))
        if panels[0].n_steps:
            console.print()
            console.print(cost_table(panels[0]))
    elif measured:
        console.print(overview(measured))
        console.print()
        for line in legend(measured):
            console.print(Text(line, "dim"))
    console.print()


def steps_table(panel: PanelReader) -> Table:
    """One row a settle: kind, sigma, settle time, unsettled share, outcomes."""
    table = _table()
    for heading, width in (("step", 4), ("kind", 9), ("σ", 6), ("p95 µs", 9), ("unsettled", 9)):
        justify: JustifyMethod = "left" if heading == "kind" else "right"
        table.add_column(heading, justify=justify, no_wrap=True, min_width=width)
    table.add_column("outcomes")
    for step in step_statistics(panel):
        table.add_row(
            str(step.step),
            step.kind,
            f"{step.sigma:.3g}",
            microseconds(step.settle.p95_us) if step.settle else "–",
            share(step.settle.unsettled_share) if step.settle else "–",
            words.outcomes({outcome.name: count for outcome, count in step.counts.items()}),
        )
    return table


def metrics_in_words(panel: PanelReader, header: RunHeader) -> Table:
    """What one chain's metrics say."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for label, text in _sentences(panel.metrics, panel.settings, header):
        grid.add_row(label, text)
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
    keys = _told(panels)
    for key in keys:
        heading = OVERVIEW[key][0]
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for panel in panels:
        cells = [_cell(key, metrics[panel.name], OVERVIEW[key][1]) for key in keys]
        table.add_row(Text(panel.title, no_wrap=True, overflow="ellipsis"), *cells)
    return table


def legend(panels: list[PanelReader]) -> list[str]:
    """What the overview's columns mean."""
    return [LEGEND[key] for key in _told(panels) if key in LEGEND]


def _told(panels: list[PanelReader]) -> list[str]:
    return [key for key in OVERVIEW if any(key in panel.metrics for panel in panels)]


def _sentences(
    metrics: dict[str, Scalar], settings: dict[str, Scalar], header: RunHeader
) -> list[tuple[str, str]]:
    """Label and sentence for every metric that is there."""
    timing = header.timing
    wait = f"; the machine waits {timing.wait_us:g} µs" if timing and timing.wait_us else ""
    ends = f"; the chain ends at σ = {settings['sigma_min']:g}" if "sigma_min" in settings else ""
    sentences: tuple[tuple[str, str, Callable[[float], str], str], ...] = (
        ("converged", "converged_share", share, "{} of all settles"),
        ("settle time", "settle_p95_us", words.settle_us,
         "95% of samples within {} at the slowest step" + wait),
        ("energy distance", "energy_distance", lambda value: f"{value * 1e3:+.2f}e-3",
         "{} to fresh data; 0 is the same distribution"),
        ("sliced Wasserstein", "sliced_wasserstein", lambda value: f"{value:.3f}",
         "{} standard deviations from fresh data"),
        ("mode error", "mode_total_variation", share, "{} of the samples would have to change mode"),
        ("class agreement", "class_agreement", share, "{} of the pictures are of the class asked for"),
        ("second starts", "multistable_share", share, "{} of the audited settles have another root"),
        ("out of range", "latents_out_of_range", number,
         "{} samples lay beyond all training pictures; they were drawn at the edge"),
        ("FD*", "frechet_star", lambda value: f"{value:.3f}",
         "{}; 0 as fresh real pictures, 1 a decoded Gaussian; our classifier's features, not FID"),
        ("density", "density", lambda value: f"{value:.2f}", "{} times that of real pictures about a sample"),
        ("coverage", "coverage", share, "{} of real pictures have a sample among their neighbours"),
        ("path error", "path_error", lambda value: f"{value:.3f}",
         "{} latent units rms to the network's own converged sampler"),
        ("device time", "device_time_per_sample_us", duration, "{} a sample, modelled"),
        ("state noise", "state_noise", number, "{}" + ends),
        ("camera", "camera_exposure_us", duration, "exposed for {}" + _exposed(metrics)),
    )  # fmt: skip
    return [
        (label, text.format(_cell(key, metrics, write)))
        for label, key, write, text in sentences
        if metrics.get(key, 0.0) not in (0, 0.0)
    ]


def _exposed(metrics: dict[str, Scalar]) -> str:
    """What was in the exposures beside the states at rest."""
    told = [f"the transient takes {share(float(metrics.get('camera_transient_share_p95', 0.0)))} of it"]
    if metrics.get("camera_transient_allowed") is False:
        told.append("and leaves more than 0.5% of full scale in the states")
    if saturated := int(metrics.get("camera_saturated_samples", 0)):
        told.append(f"{saturated:,} samples saturated")
    return "; " + ", ".join(told)


def _cell(key: str, metrics: dict[str, Scalar], write: Callable[[float], str]) -> str:
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
