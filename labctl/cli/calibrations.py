"""`labctl calibrations`: the records of a folder, how each stands and why; two of them side by side."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from labctl_calibration.comparing import Change, compare
from labctl_calibration.staleness import Standing, explain, in_words, taken
from labctl_calibration.store import RecordStore, Stored
from labctl_calibration.store.archive import export_records, import_records
from labctl_calibration.store.collecting import Collection, collect, collectable, raw_policy
from rich.table import Table
from rich.text import Text

from labctl.cli.console import out
from labctl.devices import ConfigError, Identity
from labctl.reports.words import number, uncertain
from labctl.rig import Rig, load_rig
from labctl.rig.calibrating import bench_of
from labctl.runlog import RunReader, list_runs


def list_records(folder: Path, rig_name: str | None) -> None:
    """One line a record, oldest first; of a rig's devices alone where it is named."""
    store, now, console = RecordStore(folder), datetime.now(UTC), out()
    serials = None if rig_name is None else _identities(rig_name)
    records = [one for one in store.all() if serials is None or one.record.device_serial in serials]
    if not records:
        console.print(Text(f"no calibration records in {folder}", "dim"))
        return
    in_use = {one.id for one in store.in_use()}
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in ("record", "kind", "device", "age", "valid for", "stands"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("record", "age"))
    for one in records:
        state = Text("older", "dim")
        if one.id in in_use:
            standing = explain(store, one.record.kind, _identity(one, serials), now)
            state = Text(standing.words if standing.reasons else "in use", _style(standing))
        when = taken(one)
        valid = one.about.valid_s
        table.add_row(
            one.name,
            one.record.kind,
            one.record.device_serial,
            "–" if when is None else in_words(now - when),
            in_words(timedelta(seconds=valid)) if valid < timedelta.max.total_seconds() else "ever",
            state,
        )
    console.print(table)


def explain_rig(folder: Path, rig_name: str) -> None:
    """How every record that a rig needs stands, and why, in the order of its procedures."""
    console = out()
    with Rig(load_rig(rig_name)) as rig:
        bench = bench_of(rig, folder)
        now = datetime.now(UTC)
        standings = [(one, bench.standing(one, now)) for one in bench.procedures]
    console.print(Text(rig_name, "bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for procedure, standing in standings:
        name = "" if standing.stored is None else standing.stored.name
        state = "in order" if standing.in_order else "; ".join(r.words for r in standing.reasons)
        words = Text("; ".join((state, *standing.notes)), _style(standing))
        grid.add_row(f"  {procedure.name}", Text(name, "dim"), words)
    console.print(grid)


def compare_records(folder: Path, old_name: str, new_name: str) -> None:
    """Two records of a kind side by side. ConfigError for two kinds."""
    store, console = RecordStore(folder), out()
    old, new = store.get(old_name), store.get(new_name)
    if old.record.kind != new.record.kind:
        raise ConfigError(
            f"{old.name} is {old.record.kind!r} and {new.name} {new.record.kind!r}; allowed: two of a kind"
        )
    found = compare(old, new)
    console.print(Text(f"{old.record.kind}: {_where(old)}, {_where(new)}", "bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in ("", old.name, new.name, "change", "in combined uncertainties"):
        table.add_column(heading, justify="left" if not heading else "right", overflow="fold")
    for change in found.changes:
        style = "dim" if change.sigmas != change.sigmas else ("" if change.agrees else "yellow")
        before, after = _value(old, change, change.old), _value(new, change, change.new)
        difference = f"{change.new - change.old:+.2g}"
        table.add_row(change.name, before, after, difference, _sigmas(change), style=style)
    console.print(table)
    console.print(Text(found.words, "" if found.agrees else "yellow"))


def collect_records(folder: Path, runs: Path | None, raw: str, *, delete: bool) -> None:
    """What is not needed any more; removed only if told. `runs`: keep what its run files name."""
    store, console = RecordStore(folder), out()
    what = collectable(store, referenced=() if runs is None else _named_in(runs), raw=raw_policy(raw))
    for one in what.records:
        console.print(Text(f"  {one.name}  {one.record.kind}, {one.record.taken_at}"))
    for one in what.raw:
        console.print(Text(f"  {one.name}  raw readings of {one.record.kind}"))
    for path in what.leftovers:
        console.print(Text(f"  {path.name}  left over from a write that was cut short"))
    if delete:
        collect(store, what)
    console.print(Text(_collected(what, delete), "dim"))


def export_to(folder: Path, file: Path, names: list[str]) -> None:
    """Records, or all in use, with what they rest on, as one file."""
    store = RecordStore(folder)
    wanted = [store.get(name) for name in names] if names else list(store.in_use())
    if not wanted:
        raise ConfigError(f"{folder}: has no records; allowed: a folder with some")
    written = export_records(store, [one.id for one in wanted], file)
    out().print(Text(f"{len(written)} records in {file}"), soft_wrap=True)


def import_from(folder: Path, file: Path, rig_name: str, *, another: bool) -> None:
    """Records of a rig's devices; of any, where `another` is allowed."""
    serials = None if another else set(_identities(rig_name))
    fresh = import_records(RecordStore(folder), file, serials)
    out().print(Text(f"{len(fresh)} new records in {folder}"), soft_wrap=True)


def _identities(rig_name: str) -> dict[str, Identity]:
    """Of the devices of a rig, by serial number."""
    with Rig(load_rig(rig_name)) as rig:
        return {identity.serial: identity for identity in rig.identities.values()}


def _identity(stored: Stored, known: dict[str, Identity] | None) -> Identity:
    """Of the device as it is now, or else as the record has it."""
    serial = stored.record.device_serial
    if known is not None:
        return known[serial]
    return stored.about.identity or Identity("", "", serial, "", simulated=False)


def _style(standing: Standing) -> str:
    return "green" if standing.in_order else "yellow"


def _where(stored: Stored) -> str:
    return f"{stored.name} of {stored.record.device_serial}, {stored.record.taken_at}"


def _value(stored: Stored, change: Change, value: float) -> str:
    quantity = stored.about.quantity(change.name) if change.single else None
    if quantity is None:
        return f"mean {number(value)}"
    return uncertain(quantity.value, quantity.sd, quantity.unit)


def _sigmas(change: Change) -> str:
    if change.sigmas != change.sigmas:
        return "none stated"
    return f"{change.sigmas:+.1f}" if change.single else f"rms {change.sigmas:.1f}, worst {change.worst:.1f}"


def _collected(what: Collection, deleted: bool) -> str:
    count = len(what.records) + len(what.raw) + len(what.leftovers)
    things = f"{count} thing{'s'[: count != 1]}"
    told = f"{what.kept} records stay; {things}, {what.bytes / 1e6:.1f} MB, "
    return told + ("are gone" if deleted else "could go: add --delete")


def _named_in(runs: Path) -> list[str]:
    """Ids that the run files of a folder worked by."""
    names: list[str] = []
    for found in list_runs(runs):
        if found.problem is None:
            with RunReader(found.path) as run:
                names += str(run.header.numerics.get("records", "")).split()
    return names
