"""Reads one chain of steps from a run file, up to the last step that is wholly in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labctl.devices import RunLogError, Scalar
from labctl.runlog.controls import read_controls
from labctl.runlog.nexus import decoded, fresh, read_metrics, read_settings
from labctl.runlog.oscillators import LAW as OSCILLATORS
from labctl.runlog.oscillators import read_oscillators
from labctl.runlog.panel_tree import NO_CODE, NO_OUTCOME, NOT_MEASURED, in_own_units
from labctl.runlog.records import (
    ControlRecord,
    FloatArray,
    IntArray,
    LayerSlice,
    MatrixRecord,
    OscillatorRecord,
    ProgramRecord,
    SegmentTables,
)

_PARTS = ("upload", "settle", "wait", "window", "read")


@dataclass(frozen=True)
class LedgerTable:
    """Cost per step [K]. modelled_us and measured_us: part -> us over the queue, NaN where there is none.

    Parts are upload, settle (inside wait), wait, window, read. host_s: engine, sampling, log -> seconds of
    wall clock.
    """

    modelled_us: dict[str, FloatArray]
    measured_us: dict[str, FloatArray]
    host_s: dict[str, FloatArray]
    nfe: IntArray
    host_macs: IntArray
    machine_macs: IntArray

    def modelled_total_us(self) -> float:
        """Modelled device time of all steps: upload, wait, window and read; NaN where nothing is modelled."""
        return _total(self.modelled_us)

    def measured_total_us(self) -> float:
        """Measured device time of all steps; NaN where no machine has a clock."""
        return _total(self.measured_us)

    def host_total_s(self) -> float:
        """Wall clock of the host over all steps."""
        return float(sum(np.nansum(values) for values in self.host_s.values()))


class PanelReader:
    """One chain. Arrays of every step are [K, ...] with K = n_steps, the steps that are wholly there."""

    def __init__(self, entry: h5py.Group, name: str) -> None:
        self.name = name
        self._entry = entry
        self._steps: h5py.Group = entry["steps"]
        self.n_steps_planned = int(self._steps["planned"][()])
        self.n_samples, self.d = (int(size) for size in entry["samples/x"].shape)
        self.n_channels = int(self._steps["state"].shape[2])
        self.n_steps = 0
        self.refresh()

    def refresh(self) -> None:
        """Count the steps anew (a run may be writing them)."""
        self.n_steps = int(fresh(self._steps["done"])[()])

    @property
    def title(self) -> str:
        """The panel's title."""
        return decoded(self._entry["title"][()])

    @property
    def settings(self) -> dict[str, Scalar]:
        """What this panel was made with, as far as it differs from the header."""
        return read_settings(self._entry)

    @property
    def forecast(self) -> dict[str, Scalar]:
        """What was expected of its quality before the first step; empty where nobody asked."""
        return read_settings(self._entry, "forecast")

    # Per step ------------------------------------------------------------------------------------------

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of every step."""
        return tuple(decoded(kind) for kind in self._column("steps/kind"))

    @property
    def sigma(self) -> FloatArray:
        """Noise level before every step [K]."""
        return self._column("steps/sigma")

    @property
    def sigma_next(self) -> FloatArray:
        """Noise level after every step [K]."""
        return self._column("steps/sigma_next")

    @property
    def x_start(self) -> FloatArray | None:
        """The samples before the first step [B, d]."""
        return np.asarray(self._steps["x_start"][...]) if "x_start" in self._steps else None

    @property
    def labels(self) -> IntArray | None:
        """The class asked for, per sample [B]."""
        return np.asarray(self._steps["labels"][...]) if "labels" in self._steps else None

    @property
    def audit(self) -> IntArray:
        """The samples whose settle time is recorded [A]."""
        if "audit" not in self._steps:
            return np.zeros(0, dtype=np.int64)
        return np.asarray(self._steps["audit"][...])

    def x(self, step: int) -> FloatArray:
        """Samples after one step [B, d]; steps count from 0, negative ones from the end."""
        return self._row("steps/x", step)

    def injection(self, step: int) -> FloatArray:
        """Injection of one step [B, d], NaN where there was none."""
        return self._row("steps/injection", step)

    def injection_codes(self, step: int) -> IntArray | None:
        """DAC codes of one step's injection [B, d]; None where there were none."""
        codes: IntArray = self._row("steps/injection_codes", step)
        return None if (codes == NO_CODE).all() else codes

    def state(self, step: int) -> NDArray[np.float32]:
        """State as read in one step [B, n], NaN where none was read."""
        return self._row("steps/state", step)

    def outcome(self, step: int) -> NDArray[np.uint8] | None:
        """Outcome of every sample in one step [B]; None where the step had none."""
        outcome: NDArray[np.uint8] = self._row("steps/outcome", step)
        return None if (outcome == NO_OUTCOME).all() else outcome

    @property
    def outcome_counts(self) -> IntArray:
        """Samples per step and outcome [K, 7]."""
        return self._column("outcomes/count")

    @property
    def step_norm(self) -> NDArray[np.float32]:
        """Largest last change of the watched rows per step and sample [K, B], network units."""
        return self._column("steps/step_norm")

    @property
    def residual_norm(self) -> NDArray[np.float32]:
        """Largest |F(z) - z| of the watched rows per step and sample [K, B], network units.

        On oscillators the root mean square of dtheta/dt, rad per unit of time.
        """
        return self._column("steps/residual_norm")

    @property
    def iterations(self) -> NDArray[np.int32]:
        """Iterations of a digital engine per step and sample [K, B]; -1 where there were none."""
        return self._column("steps/iterations")

    @property
    def settle_measured(self) -> NDArray[np.bool_]:
        """Whether settle times were measured, per step [K]."""
        return np.asarray((self._audited("settle_time_us") != NOT_MEASURED).any(axis=1))

    @property
    def settle_time_us(self) -> NDArray[np.float32]:
        """Settle time per step and audited sample [K, A]; NaN where it did not settle or was not measured."""
        times = self._audited("settle_time_us")
        return np.where(times == NOT_MEASURED, np.float32(np.nan), times)

    @property
    def transient(self) -> NDArray[np.float32]:
        """Leftover transient in the window's mean per step and audited sample [K, A], network units."""
        return self._audited("transient")

    @property
    def anchored(self) -> bool:
        """Whether its steps are equilibria of oscillators that anchors hold."""
        return bool(self.locking_load.size)

    @property
    def locking_load(self) -> NDArray[np.float32]:
        """Largest share of an anchor's strength that other forces can use up, per step and sample [K, B].

        [K, 0] for what is not held by anchors; so are the next two.
        """
        return self._audited("locking_load")

    @property
    def locking_distance_rad(self) -> NDArray[np.float32]:
        """How far inside the locking bound the phases are, per step and sample [K, B]; NaN beyond."""
        return self._audited("locking_distance_rad")

    @property
    def slowest_rate(self) -> NDArray[np.float32]:
        """Smallest eigenvalue of the Hessian's symmetric part, per step and sample [K, B], 1/unit."""
        return self._audited("slowest_rate")

    @property
    def ledger(self) -> LedgerTable:
        """Cost of every step."""
        return LedgerTable(
            modelled_us={part: self._column(f"ledger/modelled/{part}_us") for part in _PARTS},
            measured_us={part: self._column(f"ledger/measured/{part}_us") for part in _PARTS},
            host_s={part: self._column(f"ledger/host/{part}_s") for part in ("engine", "sampling", "log")},
            nfe=self._column("ledger/nfe"),
            host_macs=self._column("ledger/host_macs"),
            machine_macs=self._column("ledger/machine_macs"),
        )

    @property
    def coercions(self) -> tuple[tuple[int, str], ...]:
        """What a device or quantiser applied differently from what was asked: (step from 1, text)."""
        steps, texts = (fresh(self._entry["coercions"][name])[...] for name in ("step", "text"))
        return tuple(
            (int(step), decoded(text))
            for step, text in zip(steps, texts, strict=False)
            if step <= self.n_steps
        )

    # At the end ----------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether `samples` came from the whole chain."""
        return bool(fresh(self._entry["samples/finished"])[()])

    @property
    def samples(self) -> FloatArray | None:
        """The samples [B, d] in own units: final ones, else the last iterate; None before the first step."""
        stored = np.asarray(fresh(self._entry["samples/x"])[...])
        if np.isfinite(stored).any() or self.finished:
            return stored
        return self.in_own_units(self.x(-1)) if self.n_steps else None

    def in_own_units(self, x: FloatArray) -> FloatArray:
        """Iterates [..., d] as the chain holds them, in the data's own units."""
        return in_own_units(self._steps, x)

    @property
    def sample_labels(self) -> IntArray | None:
        """Class of every sample [B]; None where there are no classes."""
        labels: IntArray = np.asarray(fresh(self._entry["samples/labels"])[...])
        return None if (labels < 0).all() else labels

    @property
    def judged(self) -> IntArray | None:
        """Class that the judge sees in each sample's picture [B]; None where none looked."""
        if "judged" not in self._entry["samples"] or not self.finished:
            return None
        judged: IntArray = np.asarray(fresh(self._entry["samples/judged"])[...])
        return None if (judged < 0).all() else judged

    @property
    def pictures(self) -> NDArray[np.uint8] | None:
        """Pictures of the samples [P, height, width]; None where none were made."""
        if "pictures" not in self._entry["samples"] or not self.finished:
            return None
        return np.asarray(fresh(self._entry["samples/pictures"])[...])

    @property
    def step_pictures(self) -> NDArray[np.uint8] | None:
        """What each step takes the clean pictures to be [steps, some samples, h, w]; None where not kept."""
        if "step_pictures" not in self._entry["samples"] or not self.finished:
            return None
        return np.asarray(fresh(self._entry["samples/step_pictures"])[...])

    @property
    def reference(self) -> FloatArray | None:
        """Data to compare with [M, d]."""
        return self._reference("x")

    @property
    def reference_labels(self) -> IntArray | None:
        """Classes of the data to compare with [M]."""
        return self._reference("labels")

    @property
    def reference_pictures(self) -> NDArray[np.uint8] | None:
        """Pictures to compare with [P, height, width]."""
        return self._reference("pictures")

    @property
    def controls(self) -> tuple[ControlRecord, ...]:
        """What else makes such pictures."""
        return read_controls(self._entry)

    @property
    def metrics(self) -> dict[str, Scalar]:
        """What was measured on this panel."""
        return read_metrics(self._entry)

    @property
    def program(self) -> ProgramRecord | OscillatorRecord | None:
        """The program as placed on the machine; None where the run had none."""
        if "program" not in self._entry:
            return None
        group = self._entry["program"]
        if decoded(group["law"][()]) == OSCILLATORS:
            return read_oscillators(group)
        mask = _optional(group, "mask")
        layers = []
        if "layer_name" in group:
            rows = zip(group["layer_name"], group["layer_start"], group["layer_stop"], strict=True)
            layers = [LayerSlice(decoded(name), int(start), int(stop)) for name, start, stop in rows]
        return ProgramRecord(
            weights=np.asarray(group["weights"][...]),
            layers=tuple(layers),
            segments=_segments(group),
            codes=_optional(group, "codes"),
            row_scale=_optional(group, "row_scale"),
            bits=int(group["bits"][()]) if "bits" in group else None,
            mask=None if mask is None else mask.astype(np.bool_),
            frame_checksum=decoded(fresh(group["frame_checksum"])[()]),
            further=tuple(_further(group)),
            settings=read_settings(group),
            law=decoded(group["law"][()]),
        )

    def _reference(self, name: str) -> NDArray[Any] | None:
        if "data" not in self._entry:
            return None
        return _optional(self._entry["data"], name)

    def _audited(self, name: str) -> NDArray[Any]:
        if name not in self._steps:
            return np.zeros((self.n_steps, 0), dtype=np.float32)
        return self._column(f"steps/{name}")

    def _column(self, path: str) -> NDArray[Any]:
        return np.asarray(fresh(self._entry[path])[: self.n_steps])

    def _row(self, path: str, step: int) -> NDArray[Any]:
        index = step + self.n_steps if step < 0 else step
        if not 0 <= index < self.n_steps:
            raise RunLogError(f"step {step} asked for; the file has {self.n_steps} whole steps")
        return np.asarray(fresh(self._entry[path])[index])


def _further(program: h5py.Group) -> Iterator[MatrixRecord]:
    number = 1
    while (name := f"matrix_{number}") in program:
        group = program[name]
        weights = np.asarray(group["weights"][...])
        yield MatrixRecord(weights, _optional(group, "codes"), _optional(group, "row_scale"))
        number += 1


def _segments(program: h5py.Group) -> SegmentTables | None:
    if "segments" not in program:
        return None
    group = program["segments"]
    tables: dict[str, Any] = {field.name: _optional(group, field.name) for field in fields(SegmentTables)}
    tables["kind"] = tuple(decoded(kind) for kind in group["kind"])
    return SegmentTables(**tables)


def _optional(group: h5py.Group, name: str) -> NDArray[Any] | None:
    return np.asarray(group[name][...]) if name in group else None


def _total(parts: dict[str, FloatArray]) -> float:
    columns = np.stack([parts[part] for part in ("upload", "wait", "window", "read")])
    return float(np.nansum(columns)) if np.isfinite(columns).any() else float("nan")
