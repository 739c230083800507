"""Weights to light levels: a signed fraction becomes a cell of pixels on one of two sign paths.

The encoder knows only the calibration record (panel response, registration); the optics of a twin decode
the displayed frame by their own equations, so that an error here cannot cancel.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, ModulatorSpec, ProgramError, Wiring
from labctl.programs.area_encoding import encode_area
from labctl.programs.encoded_frame import MIN_CELL_PX, EncodedFrame
from labctl.programs.grating import encode_gratings
from labctl.programs.measured_encoding import encode_measured

FloatArray = NDArray[np.float64]


def encode_frame(fractions: FloatArray, spec: ModulatorSpec, record: CalibrationRecord) -> EncodedFrame:
    """Signed fractions [n, n] in -1 .. 1 to a frame of cells; output rows run down, input columns across, or
    where the record's wiring has them. Mirrors get area patterns (`encode_area`), phase-only panels gratings
    (`encode_gratings`).

    The record gives `panel_transmittance` [n_levels] (0 .. 1), `path_origin_px` [2, 2] (top, left of the
    positive and negative field) and `cell_px` [2] (height, width); one that holds `span_units` was measured:
    `encode_measured` does the work. Raises ProgramError for cells under 10 x 10 pixels, a matrix that does
    not fit the panel, or fractions outside -1 .. 1.
    """
    wiring = Wiring.of(record.arrays)
    if wiring is None:
        return _encode_cells(fractions, spec, record)
    encoded = _encode_cells(wiring.cells(fractions), spec, record)
    return replace(encoded, realised=wiring.weights(encoded.realised))


def by_cell(record: CalibrationRecord) -> CalibrationRecord:
    """The panel's record without its wiring: frames by it have the panel's own rows, columns and signs."""
    return replace(record, arrays={k: v for k, v in record.arrays.items() if k not in Wiring.ARRAYS})


def _encode_cells(fractions: FloatArray, spec: ModulatorSpec, record: CalibrationRecord) -> EncodedFrame:
    n = len(fractions)
    if not np.isfinite(fractions).all() or np.abs(fractions).max() > 1 + 1e-12:
        raise ProgramError(
            f"a weight fraction is {fractions.flat[int(np.argmax(np.abs(fractions)))]}; allowed: -1 to 1"
        )
    if "span_units" in record.arrays:
        return encode_measured(fractions, spec, record)
    cell_height, cell_width = (int(v) for v in record.array("cell_px"))
    if min(cell_height, cell_width) < MIN_CELL_PX:
        raise ProgramError(
            f"cells of {cell_height} x {cell_width} pixels; allowed: at least {MIN_CELL_PX} x {MIN_CELL_PX}"
        )
    for top, left in record.array("path_origin_px").astype(int):
        if (
            top < 0
            or left < 0
            or top + n * cell_height > spec.shape_px[0]
            or left + n * cell_width > spec.shape_px[1]
        ):
            raise ProgramError(
                f"a {n} x {n} matrix of {cell_height} x {cell_width} px cells exceeds the panel"
            )
    if spec.kind == "dmd":
        return encode_area(fractions, spec, record)
    if spec.kind == "lcos-phase":
        return encode_gratings(fractions, spec, record)
    transmittance = record.array("panel_transmittance")
    order = np.argsort(transmittance, kind="stable")
    ordered = transmittance[order]
    frame = np.zeros(spec.shape_px, np.uint16)
    realised = np.zeros((n, n))
    for sign, (top, left) in zip((1.0, -1.0), record.array("path_origin_px").astype(int), strict=True):
        want = np.maximum(sign * fractions, 0.0)
        right = np.clip(np.searchsorted(ordered, want), 1, len(ordered) - 1)
        nearest = np.where(want - ordered[right - 1] <= ordered[right] - want, right - 1, right)
        levels = order[nearest].astype(np.uint16)
        cells = levels.repeat(cell_height, axis=0).repeat(cell_width, axis=1)
        frame[top : top + n * cell_height, left : left + n * cell_width] = cells
        realised += sign * ordered[nearest]
    return EncodedFrame(frame, realised)
