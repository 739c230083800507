"""A program of coupled oscillators in a run file: edges, codes and scales, segment by segment."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labctl.devices import RunLogError
from labctl.runlog.nexus import add_array, add_group, add_settings, decoded, read_settings
from labctl.runlog.records import OscillatorRecord

LAW = "oscillator"
NODE_TABLES = ("in_phase", "quadrature", "second", "detuning")
_I4, _I2 = np.dtype("<i4"), np.dtype("<i2")


def write_oscillators(entry: h5py.Group, record: OscillatorRecord, n: int) -> None:
    """Create the group `program` of a panel on n oscillators."""
    group = add_group(entry, "program", "NXdata", signal="coupling_codes", axes=["segment", "edge"])
    group["title"] = "Coupling codes, segment by segment (edge: which oscillator hears which)"
    group["law"] = LAW
    segments, edges = len(record.duration_us), len(record.target)
    group["segment"] = np.arange(1, segments + 1, dtype=_I4)
    group["edge"] = np.arange(edges, dtype=_I4)
    for name in ("target", "source"):
        values = _integers(f"program.{name}", getattr(record, name), (edges,), 0, n - 1)
        add_array(group, name, values.astype(_I4), (edges,))
    add_array(group, "coupling_codes", np.asarray(record.coupling_codes, _I2), (segments, edges))
    for name in NODE_TABLES:
        add_array(group, f"{name}_codes", np.asarray(getattr(record, f"{name}_codes"), _I2), (segments, n))
    for name in ("start_phase", "start_amplitude"):
        add_array(group, f"{name}_codes", np.asarray(getattr(record, f"{name}_codes"), _I4), (n,))
    add_array(group, "scale", record.scale, (segments,))
    group["scale"].attrs["long_name"] = "coupling at full scale, units of the coupling rate"
    add_array(group, "duration_us", record.duration_us, (segments,))
    group["duration_us"].attrs["units"] = "us"
    visible = np.asarray(record.visible)
    add_array(group, "visible", _integers("program.visible", visible, visible.shape, 0, n - 1), visible.shape)
    if record.sites is not None:
        add_array(group, "sites", record.sites, (n, 2))
        group["sites"].attrs["long_name"] = "row and column of each oscillator, steps of the grid"
    group["bits"] = np.int32(record.bits)
    group["pixel_map"] = record.pixel_map
    add_settings(group, "settings", record.settings)


def read_oscillators(group: h5py.Group) -> OscillatorRecord:
    """The program of a panel whose law is that of oscillators."""

    def table(name: str) -> NDArray[Any]:
        return np.asarray(group[name][...])

    return OscillatorRecord(
        target=table("target"),
        source=table("source"),
        coupling_codes=table("coupling_codes"),
        scale=table("scale"),
        bits=int(group["bits"][()]),
        in_phase_codes=table("in_phase_codes"),
        quadrature_codes=table("quadrature_codes"),
        second_codes=table("second_codes"),
        detuning_codes=table("detuning_codes"),
        start_phase_codes=table("start_phase_codes"),
        start_amplitude_codes=table("start_amplitude_codes"),
        duration_us=table("duration_us"),
        visible=table("visible"),
        pixel_map=decoded(group["pixel_map"][()]),
        sites=table("sites") if "sites" in group else None,
        settings=read_settings(group),
    )


def _integers(what: str, values: Any, shape: tuple[int, ...], low: int, high: int) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise RunLogError(
            f"run plan: {what} is {array.dtype} of shape {array.shape}; expected integers {shape}"
        )
    if array.size and not low <= int(array.min()) <= int(array.max()) <= high:
        raise RunLogError(
            f"run plan: {what} runs from {array.min()} to {array.max()}; allowed: {low} to {high}"
        )
    return array
