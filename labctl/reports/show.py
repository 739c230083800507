"""One run in a few lines: for the terminal, and as plain data for `--json`."""

from __future__ import annotations

import math
from typing import Any

from pydantic import JsonValue
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from labctl.devices import Outcome
from labctl.reports import words
from labctl.reports.statistics import GOOD, ledger_totals, outcome_totals, step_statistics
from labctl.runlog import PanelReader, RunReader

_STATUS_STYLE = {"success": "green", "running": "cyan", "aborted": "yellow", "failed": "red", "killed": "red"}


def summary(run: RunReader) -> dict[str, JsonValue]:
    """The run as JSON values; NaN and infinity become null."""
    header = run.header
    found: dict[str, Any] = {
        "file": str(run.path),
        "title": header.title,
        "status": run.status,
        "exit_reason": run.exit_reason or None,
        "protocol": header.protocol.name,
        "rig": header.rig.name,
        "simulated": header.simulated,
        "seed": header.seed,
        "start_time": header.start_time,
        "end_time": run.end_time,
        "n_samples": header.n_samples,
        "d": header.d,
        "n_classes": header.n_classes,
        "timing": header.timing.model_dump() if header.timing else None,
        "git_commit": header.git_commit,
        "versions": dict(header.versions),
        "metrics": dict(run.metrics),
        "panels": [_panel(panel) for panel in run.panels.values()],
    }
    scan = run.scan
    if scan is not None:
        found["scan"] = {name: values.tolist() for name, values in scan.items()}
    plain = _plain(found)
    return plain if isinstance(plain, dict) else {}


def summary_lines(run: RunReader) -> list[str]:
    """The run in plain text lines."""
    header, panels = run.header, list(run.panels.values())
    devices = "every device simulated" if header.simulated else "with real devices"
    done, planned = sum(p.n_steps for p in panels), sum(p.n_steps_planned for p in panels)
    lines = [
        header.title,
        f"file      {run.path}",
        f"status    {run.status}: {words.STATUS_WORDS.get(run.status, '')}",
        f"recipe    {header.protocol.name} on {header.rig.name}"
        f" ({devices if header.devices else 'no device'}), seed {header.seed}",
        f"started   {header.start_time}" + (f", ended {run.end_time}" if run.end_time else ""),
        f"size      {header.n_samples:,} samples in {header.d} dimensions, {done} of {planned} steps",
    ]
    if run.exit_reason:
        lines.insert(3, f"reason    {run.exit_reason}")
    for panel in panels:
        lines += _panel_lines(panel)
    lines += [f"metric    {name} = {words.scalar(value)}" for name, value in run.metrics.items()]
    return lines


def summary_table(run: RunReader) -> RenderableType:
    """The run for a Rich console: head, steps, cost, metrics."""
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim")
    head.add_column()
    for line in summary_lines(run)[1:]:
        name, _, rest = line.partition(" ")
        if name in ("status", "metric", "outcomes", "settling", "device", "host"):
            continue
        head.add_row(name, rest.strip())
    status = run.status
    parts: list[RenderableType] = [
        Text(run.header.title, style="bold"),
        Text(f"{status}  {words.STATUS_WORDS.get(status, '')}", style=_STATUS_STYLE.get(status, "")),
        head,
    ]
    for panel in run.panels.values():
        parts += [_steps_table(panel), _cost_table(panel)]
    if run.metrics:
        metrics = Table(title="Metrics", title_justify="left", show_header=False, box=SIMPLE_HEAD)
        for name, value in run.metrics.items():
            metrics.add_row(name, words.scalar(value))
        parts.append(metrics)
    return Group(*parts)


