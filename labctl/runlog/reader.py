"""Reads run files: finished ones, ones still being written, and what a killed run left behind."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from labctl.devices import RunLogError, Scalar
from labctl.runlog.header import RunHeader
from labctl.runlog.nexus import decoded, fresh, read_metrics
from labctl.runlog.panel_reader import PanelReader
from labctl.runlog.records import DriftRecord
from labctl.runlog.tree import FORMAT, PANELS, started_ticks
from labctl.runlog.watch_tree import WatchLook, read_events, read_looks
from labctl.runlog.writable import reason_of
from labctl.runlog.writer import PART, final_path, part_of

FloatArray = NDArray[np.float64]


class RunReader:
    """A run file opened for reading. Use as a context manager.

    `path` may be the finished file, its .part, or the name without either ending; while a run is going its
    .part is read live (`refresh` looks again). Steps are counted only when wholly in the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = locate(path)
        self.partial = self.path.name.endswith(PART)
        try:
            # A .part was opened for SWMR writing; a finished file was closed and needs no such care.
            self._file = h5py.File(self.path, "r", swmr=self.partial)
        except OSError as error:
            raise RunLogError(f"{self.path}: {_why_not(error)}") from error
        try:
            self._check_format()
            self._entry: h5py.Group = self._file["entry"]
            self._panels = self._open_panels()
        except (RunLogError, KeyError, OSError, RuntimeError) as error:
            self._file.close()
            if isinstance(error, RunLogError):
                raise
            raise RunLogError(f"{self.path}: not a whole labctl run file: {reason_of(error)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def refresh(self) -> None:
        """Look again at a file that is still being written."""
        for panel in self._panels.values():
            panel.refresh()

    # What the run is -----------------------------------------------------------------------------------

    @property
    def header(self) -> RunHeader:
        """The whole header."""
        try:
            return RunHeader.model_validate_json(self._text("process/header/data"))
        except ValidationError as error:
            raise RunLogError(f"{self.path}: the header does not read back: {error}") from error

    @property
    def identifier(self) -> str:
        """The run's own unique name."""
        return self._text("entry_identifier_uuid")

    @property
    def status(self) -> str:
        """success, aborted, failed, running, or killed (unfinished, and its process is gone)."""
        status = self._text("exit_status")
        if status == "running" and not self._owner_lives():
            return "killed"
        return status

    @property
    def exit_reason(self) -> str:
        """Why a run was aborted or failed; empty otherwise."""
        return self._text("exit_reason")

    @property
    def end_time(self) -> str | None:
        """When the run ended, ISO 8601; None while it has not."""
        return self._text("end_time") or None

    @property
    def default_plot(self) -> str:
        """The group that a viewer opens first."""
        return str(self._entry.attrs["default"])

    # What it holds -------------------------------------------------------------------------------------

    @property
    def panels(self) -> Mapping[str, PanelReader]:
        """Panels by name, in planned order; "" is the run itself."""
        return self._panels

    def panel(self, name: str = "") -> PanelReader:
        """One panel; without a name, the first."""
        if not name:
            return next(iter(self._panels.values()))
        if name not in self._panels:
            raise RunLogError(f"{self.path}: no panel {name!r}; it has {list(self._panels)}")
        return self._panels[name]

    @property
    def metrics(self) -> dict[str, Scalar]:
        """Metrics of the whole run."""
        return read_metrics(self._entry)

    @property
    def watch_looks(self) -> tuple[WatchLook, ...]:
        """Looks of a watch on drift, in order; none where nothing watched."""
        return read_looks(self._entry)

    @property
    def drift_events(self) -> tuple[DriftRecord, ...]:
        """What the watch saw leave its charts, and what was done."""
        return read_events(self._entry)

    @property
    def scan(self) -> dict[str, FloatArray] | None:
        """The scan table: column name -> values; None where nothing was scanned."""
        if "scan" not in self._entry:
            return None
        group = self._entry["scan"]
        done = int(fresh(group["rows_done"])[()])
        return {str(name): np.asarray(fresh(group[name])[:done]) for name in group.attrs["columns"]}

    @property
    def scan_axis(self) -> tuple[str, str] | None:
        """Name of the scanned column and of the one plotted against it."""
        if "scan" not in self._entry:
            return None
        attributes = self._entry["scan"].attrs
        return str(attributes["axes"][0]), str(attributes["signal"])

    @property
    def scan_series(self) -> dict[str, tuple[str, str]]:
        """Of every column of the scan: the quantity it is, and its label among others of that quantity."""
        if "scan" not in self._entry:
            return {}
        group = self._entry["scan"]
        return {
            str(name): (str(group[name].attrs["quantity"]), str(group[name].attrs.get("series", "")))
            for name in group.attrs["columns"]
        }

    @property
    def scan_units(self) -> dict[str, str]:
        """Units of the scan's columns; "" for a pure number."""
        if "scan" not in self._entry:
            return {}
        group = self._entry["scan"]
        return {str(name): str(group[name].attrs.get("units", "")) for name in group.attrs["columns"]}

    def data(self, name: str) -> dict[str, NDArray[Any]]:
        """The fields of a further NXdata group."""
        if name not in self._entry:
            raise RunLogError(f"{self.path}: no data group {name!r}; it has {list(self.data_groups)}")
        group = self._entry[name]
        return {
            str(field): np.asarray(fresh(group[field])[...])
            for field in group
            if group[field].dtype.kind in "iufb"
        }

    @property
    def data_groups(self) -> Sequence[str]:
        """Names of the NXdata groups of the entry."""
        return tuple(
            str(name)
            for name, item in self._entry.items()
            if isinstance(item, h5py.Group) and decoded(item.attrs.get("NX_class", "")) == "NXdata"
        )

    def _check_format(self) -> None:
        if decoded(self._file.attrs.get("creator", "")) != "labctl" or "entry" not in self._file:
            raise RunLogError(f"{self.path}: an HDF5 file, but not a labctl run")
        found = int(self._file.attrs.get("labctl_format", 0))
        if not 1 <= found <= FORMAT:
            raise RunLogError(
                f"{self.path}: written in run-file format {found}; this labctl reads formats 1..{FORMAT}"
            )

    def _open_panels(self) -> dict[str, PanelReader]:
        panels: dict[str, PanelReader] = {}
        if "steps" in self._entry:
            panels[""] = PanelReader(self._entry, "")
        if PANELS in self._entry:
            group = self._entry[PANELS]
            for name in group.attrs["order"]:
                panels[decoded(name)] = PanelReader(group[name], decoded(name))
        if not panels:
            raise RunLogError(f"{self.path}: not a whole labctl run file: it has no steps")
        return panels

    def _text(self, path: str) -> str:
        return decoded(fresh(self._entry[path])[()])

    def _owner_lives(self) -> bool:
        """Whether the writing process still exists; on another machine there is no telling, so yes."""
        owner = self._entry["process/owner"]
        if decoded(owner["host"][()]) != platform.node():
            return True
        pid, ticks = int(owner["pid"][()]), int(owner["started_ticks"][()])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return ticks == 0 or started_ticks(pid) == ticks


def locate(path: str | os.PathLike[str]) -> Path:
    """The file that a name means: itself, with .nxs, or the .part of either; RunLogError if none exists."""
    given = Path(path)
    whole = given.with_name(given.name.removesuffix(PART))
    for candidate in (given, final_path(whole), part_of(final_path(whole))):
        if candidate.is_file():
            return candidate
    if given.is_dir():
        raise RunLogError(f"{given}: is a folder, not a run file")
    raise RunLogError(f"{given}: no such run file")


def _why_not(error: OSError) -> str:
    text = str(error)
    if "signature not found" in text:
        return "not an HDF5 file, so not a run file"
    if "truncated file" in text:
        return "cut short: the file is smaller than it says"
    if "unable to lock file" in text or "already open for write" in text:
        return "being created by another process just now; try again in a moment"
    return f"cannot be read: {reason_of(error)}"
