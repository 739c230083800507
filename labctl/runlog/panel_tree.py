"""The groups of one chain of steps: per-step columns, program, samples, ledger."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labctl.devices import Outcome, RunLogError
from labctl.runlog.columns import create_growing, text_type
from labctl.runlog.controls import write_controls
from labctl.runlog.nexus import PACKED, add_array, add_attributes, add_group, add_settings, add_text_slot
from labctl.runlog.oscillators import write_oscillators
from labctl.runlog.records import MatrixRecord, OscillatorRecord, PanelPlan, ProgramRecord, SegmentTables

NO_OUTCOME = 255
NO_CODE = -32768
NOT_MEASURED = -1
KIND_BYTES = 16
CHECKSUM_BYTES = 160
COERCION_BYTES = 240

_NAN = float("nan")
_F8, _F4, _I8, _I4, _I2, _U1 = (np.dtype(code) for code in ("<f8", "<f4", "<i8", "<i4", "<i2", "u1"))


@dataclass(frozen=True)
class ColumnSpec:
    """One per-step dataset: where, the named dimensions of a row, and what the number means."""

    path: str
    row: tuple[str, ...]
    dtype: np.dtype[Any]
    fill: Any
    units: str
    meaning: str


STEP_COLUMNS = (
    ColumnSpec("steps/step", (), _I4, 0, "", "number of the step, from 1"),
    ColumnSpec("steps/kind", (), text_type(KIND_BYTES), b"", "", "implicit: a settle; evaluate: F read once"),
    ColumnSpec("steps/sigma", (), _F8, _NAN, "", "noise level before the step"),
    ColumnSpec("steps/sigma_next", (), _F8, _NAN, "", "noise level after the step"),
    ColumnSpec("steps/x", ("sample", "d"), _F8, _NAN, "", "samples after the step, as the chain holds them"),
    ColumnSpec("steps/injection", ("sample", "d"), _F8, _NAN, "", "injection c as asked, network units"),
    ColumnSpec("steps/injection_codes", ("sample", "d"), _I2, NO_CODE, "", "bias DAC codes of the injection"),
    ColumnSpec("steps/state", ("sample", "row"), _F4, _NAN, "", "state z as read, network units"),
    ColumnSpec("steps/outcome", ("sample",), _U1, NO_OUTCOME, "", "outcome of each sample; see attributes"),
    ColumnSpec("steps/step_norm", ("sample",), _F4, _NAN, "", "largest last change of the watched rows"),
    ColumnSpec("steps/residual_norm", ("sample",), _F4, _NAN, "", "largest |F(z) - z| of the watched rows"),
    ColumnSpec(
        "steps/iterations", ("sample",), _I4, NOT_MEASURED, "", "iterations of a digital engine; -1: none"
    ),
    ColumnSpec(
        "steps/settle_time_us", ("audit",), _F4, NOT_MEASURED, "us", "NaN: unsettled; -1: not measured"
    ),
    ColumnSpec("steps/transient", ("audit",), _F4, _NAN, "", "leftover transient in the window's mean"),
    ColumnSpec("steps/locking_load", ("held",), _F4, _NAN, "", "share of an anchor used up; up to 1: held"),
    ColumnSpec("steps/locking_distance_rad", ("held",), _F4, _NAN, "rad", "inside the locking bound"),
    ColumnSpec("steps/slowest_rate", ("held",), _F4, _NAN, "", "smallest eigenvalue of the Hessian, 1/unit"),
    ColumnSpec("outcomes/step", (), _I4, 0, "", "number of the step, from 1"),
    ColumnSpec("outcomes/count", ("outcome",), _I4, 0, "", "samples with each outcome"),
    ColumnSpec("ledger/nfe", (), _I8, 0, "", "network evaluations; a settle counts as one"),
    ColumnSpec("ledger/host_macs", (), _I8, 0, "", "multiply-adds done by the host"),
    ColumnSpec("ledger/machine_macs", (), _I8, 0, "", "multiply-adds done by the machine"),
    *(
        ColumnSpec(f"ledger/{clock}/{part}_us", (), _F8, _NAN, "us", f"{part}, {clock} device time")
        for clock in ("modelled", "measured")
        for part in ("upload", "settle", "wait", "window", "read")
    ),
    *(
        ColumnSpec(f"ledger/host/{part}_s", (), _F8, _NAN, "s", f"{part}, wall clock of the host")
        for part in ("engine", "sampling", "log")
    ),
)

_LEDGER_MEANING = {
    "modelled": "device time by the time profile, us for the step's whole queue; settle lies inside wait",
    "measured": "device time by a real machine's own clock, us for the step's whole queue; NaN on twins",
    "host": "measured wall clock of the host, s",
}


def dimensions(panel: PanelPlan) -> dict[str, int]:
    """Sizes of the named dimensions of a panel's columns."""
    return {
        "sample": panel.n_samples,
        "d": panel.d,
        "row": panel.n_channels,
        "audit": 0 if panel.audit is None else int(panel.audit.size),
        "held": panel.n_samples if panel.anchored else 0,
        "outcome": len(Outcome),
    }


