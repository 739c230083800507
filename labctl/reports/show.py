"""One run as plain data, for `--json`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from pydantic import JsonValue

from labctl.reports.classes import class_rows
from labctl.reports.statistics import ledger_totals, outcome_totals, step_statistics
from labctl.runlog import PanelReader, RunHeader, RunReader


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
        "panels": [_panel(panel, header) for panel in run.panels.values()],
    }
    if run.watch_looks:
        found["drift_events"] = [asdict(event) for event in run.drift_events]
    scan = run.scan
    if scan is not None:
        found["scan"] = {name: values.tolist() for name, values in scan.items()}
    plain = _plain(found)
    return plain if isinstance(plain, dict) else {}


def _panel(panel: PanelReader, header: RunHeader) -> dict[str, Any]:
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
        "controls": [{"name": one.name, "what": one.what, **one.figures} for one in panel.controls],
        "classes": [
            {
                "name": row.name,
                "pictures": row.pictures,
                "agreement": row.agreement,
                "mistaken_for": dict(row.mistaken),
            }
            for row in class_rows(panel, header.class_names)
        ],
        "settings": dict(panel.settings),
    }


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
