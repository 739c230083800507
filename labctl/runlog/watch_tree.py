"""The group `watch` of a run file: looks of a watch on drift, with what they cost, and what drifted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import h5py
import numpy as np

from labctl.runlog.columns import GrowingColumn, clip_text, create_growing, text_type
from labctl.runlog.nexus import add_attributes, add_group, decoded, fresh
from labctl.runlog.records import DriftRecord
from labctl.runlog.writable import WritableFile

WATCH = "watch"
TEXTS = {
    "at": 40, "panel": 80, "kind": 80, "series": 120, "unit": 16, "words": 500, "policy": 24, "done": 500,
}  # fmt: skip


@dataclass(frozen=True)
class WatchLook:
    """One look: device time into the run (s), what it took (us), and the statistic nearest to its limit, over
    it. learning: it is part of a baseline.
    """

    device_s: float
    look_us: float
    worst: float
    learning: bool = False


def write_watch(entry: h5py.Group) -> None:
    """The empty group."""
    group = add_group(entry, WATCH, "NXcollection")
    looks = add_group(group, "looks", "NXcollection")
    for name, units in (("device_s", "s"), ("look_us", "us"), ("worst", "")):
        add_attributes(create_growing(looks, name, (), np.dtype("<f8"), float("nan")), {"units": units})
    create_growing(looks, "learning", (), np.dtype("<i4"), 0)
    looks.create_dataset("done", data=np.int32(0))
    events = add_group(group, "events", "NXcollection")
    for field in fields(DriftRecord):
        if field.name in TEXTS:
            create_growing(events, field.name, (), text_type(TEXTS[field.name]), b"")
        else:
            dtype = np.dtype("<i4") if field.name == "step" else np.dtype("<f8")
            create_growing(events, field.name, (), dtype, 0)
    events.create_dataset("done_count", data=np.int32(0))


class WatchWriter:
    """Appends looks and events."""

    def __init__(self, file: WritableFile, entry: h5py.Group) -> None:
        self._file = file
        self._looks, self._events = entry[WATCH]["looks"], entry[WATCH]["events"]
        self._of_looks = {f.name: GrowingColumn(self._looks[f.name]) for f in fields(WatchLook)}
        self._of_events = {f.name: GrowingColumn(self._events[f.name]) for f in fields(DriftRecord)}
        self._seen, self._drifted = 0, 0

    def look(self, look: WatchLook) -> None:
        """Append one look, and flush it."""
        with self._file.writing("a look for drift"):
            for name, value in asdict(look).items():
                self._of_looks[name].write(self._seen, value)
            self._seen += 1
            self._file.flush()
            self._looks["done"][()] = self._seen
            self._file.flush()

    def event(self, event: DriftRecord) -> None:
        """Append one event, and flush it."""
        with self._file.writing("a drift event"):
            for name, value in asdict(event).items():
                row = clip_text(value, TEXTS[name]) if name in TEXTS else value
                self._of_events[name].write(self._drifted, row)
            self._drifted += 1
            self._file.flush()
            self._events["done_count"][()] = self._drifted
            self._file.flush()


def read_looks(entry: h5py.Group) -> tuple[WatchLook, ...]:
    """All looks; none where nothing watched."""
    if WATCH not in entry:
        return ()
    group = entry[WATCH]["looks"]
    count = int(fresh(group["done"])[()])
    columns = [np.asarray(fresh(group[f.name])[:count]) for f in fields(WatchLook)]
    return tuple(
        WatchLook(float(at), float(took), float(worst), bool(learning))
        for at, took, worst, learning in zip(*columns, strict=True)
    )


def read_events(entry: h5py.Group) -> tuple[DriftRecord, ...]:
    """All events, in order."""
    if WATCH not in entry:
        return ()
    group = entry[WATCH]["events"]
    count = int(fresh(group["done_count"])[()])
    columns = {f.name: fresh(group[f.name])[:count] for f in fields(DriftRecord)}
    return tuple(
        DriftRecord(**{name: _plain(name, values[i]) for name, values in columns.items()})
        for i in range(count)
    )


def _plain(name: str, value: Any) -> Any:
    if name in TEXTS:
        return decoded(value)
    return int(value) if name == "step" else float(value)