def planned_bytes(panel: PanelPlan) -> int:
    """Upper bound of what a panel will take on disk: every row unpacked, and the samples."""
    sizes = dimensions(panel)
    row = sum(
        spec.dtype.itemsize * int(np.prod([sizes[name] for name in spec.row], dtype=np.int64))
        for spec in STEP_COLUMNS
    )
    pictures = int(np.prod(panel.pictures, dtype=np.int64)) if panel.pictures else 0
    return panel.n_steps * row + panel.n_samples * (panel.d * 16 + 16) + pictures


def check_panel(panel: PanelPlan) -> None:
    """Refuse sizes that make no sense."""
    where = f"run plan: panel {panel.name!r}: " if panel.name else "run plan: "
    if "/" in panel.name or panel.name == ".":
        raise RunLogError(f"{where}a panel's name may not contain '/'")
    for field in ("n_steps", "n_samples", "d", "n_channels"):
        if getattr(panel, field) < 1:
            raise RunLogError(f"{where}{field} = {getattr(panel, field)}; it must be 1 or more")
    if panel.audit is not None and panel.audit.size:
        low, high = int(panel.audit.min()), int(panel.audit.max())
        if low < 0 or high >= panel.n_samples:
            raise RunLogError(f"{where}audit samples {low}..{high}; allowed are 0..{panel.n_samples - 1}")


def write_panel(entry: h5py.Group, panel: PanelPlan) -> None:
    """Create the groups of one panel inside an NXentry or NXsubentry."""
    sizes = dimensions(panel)
    steps = add_group(entry, "steps", "NXcollection")
    outcomes = add_group(entry, "outcomes", "NXdata", signal="count", axes=["step", "outcome"])
    outcomes["title"] = "Outcomes per step"
    outcomes["outcome"] = np.arange(len(Outcome), dtype="<i4")
    ledger = add_group(entry, "ledger", "NXcollection")
    for name, meaning in _LEDGER_MEANING.items():
        add_group(ledger, name, "NXcollection", meaning=meaning)
    for spec in STEP_COLUMNS:
        if any(not sizes[name] for name in spec.row):
            continue
        dataset = create_growing(entry, spec.path, [sizes[name] for name in spec.row], spec.dtype, spec.fill)
        add_attributes(dataset, {"units": spec.units, "long_name": spec.meaning})
    names = {outcome.name: int(outcome) for outcome in Outcome}
    add_attributes(outcomes["outcome"], names)
    add_attributes(steps["outcome"], {**names, "NONE": NO_OUTCOME})
    steps["planned"] = np.int32(panel.n_steps)
    steps.create_dataset("done", data=np.int32(0))
    steps["done"].attrs["long_name"] = "steps wholly in the file; rows beyond may be incomplete"
    if panel.x_start is not None:
        add_array(steps, "x_start", panel.x_start, (panel.n_samples, panel.d))
    if panel.labels is not None:
        add_array(steps, "labels", np.asarray(panel.labels, dtype=_I4), (panel.n_samples,))
    if panel.own_mean is not None and panel.own_std is not None:
        add_array(steps, "own_mean", np.asarray(panel.own_mean, dtype=_F8), (panel.d,))
        add_array(steps, "own_std", np.asarray(panel.own_std, dtype=_F8), (panel.d,))
    if panel.audit is not None and panel.audit.size:
        steps["audit"] = np.asarray(panel.audit, dtype=_I8)
        _link_settling(entry, steps)
    coercions = add_group(entry, "coercions", "NXcollection")
    create_growing(coercions, "step", (), _I4, 0)
    create_growing(coercions, "text", (), text_type(COERCION_BYTES), b"")
    if isinstance(panel.program, OscillatorRecord):
        write_oscillators(entry, panel.program, panel.n_channels)
    elif panel.program is not None:
        _write_program(entry, panel.program, panel.n_channels)
    _write_samples(entry, panel)
    _write_reference(entry, panel)
    write_controls(entry, panel.controls)
    add_settings(entry, "settings", panel.settings)
    add_settings(entry, "forecast", panel.forecast)