def _panel(panel: PanelReader) -> dict[str, Any]:
    steps = step_statistics(panel)
    ledger = ledger_totals(panel.ledger, panel.n_samples)
    return {
        "name": panel.name,
        "steps_done": panel.n_steps,
        "steps_planned": panel.n_steps_planned,
        "finished": panel.finished,
        "outcomes": {outcome.name: total for outcome, total in outcome_totals(steps).items()},
        "steps": [
            {
                "step": step.step,
                "kind": step.kind,
                "sigma": step.sigma,
                "sigma_next": step.sigma_next,
                "outcomes": {outcome.name: total for outcome, total in step.counts.items() if total},
                "settle_us": None
                if step.settle is None
                else {
                    "p50": step.settle.p50_us,
                    "p95": step.settle.p95_us,
                    "p99": step.settle.p99_us,
                    "max": step.settle.max_us,
                    "unsettled_share": step.settle.unsettled_share,
                    "audited": step.settle.audited,
                },
                "residual_median": step.residual_median,
                "step_norm_median": step.step_norm_median,
            }
            for step in steps
        ],
        "ledger": {
            "device_modelled_us": ledger.modelled_total_us,
            "device_modelled_us_per_sample": ledger.modelled_total_us / panel.n_samples,
            "device_measured_us": ledger.measured_total_us,
            "host_measured_s": ledger.host_total_s,
            "modelled_parts_us": ledger.modelled_us,
            "measured_parts_us": ledger.measured_us,
            "host_parts_s": ledger.host_s,
            "nfe": ledger.nfe,
            "host_macs": ledger.host_macs,
            "machine_macs": ledger.machine_macs,
        },
        "metrics": dict(panel.metrics),
        "settings": dict(panel.settings),
    }


def _panel_lines(panel: PanelReader) -> list[str]:
    steps = step_statistics(panel)
    ledger = ledger_totals(panel.ledger, panel.n_samples)
    name = f"[{panel.name}] " if panel.name else ""
    totals = outcome_totals(steps)
    lines = []
    if totals:
        told = ", ".join(f"{count:,} {outcome.name}" for outcome, count in totals.items())
        lines.append(f"outcomes  {name}{told}")
    settled = [step.settle for step in steps if step.settle is not None]
    if settled:
        worst = max(settled, key=lambda s: s.p95_us)
        unsettled = max(s.unsettled_share for s in settled)
        slowest = (
            f"95% of samples within {worst.p95_us:.2f} µs at the slowest step"
            if math.isfinite(worst.p95_us)
            else "more than 5% of samples unsettled at the slowest step"
        )
        lines.append(f"settling  {name}{slowest}; unsettled at most {words.share(unsettled)}")
    if math.isfinite(ledger.modelled_total_us):
        lines.append(
            f"device    {name}{words.duration(ledger.modelled_total_us / panel.n_samples)} a sample, "
            f"{words.duration(ledger.modelled_total_us)} the batch (modelled)"
        )
    if math.isfinite(ledger.measured_total_us):
        lines.append(f"device    {name}{words.duration(ledger.measured_total_us)} the batch (measured)")
    lines.append(f"host      {name}{words.seconds(ledger.host_total_s)} wall clock (measured)")
    return lines


def _steps_table(panel: PanelReader) -> Table:
    steps = step_statistics(panel)
    title = f"Steps of {panel.title}" if panel.name else "Steps"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in (
        "step",
        "kind",
        "σ → σ′",
        "as planned",
        "otherwise",
        "settle p95 µs",
        "unsettled",
        "residual",
    ):
        table.add_column(heading, justify="left" if heading in ("kind", "otherwise") else "right")
    for step in steps:
        bad = {outcome: total for outcome, total in step.counts.items() if total and outcome not in GOOD}
        table.add_row(
            str(step.step),
            step.kind,
            f"{words.number(step.sigma)} → {words.number(step.sigma_next)}",
            words.share(step.good_share),
            ", ".join(f"{total:,} {Outcome(outcome).name}" for outcome, total in bad.items()),
            words.microseconds(step.settle.p95_us) if step.settle else "–",
            words.share(step.settle.unsettled_share) if step.settle else "–",
            words.number(step.residual_median),
        )
    return table


def _cost_table(panel: PanelReader) -> Table:
    totals = ledger_totals(panel.ledger, panel.n_samples)
    table = Table(title="Cost", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("clock", "a sample", "the batch", "of which"):
        table.add_column(heading, justify="left" if heading in ("clock", "of which") else "right")
    rows = (
        ("device, modelled", totals.modelled_total_us, totals.modelled_us, 1.0),
        ("device, measured", totals.measured_total_us, totals.measured_us, 1.0),
        ("host, measured", totals.host_total_s * 1e6, totals.host_s, 1e6),
    )
    for name, total, parts, scale in rows:
        if not math.isfinite(total):
            continue
        told = ", ".join(
            f"{part} {words.duration(value * scale)}"
            for part, value in parts.items()
            if math.isfinite(value) and part != "settle"
        )
        table.add_row(name, words.duration(total / panel.n_samples), words.duration(total), told)
    return table


def _plain(value: Any) -> JsonValue:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(value)
