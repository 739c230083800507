"""Writes a run file: the structure first, then a flush after every step, then its final name.

The file is `NAME.nxs.part` until it is whole. From the first step on it is open for one writer and many
readers (SWMR): a second process may read it live, and if this process is killed, every step for which
`step` returned is in the file. (Against a power cut only the finished file is synchronised to the disk.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices import Aborted, RunLogError, Scalar
from labctl.runlog.columns import GrowingColumn, clip_text
from labctl.runlog.header import RunHeader, now_iso
from labctl.runlog.panel_tree import planned_bytes
from labctl.runlog.panel_writer import PanelWriter, write_metrics
from labctl.runlog.records import IntArray, RunPlan, StepRecord
from labctl.runlog.tree import PANELS, REASON_BYTES, STATUS_BYTES, TIME_BYTES, write_tree
from labctl.runlog.watch_tree import WatchWriter
from labctl.runlog.writable import WritableFile, check_room, make_folder, publish, reason_of

SUFFIX = ".nxs"
PART = ".part"
_LIBVER = ("v110", "v110")  # readable by every HDF5 since 1.10, and the oldest that has SWMR
_STRUCTURE_BYTES = 1 << 20


class RunWriter:
    """One run, one file. Use as a context manager: leaving it early marks the file aborted or failed."""

    def __init__(self, path: Path, file: WritableFile, plan: RunPlan) -> None:
        self.path = path
        self._file = file
        self._entry: h5py.Group = file.hdf5["entry"]
        self._scan_rows = 0
        self._scan: dict[str, GrowingColumn] = {}
        if plan.scan is not None:
            self._scan = {name: GrowingColumn(self._entry["scan"][name]) for name in plan.scan.columns}
        self._panels = {
            panel.name: PanelWriter(
                file, self._entry[PANELS][panel.name] if panel.name else self._entry, panel
            )
            for panel in plan.panels
        }
        self.watch = WatchWriter(file, self._entry) if plan.watched else None

    @classmethod
    def create(cls, path: str | os.PathLike[str], header: RunHeader, plan: RunPlan) -> Self:
        """Make NAME.nxs.part with its whole structure and open it for appending.

        `path` gets the ending .nxs where it has none; its folder is made. RunLogError where the file or its
        .part exists, the folder cannot be written, or the disk has less room than the run may need.
        """
        final = final_path(path)
        part = part_of(final)
        for taken in (final, part):
            if taken.exists():
                raise RunLogError(f"{taken}: exists already; a run never overwrites a file")
        make_folder(final.parent)
        check_room(final.parent, _STRUCTURE_BYTES + sum(planned_bytes(panel) for panel in plan.panels))
        try:
            file = h5py.File(part, "x", libver=_LIBVER)
        except OSError as error:
            raise RunLogError(f"{part}: cannot be created: {reason_of(error)}") from error
        with ExitStack() as undo:
            undo.callback(_discard, file, part)
            try:
                write_tree(file, header, plan)
                file.flush()
                file.swmr_mode = True
                writer = cls(final, WritableFile(part, file), plan)
            except (OSError, RuntimeError) as error:
                raise RunLogError(f"{part}: cannot be written: {reason_of(error)}") from error
            undo.pop_all()
        return writer

    @property
    def part_path(self) -> Path:
        """Where the run is being written."""
        return self._file.path

    @property
    def open(self) -> bool:
        """Whether the run can still be written to."""
        return not self._file.closed

    @property
    def panels(self) -> Sequence[str]:
        """Names of the panels, in order; "" is the run itself."""
        return tuple(self._panels)

    def panel(self, name: str = "") -> PanelWriter:
        """The writer of one panel; without a name, the only one."""
        if not name and len(self._panels) == 1:
            return next(iter(self._panels.values()))
        if name not in self._panels:
            raise RunLogError(f"{self.part_path}: no panel {name!r}; planned are {list(self._panels)}")
        return self._panels[name]

    def step(self, record: StepRecord) -> int:
        """Append a step to the only panel; see `PanelWriter.step`."""
        return self.panel().step(record)

    def scan_row(self, values: Mapping[str, float]) -> None:
        """Append one row to the scan table; columns left out stay NaN."""
        unknown = sorted(set(values) - set(self._scan))
        if unknown:
            raise RunLogError(
                f"{self.part_path}: the scan has no column {unknown}; it has {list(self._scan)}"
            )
        with self._file.writing("a scan row"):
            for name, column in self._scan.items():
                column.write(self._scan_rows, values.get(name, float("nan")))
            self._file.flush()
            self._scan_rows += 1
            self._entry["scan/rows_done"][()] = self._scan_rows
            self._file.flush()

    def put(self, name: str, field: str, values: ArrayLike) -> None:
        """Rewrite a field of a `DataPlan` group, in its planned shape."""
        if name not in self._entry or field not in self._entry[name]:
            raise RunLogError(f"{self.part_path}: no data group {name!r} with field {field!r} was planned")
        dataset = self._entry[name][field]
        array = np.asarray(values)
        self._file.check_shape(f"{name}.{field}", array, dataset.shape)
        with self._file.writing(f"{name}.{field}"):
            dataset[...] = array
            self._file.flush()

    def finish(
        self,
        samples: ArrayLike | None = None,
        metrics: Mapping[str, Scalar] | None = None,
        *,
        pictures: NDArray[np.uint8] | None = None,
        step_pictures: NDArray[np.uint8] | None = None,
        labels: IntArray | None = None,
        judged: IntArray | None = None,
        exit_status: str = "success",
    ) -> Path:
        """Write samples (of the only panel) and the run's metrics, close, rename; returns the final path."""
        if samples is not None:
            self.panel().finish(
                samples, pictures=pictures, step_pictures=step_pictures, labels=labels, judged=judged
            )
        if metrics:
            with self._file.writing("the metrics"):
                write_metrics(self._entry["metrics"], metrics)
        return self._end(exit_status, "")

    def abort(self, reason: str = "stopped by a person") -> Path:
        """Close a run that was stopped on purpose: the file is whole and says so."""
        return self._end("aborted", reason)

    def fail(self, reason: str) -> Path:
        """Close a run that an error ended: the file is whole and keeps the error's text."""
        return self._end("failed", reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.open:
            return
        if error is None:
            self.fail("the run was left without finish()")
        elif isinstance(error, Aborted | KeyboardInterrupt):
            self.abort(str(error) or "interrupted from the keyboard")
        else:
            self.fail(f"{type(error).__name__}: {error}")

    def _end(self, status: str, reason: str) -> Path:
        with self._file.writing("the end of the run"):
            for panel in self._panels.values():
                panel.keep_unfinished()
            self._entry["end_time"][()] = clip_text(now_iso(), TIME_BYTES)
            self._entry["exit_reason"][()] = clip_text(reason, REASON_BYTES)
            self._entry["exit_status"][()] = clip_text(status, STATUS_BYTES)
            self._file.flush()
            self._file.close()
        publish(self.part_path, self.path)
        return self.path


def final_path(path: str | os.PathLike[str]) -> Path:
    """The path of the finished file: with the ending .nxs where there is none (.h5 is kept)."""
    final = Path(path)
    return final if final.suffix in (SUFFIX, ".h5") else final.with_name(final.name + SUFFIX)


def part_of(final: Path) -> Path:
    """Where a run is written until it is whole."""
    return final.with_name(final.name + PART)


def _discard(file: h5py.File, part: Path) -> None:
    with suppress(OSError, RuntimeError):
        file.close()
    part.unlink(missing_ok=True)