def in_own_units(steps: h5py.Group, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Iterates [..., d] of a chain in the data's own units."""
    if "own_std" not in steps:
        return x
    return np.asarray(x * steps["own_std"][...] + steps["own_mean"][...])


def density_bins(n_samples: int) -> int:
    """Bins per axis of the density picture: about one point a bin were they spread evenly."""
    return int(np.clip(round(1.2 * n_samples**0.5), 24, 128))


def _link_settling(entry: h5py.Group, steps: h5py.Group) -> None:
    settling = add_group(entry, "settling", "NXdata", signal="settle_time_us", axes=["step", "sample"])
    settling["title"] = "Settle time of the audited samples, per step"
    for name, target in (("settle_time_us", "settle_time_us"), ("step", "step"), ("sample", "audit")):
        settling[name] = steps[target]
        steps[target].attrs["target"] = steps[target].name


def _write_samples(entry: h5py.Group, panel: PanelPlan) -> None:
    group = add_group(entry, "samples", "NXdata")
    group["title"] = "Samples"
    _add_plot(group, panel, panel.pictures)
    group.create_dataset("x", shape=(panel.n_samples, panel.d), dtype=_F8, fillvalue=_NAN)
    group.create_dataset("labels", data=np.full(panel.n_samples, -1, dtype=_I4))
    if panel.pictures is not None and panel.labels is not None:
        group.create_dataset("judged", data=np.full(panel.n_samples, -1, dtype=_I4))
        group["judged"].attrs["long_name"] = "class that the judge sees in each picture; -1: not judged"
    if panel.step_pictures is not None:
        shape = panel.step_pictures
        group.create_dataset("step_pictures", shape=shape, dtype=_U1, chunks=(1, *shape[1:]), **PACKED)
        group["step_pictures"].attrs["long_name"] = "clean pictures as each step has them, one sample a class"
    group.create_dataset("finished", data=np.uint8(0))
    group["finished"].attrs["long_name"] = "1: the chain reached its end; 0: x is an unfinished iterate"


def _write_reference(entry: h5py.Group, panel: PanelPlan) -> None:
    points, pictures = panel.reference, panel.reference_pictures
    if points is None and pictures is None:
        return
    group = add_group(entry, "data", "NXdata")
    group["title"] = "Data to compare with"
    _add_plot(group, panel, None if pictures is None else pictures.shape)
    if pictures is not None:
        group["pictures"][...] = pictures
    if points is not None:
        add_array(group, "x", points, (points.shape[0], panel.d))
    if panel.reference_labels is not None:
        group["labels"] = np.asarray(panel.reference_labels, dtype=_I4)


def _add_plot(group: h5py.Group, panel: PanelPlan, pictures: tuple[int, ...] | None) -> None:
    """What a viewer shows for points: pictures if there are any, else a density of the first two axes."""
    if pictures is not None:
        if len(pictures) != 3:
            raise RunLogError(f"run plan: pictures have shape {pictures}; expected (count, height, width)")
        add_attributes(group, {"signal": "pictures", "axes": ["index", "row", "column"]})
        for axis, size in zip(("index", "row", "column"), pictures, strict=True):
            group[axis] = np.arange(size, dtype=_I4)
        group.create_dataset("pictures", shape=pictures, dtype=_U1, chunks=(1, *pictures[1:]), **PACKED)
        return
    axes = ["x1"] if panel.d == 1 else ["x2", "x1"]
    bins = density_bins(panel.n_samples)
    add_attributes(group, {"signal": "density", "axes": axes})
    group.create_dataset("density", data=np.zeros((bins,) * len(axes), dtype=_F4))
    group["density"].attrs["long_name"] = "points per bin"
    for axis in axes:
        group[axis] = np.linspace(-3.0, 3.0, bins)
        group[axis].attrs["long_name"] = f"{axis}, data units"


def _write_program(entry: h5py.Group, program: ProgramRecord, n: int) -> None:
    signal = "weights" if program.codes is None else "codes"
    group = add_group(entry, "program", "NXdata", signal=signal, axes=["output_row", "input_row"])
    group["title"] = "Weights as placed on the machine (row: output, column: input)"
    group["law"] = program.law
    group["output_row"] = np.arange(n, dtype=_I4)
    group["input_row"] = np.arange(n, dtype=_I4)
    _write_matrix(group, program, n)
    for number, matrix in enumerate(program.further, start=1):
        other = add_group(
            group, f"matrix_{number}", "NXdata", signal=signal, axes=["output_row", "input_row"]
        )
        for rows in ("output_row", "input_row"):
            other[rows] = group[rows]
        _write_matrix(other, matrix, n)
    if program.mask is not None:
        add_array(group, "mask", np.asarray(program.mask, dtype=_U1), (n, n))
    if program.bits is not None:
        group["bits"] = np.int32(program.bits)
    add_text_slot(group, "frame_checksum", CHECKSUM_BYTES, program.frame_checksum)
    if program.layers:
        group["layer_name"] = [layer.name for layer in program.layers]
        group["layer_start"] = np.array([layer.start for layer in program.layers], dtype=_I4)
        group["layer_stop"] = np.array([layer.stop for layer in program.layers], dtype=_I4)
    add_settings(group, "settings", program.settings)
    if program.segments is not None:
        _write_segments(group, program.segments, n)


def _write_matrix(group: h5py.Group, matrix: ProgramRecord | MatrixRecord, n: int) -> None:
    add_array(group, "weights", matrix.weights, (n, n))
    if matrix.codes is not None:
        add_array(group, "codes", np.asarray(matrix.codes, dtype=_I2), (n, n))
    if matrix.row_scale is not None:
        add_array(group, "row_scale", matrix.row_scale, (n,))


def _write_segments(program: h5py.Group, segments: SegmentTables, n: int) -> None:
    group = add_group(program, "segments", "NXcollection")
    count = len(segments.kind)
    group["kind"] = list(segments.kind)
    for field in fields(SegmentTables):
        value = getattr(segments, field.name)
        if field.name == "kind" or value is None:
            continue
        values: NDArray[Any] = np.asarray(value)
        if values.ndim < 1 or values.shape[0] != count or (values.ndim > 1 and values.shape[-1] != n):
            raise RunLogError(
                f"run plan: program.segments.{field.name} has shape {values.shape}; "
                f"the program has {count} segments and {n} rows"
            )
        group.create_dataset(field.name, data=values.astype(_I4 if values.dtype.kind in "iu" else _F8))
