"""Weights to light levels on a panel that was measured: each pixel by where the optics have the cells, each
cell by its own response.

A cell's two planes give zero + span_pos s_pos(level) - span_neg s_neg(level) of their own; neighbouring
cells' light spills in, and each output's detectors see a little of their neighbours'. Levels are chosen so
that what is seen is fraction x full_scale, zeros included: where the planes leak differently, or a
neighbouring weight is seen, the other plane gets the little light that balances it. The plane that carries a
weight takes the next brighter level, the other one takes what is too much off again: near dark its levels are
much finer.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, Coercion, ModulatorSpec, ProgramError
from labctl.programs.cell_map import CellMap
from labctl.programs.encoded_frame import MIN_CELL_PX, EncodedFrame
from labctl.programs.spill import spill_of

FloatArray = NDArray[np.float64]
PASSES = 8
SHORT = 0.01  # of full scale: what a cell may lack before it counts as clipped


def encode_measured(fractions: FloatArray, spec: ModulatorSpec, record: CalibrationRecord) -> EncodedFrame:
    """Signed fractions [n, n] in -1 .. 1 to a frame, by a measured panel record.

    The record gives `cell_px` [2], `path_middle_px` [2, 2], `path_affine` [2, 2, 2], `path_distortion_px` [2]
    (`CellMap`), `point_spread_px` [2] (`Spill`), `neighbour_share` [2, n, 2] (`crosstalk`), `level_knots`
    [K], `level_shape` [2, n, n, K], `span_units` [2, n, n], `zero_units` [n, n] and `full_scale_units` [1].
    Fractions that a cell cannot reach are clipped: `realised` has what it shows, a coercion says how many and
    the worst. Raises ProgramError for cells under 10 x 10 pixels.
    """
    zero = record.array("zero_units")
    if fractions.shape != zero.shape:
        raise ProgramError(f"fractions are {fractions.shape}; the panel was measured for {zero.shape}")
    full_scale = float(record.array("full_scale_units")[0])
    tables = _tables(record, spec.n_levels)
    spread = [crosstalk(share) for share in record.array("neighbour_share")]
    maps = [CellMap.of_record(record, path) for path in (0, 1)]
    blur = record.array("point_spread_px")
    spills = [spill_of(cells, float(blur[path])) for path, cells in enumerate(maps)]
    span = record.array("span_units")
    per_span = np.where(span > 0, 1 / np.where(span > 0, span, 1.0), 0.0)
    at_zero = spread[0] @ np.maximum(zero, 0.0) - spread[1] @ np.maximum(-zero, 0.0)
    asked, seen = fractions * full_scale, np.zeros_like(zero)
    own = asked  # of a cell's own planes, so that what is seen of all is what is asked
    levels, light = np.zeros((2, *zero.shape), np.uint16), np.zeros((2, *zero.shape))
    for _ in range(PASSES):
        _choose(own - zero, tables, levels, light)
        gets = [span[path] * spills[path].seen(light[path] * per_span[path]) for path in (0, 1)]
        seen = at_zero + spread[0] @ gets[0] - spread[1] @ gets[1]
        own = own + (asked - seen)
    realised = seen / full_scale
    frame = np.zeros(spec.shape_px, np.uint16)
    for cells, shown in zip(maps, levels, strict=True):
        height, width = cells.cell_size_px
        if min(height, width) < MIN_CELL_PX:
            raise ProgramError(
                f"cells of {height:.1f} x {width:.1f} pixels; allowed: at least {MIN_CELL_PX} x {MIN_CELL_PX}"
            )
        paint(frame, cells, shown)
    short = np.abs(realised - fractions)
    missing = short > SHORT
    if not missing.any():
        return EncodedFrame(frame, realised)
    worst = np.unravel_index(int(short.argmax()), short.shape)
    note = Coercion(
        "weight fraction",
        float(fractions[worst]),
        float(realised[worst]),
        "of full scale",
        int(missing.sum()),
    )
    return EncodedFrame(frame, realised, (note,))


def paint(frame: NDArray[np.uint16], cells: CellMap, levels: NDArray[np.uint16]) -> None:
    """Write levels [n, n] into the pixels of `frame` whose centres lie in the cells; others stay."""
    row, column = cells.index_of_pixels(frame.shape)
    inside = row >= 0
    frame[inside] = levels[row[inside], column[inside]]


def crosstalk(share: FloatArray) -> FloatArray:
    """Shares [n, 2] of each detector's signal in the earlier and the later one, as a matrix [n, n]."""
    return np.asarray(np.eye(len(share)) + np.diag(share[1:, 0], 1) + np.diag(share[:-1, 1], -1))


def _tables(record: CalibrationRecord, n_levels: int) -> FloatArray:
    """Light over level [2, n, n, n_levels] in units, linear between the measured levels, never falling."""
    knots = record.array("level_knots")
    light = record.array("level_shape") * record.array("span_units")[..., None]
    level = np.arange(n_levels)
    upper = np.clip(np.searchsorted(knots, level), 1, len(knots) - 1)
    share = (level - knots[upper - 1]) / (knots[upper] - knots[upper - 1])
    return np.asarray(light[..., upper - 1] * (1 - share) + light[..., upper] * share)


@njit(cache=True, error_model="numpy")
def _choose(  # pragma: no cover - compiled
    want: FloatArray, tables: FloatArray, levels: NDArray[np.uint16], light: FloatArray
) -> None:
    """Levels [2, n, n], and the light they give, for positive minus negative light of `want` [n, n]."""
    top = tables.shape[3] - 1
    for i in range(want.shape[0]):
        for j in range(want.shape[1]):
            levels[:, i, j], light[:, i, j] = 0, 0.0
            sign = 0 if want[i, j] >= 0.0 else 1
            wanted = abs(want[i, j])
            if wanted == 0.0:
                continue
            main = min(np.searchsorted(tables[sign, i, j], wanted), top)
            while main > 0 and tables[sign, i, j, main] == tables[sign, i, j, main - 1]:
                main -= 1  # beyond the turning point nothing is won
            extra = max(tables[sign, i, j, main] - wanted, 0.0)
            other = tables[1 - sign, i, j]
            fine = min(np.searchsorted(other, extra), top)
            if fine > 0 and extra - other[fine - 1] <= other[fine] - extra:
                fine -= 1
            levels[sign, i, j], levels[1 - sign, i, j] = main, fine
            light[sign, i, j], light[1 - sign, i, j] = tables[sign, i, j, main], other[fine]
