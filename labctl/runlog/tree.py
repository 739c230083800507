"""The NeXus tree of a run file: groups, attributes and every dataset, made before the first step.

Nothing is created afterwards: while the file is open for one writer and many readers (SWMR), datasets may
grow and be overwritten, but not appear.
"""

from __future__ import annotations

import os
import platform
import uuid
from pathlib import Path

import h5py
import numpy as np

from labctl.devices import RunLogError
from labctl.runlog.columns import create_growing
from labctl.runlog.header import RunHeader
from labctl.runlog.nexus import (
    add_attributes,
    add_group,
    add_metrics,
    add_note,
    add_settings,
    add_text_slot,
)
from labctl.runlog.panel_tree import check_panel, write_panel
from labctl.runlog.provenance import labctl_version
from labctl.runlog.records import DataPlan, RunPlan, ScanPlan
from labctl.runlog.watch_tree import write_watch

FORMAT = 1
STATUS_BYTES = 16
TIME_BYTES = 40
REASON_BYTES = 4000
PANELS = "panels"
_RESERVED = frozenset(
    (
        *("coercions", "data", "instrument", "ledger", "metrics", "outcomes", PANELS, "process", "program"),
        *("forecast", "samples", "scan", "settings", "settling", "steps", "user", "watch"),
    )
)


def write_tree(file: h5py.File, header: RunHeader, plan: RunPlan) -> None:
    """Create the whole structure of a run."""
    check_plan(plan)
    add_attributes(
        file,
        {
            "NX_class": "NXroot",
            "default": "entry",
            "creator": "labctl",
            "creator_version": labctl_version(),
            "labctl_format": FORMAT,
            "file_time": header.start_time,
            "h5py_version": h5py.__version__,
            "HDF5_Version": h5py.version.hdf5_version,
        },
    )
    entry = add_group(file, "entry", "NXentry", default=_default_of(plan))
    _write_header(entry, header)
    add_metrics(entry)
    for panel in plan.panels:
        if not panel.name:
            write_panel(entry, panel)
    named = [panel for panel in plan.panels if panel.name]
    if named:
        names = [panel.name for panel in named]
        first = plan.default if plan.default in names else names[0]
        panels = add_group(entry, PANELS, "NXcollection", default=first)
        for panel in named:
            sub = add_group(panels, panel.name, "NXsubentry", default="samples")
            sub["title"] = panel.title or panel.name
            add_metrics(sub)
            write_panel(sub, panel)
        panels.attrs["order"] = names
    if plan.scan is not None:
        _write_scan(entry, plan.scan)
    for extra in plan.data:
        _write_data(entry, extra)
    if plan.watched:
        write_watch(entry)


def check_plan(plan: RunPlan) -> None:
    """Refuse a plan with nothing to do, or with names that collide."""
    if not plan.panels:
        raise RunLogError("run plan: no panel; a run file needs at least one chain of steps")
    names = [panel.name for panel in plan.panels]
    for panel in plan.panels:
        check_panel(panel)
        if names.count(panel.name) > 1:
            raise RunLogError(f"run plan: panel name {panel.name!r} stands twice")
    for extra in plan.data:
        if extra.name in _RESERVED:
            raise RunLogError(f"run plan: data group {extra.name!r} collides with a group of every run")
        for field in (extra.signal, *extra.axes):
            if field not in extra.fields:
                raise RunLogError(f"run plan: data group {extra.name!r} has no field {field!r}")
    allowed = [name for name in names if name] + [extra.name for extra in plan.data]
    allowed += ["samples"] if "" in names else []
    allowed += ["scan"] if plan.scan is not None else []
    if plan.default is not None and plan.default not in allowed:
        raise RunLogError(f"run plan: default plot {plan.default!r} is not in the plan; allowed: {allowed}")
    if plan.scan is not None:
        for column in (plan.scan.axis, plan.scan.signal, *plan.scan.series):
            if column not in plan.scan.columns:
                raise RunLogError(f"run plan: the scan has no column {column!r}")


def started_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid it names one process. 0 if unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _default_of(plan: RunPlan) -> str:
    """The child of the entry on the way to the default plot."""
    if plan.default is None:
        if plan.scan is not None:
            return "scan"
        return PANELS if plan.panels[0].name else "samples"
    if plan.default in [panel.name for panel in plan.panels if panel.name]:
        return PANELS
    return plan.default


def _write_header(entry: h5py.Group, header: RunHeader) -> None:
    entry["title"] = header.title
    entry["start_time"] = header.start_time
    entry["entry_identifier_uuid"] = str(uuid.uuid4())
    add_text_slot(entry, "end_time", TIME_BYTES)
    add_text_slot(entry, "exit_status", STATUS_BYTES, "running")
    add_text_slot(entry, "exit_reason", REASON_BYTES)
    entry["program_name"] = "labctl"
    entry["program_name"].attrs["version"] = labctl_version()
    entry["seed"] = np.int64(header.seed)
    process = add_group(entry, "process", "NXprocess")
    process["program"] = "labctl"
    process["version"] = labctl_version()
    process["date"] = header.start_time
    for name, document in (("protocol", header.protocol), ("rig", header.rig)):
        add_note(process, name, document.text, f"application/{document.format}", document.name)
    add_note(process, "header", header.model_dump_json(), "application/json", "the whole header")
    software = add_group(process, "software", "NXcollection")
    for name, version in header.versions.items():
        software[name] = version
    software["git_commit"] = header.git_commit or "unknown"
    add_settings(process, "numerics", header.numerics)
    owner = add_group(process, "owner", "NXcollection")
    owner["pid"] = np.int64(os.getpid())
    owner["host"] = platform.node()
    owner["started_ticks"] = np.int64(started_ticks(os.getpid()))
    instrument = add_group(entry, "instrument", "NXinstrument")
    instrument["name"] = header.rig.name
    for device in header.devices:
        group = add_group(instrument, device.name, "NXcollection")
        for field in ("vendor", "model", "serial", "firmware"):
            group[field] = getattr(device, field)
        group["simulated"] = device.simulated
    if header.operator:
        add_group(entry, "user", "NXuser")["name"] = header.operator


def _write_scan(entry: h5py.Group, scan: ScanPlan) -> None:
    others = [name for name in scan.columns if name not in (scan.axis, scan.signal)]
    group = add_group(entry, "scan", "NXdata", signal=scan.signal, axes=[scan.axis])
    if others:
        group.attrs["auxiliary_signals"] = others
    group["title"] = scan.title or f"{scan.signal} against {scan.axis}"
    group.attrs["columns"] = list(scan.columns)
    for name, units in scan.columns.items():
        column = create_growing(group, name, (), np.dtype("<f8"), float("nan"))
        quantity, label = scan.series.get(name, (name, ""))
        add_attributes(column, {"units": units, "long_name": name, "quantity": quantity, "series": label})
    group.create_dataset("rows_done", data=np.int32(0))


def _write_data(entry: h5py.Group, extra: DataPlan) -> None:
    group = add_group(entry, extra.name, "NXdata", signal=extra.signal)
    if extra.axes:
        group.attrs["axes"] = list(extra.axes)
    group["title"] = extra.title or extra.name
    for name, values in extra.fields.items():
        add_attributes(
            group.create_dataset(name, data=np.asarray(values)), {"units": extra.units.get(name, "")}
        )
