"""Appends the steps of one chain to a run file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices import Outcome, RunLogError, Scalar
from labctl.runlog.columns import GrowingColumn, clip_text
from labctl.runlog.density import fill_density
from labctl.runlog.nexus import METRIC_NAME_BYTES, METRIC_TEXT_BYTES
from labctl.runlog.panel_tree import CHECKSUM_BYTES, COERCION_BYTES, KIND_BYTES, STEP_COLUMNS, in_own_units
from labctl.runlog.records import DeviceTime, FloatArray, IntArray, PanelPlan, StepRecord
from labctl.runlog.writable import WritableFile

_AUDITED = ("steps/settle_time_us", "steps/transient")


class PanelWriter:
    """Appends the steps of one panel. Made by `RunWriter`."""

    def __init__(self, file: WritableFile, entry: h5py.Group, plan: PanelPlan) -> None:
        self._file = file
        self._entry = entry
        self._plan = plan
        self._columns = {
            spec.path: GrowingColumn(entry[spec.path]) for spec in STEP_COLUMNS if spec.path in entry
        }
        self._coercion_step = GrowingColumn(entry["coercions/step"])
        self._coercion_text = GrowingColumn(entry["coercions/text"])
        self._coercions = 0
        self._done: h5py.Dataset = entry["steps/done"]
        self._last_x: FloatArray | None = None
        self.steps_done = 0
        self.finished = False

    @property
    def plan(self) -> PanelPlan:
        """What this panel was made for."""
        return self._plan

    def step(self, record: StepRecord) -> int:
        """Append one step and flush it; returns the number of steps now safe in the file.

        RunLogError names a field of wrong shape, or says that the disk is full.
        """
        began = time.perf_counter()
        index = self.steps_done
        rows = self._rows(index, record)
        # First all that leaves the interpreter to a settle that runs meanwhile, then the file.
        packed = [(column, column.pack(rows[path])) for path, column in self._columns.items() if path in rows]
        with self._file.writing(f"step {index + 1}", index):
            for column, row in packed:
                column.write_packed(index, row)
            for coercion in record.coercions:
                self._coercion_step.write(self._coercions, index + 1)
                self._coercion_text.write(self._coercions, clip_text(str(coercion), COERCION_BYTES))
                self._coercions += 1
            self._file.flush()
            # Only now is the step declared done: a reader that sees the count sees the rows.
            self._columns["ledger/host/log_s"].write(index, time.perf_counter() - began)
            self._done[()] = index + 1
            self._file.flush()
        self._last_x = np.asarray(record.x)
        self.steps_done = index + 1
        return self.steps_done

    def frame_shown(self, checksum: str) -> None:
        """Record the checksum of the frame that the modulator shows."""
        if "program" not in self._entry:
            raise RunLogError(f"{self._file.path}: a frame checksum needs a program in the plan")
        with self._file.writing("the frame checksum"):
            self._entry["program/frame_checksum"][()] = clip_text(checksum, CHECKSUM_BYTES)

    def finish(
        self,
        samples: ArrayLike,
        metrics: Mapping[str, Scalar] | None = None,
        *,
        pictures: NDArray[np.uint8] | None = None,
        step_pictures: NDArray[np.uint8] | None = None,
        labels: IntArray | None = None,
        judged: IntArray | None = None,
    ) -> None:
        """Write the samples [B, d] in own units, their pictures as planned, and what was measured on them.

        `judged` [B] is the class that the judge sees in each picture, where a class was asked for.
        """
        with self._file.writing("the samples", self.steps_done):
            if step_pictures is not None:
                if self._plan.step_pictures is None:
                    raise RunLogError(f"{self._file.path}: step pictures were not in the plan of this run")
                self._file.check_shape("step pictures", step_pictures, self._plan.step_pictures)
                self._entry["samples/step_pictures"][...] = step_pictures
            if judged is not None:
                if "judged" not in self._entry["samples"]:
                    raise RunLogError(f"{self._file.path}: judged needs pictures and labels in the plan")
                self._file.check_shape("judged", judged, (self._plan.n_samples,))
                self._entry["samples/judged"][...] = judged
            self._write_samples(np.asarray(samples, dtype=np.float64), pictures, labels, finished=True)
            write_metrics(self._entry["metrics"], metrics or {})
            self._file.flush()
        self.finished = True

    def keep_unfinished(self) -> None:
        """Where a chain was cut short, keep its last iterate as samples, marked unfinished."""
        if not self.finished and self._last_x is not None:
            last = in_own_units(self._entry["steps"], self._last_x)
            self._write_samples(last, None, None, finished=False)

    def _write_samples(
        self,
        samples: FloatArray,
        pictures: NDArray[np.uint8] | None,
        labels: IntArray | None,
        *,
        finished: bool,
    ) -> None:
        group = self._entry["samples"]
        self._file.check_shape("samples", samples, (self._plan.n_samples, self._plan.d))
        group["x"][...] = samples
        if labels is None:
            labels = self._plan.labels
        if labels is not None:
            self._file.check_shape("labels", labels, (self._plan.n_samples,))
            group["labels"][...] = labels
        if pictures is not None:
            if self._plan.pictures is None:
                raise RunLogError(f"{self._file.path}: pictures were not in the plan of this run")
            self._file.check_shape("pictures", pictures, self._plan.pictures)
            group["pictures"][...] = pictures
        fill_density(self._entry)
        group["finished"][()] = int(finished)

    def _rows(self, index: int, record: StepRecord) -> dict[str, Any]:
        """Every per-step value by its path in the file; None where the step has none."""
        ledger = record.ledger
        rows: dict[str, Any] = {
            "steps/step": index + 1,
            "steps/kind": clip_text(record.kind, KIND_BYTES),
            "steps/sigma": record.sigma,
            "steps/sigma_next": record.sigma_next,
            "steps/x": record.x,
            "steps/injection": record.injection,
            "steps/injection_codes": record.injection_codes,
            "steps/state": record.state,
            "steps/outcome": record.outcome,
            "steps/step_norm": record.step_norm,
            "steps/residual_norm": record.residual_norm,
            "steps/iterations": record.iterations,
            "steps/settle_time_us": record.settle_time_us,
            "steps/transient": record.transient,
            "steps/locking_load": record.locking_load,
            "steps/locking_distance_rad": record.locking_distance_rad,
            "steps/slowest_rate": record.slowest_rate,
            "outcomes/step": index + 1,
            "outcomes/count": _count(record.outcome),
            "ledger/nfe": ledger.nfe,
            "ledger/host_macs": ledger.host_macs,
            "ledger/machine_macs": ledger.machine_macs,
            "ledger/host/engine_s": ledger.engine_s,
            "ledger/host/sampling_s": ledger.sampling_s,
        }
        for clock, spent in (("modelled", ledger.modelled), ("measured", ledger.measured)):
            for part in fields(DeviceTime):
                rows[f"ledger/{clock}/{part.name}"] = None if spent is None else getattr(spent, part.name)
        for path, row in rows.items():
            what = f"step {index + 1}: {path.split('/')[-1]}"
            column = self._columns.get(path)
            if row is None:
                continue
            if column is None:
                lacking = "names no audit samples" if path in _AUDITED else "is of nothing that anchors hold"
                raise RunLogError(f"{self._file.path}: {what} was not planned: the plan {lacking}")
            if column.row_shape:
                self._file.check_shape(what, row, column.row_shape)
        return rows


def write_metrics(group: h5py.Group, metrics: Mapping[str, Scalar]) -> None:
    """Append metrics to a table made by `add_metrics`: numbers as value, anything as text."""
    columns = {name: GrowingColumn(group[name]) for name in ("name", "value", "text")}
    start = group["name"].shape[0]
    for index, (name, value) in enumerate(metrics.items(), start):
        plain = value.item() if isinstance(value, np.generic) else value
        number = float(plain) if isinstance(plain, int | float) else float("nan")
        columns["name"].write(index, clip_text(name, METRIC_NAME_BYTES))
        columns["value"].write(index, number)
        columns["text"].write(index, clip_text(str(plain), METRIC_TEXT_BYTES))


def _count(outcome: IntArray | None) -> NDArray[np.int32] | None:
    if outcome is None:
        return None
    values = np.asarray(outcome, dtype=np.int64).ravel()
    if values.size and not 0 <= values.min() <= values.max() < len(Outcome):
        raise RunLogError(
            f"outcome: values {values.min()}..{values.max()}; allowed are 0..{len(Outcome) - 1} (Outcome)"
        )
    return np.bincount(values, minlength=len(Outcome)).astype(np.int32)
