"""Weights on a phase-only panel in coherent light: each cell is a grating, its depth says how much light goes
into the first order, and an iris in the Fourier plane lets only that order through.

A blazed grating of period P pixels whose phase rises to d turns in each period sends the share

    eta(d) = [sin(pi (1 - d)) / (P sin(pi (1 - d) / P))]^2

of its light into the first order (relative to d = 1; sinc^2(1 - d) for many pixels a period): nothing at
d = 0, all of it at d = 1. J. A. Davis et al., "Encoding amplitude information onto phase-only filters", Appl.
Opt. 38, 5004 (1999); J. W. Goodman, "Introduction to Fourier Optics", on gratings. Levels are quantised, so
the encoder takes each depth's own share from its staircase of levels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, ModulatorSpec, ProgramError
from labctl.programs.encoded_frame import EncodedFrame

FloatArray = NDArray[np.float64]
DEPTHS = 4096  # tried between flat and fully blazed


def first_order(depth: FloatArray, period_px: int) -> FloatArray:
    """eta of a blazed grating: share of its light in the first order, 1 at depth 1 (turns a period)."""
    short = np.pi * (1 - np.asarray(depth, dtype=np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        amplitude = np.sin(short) / (period_px * np.sin(short / period_px))
    return np.asarray(np.where(np.abs(short) < 1e-9, 1.0, amplitude**2))


def encode_gratings(fractions: FloatArray, spec: ModulatorSpec, record: CalibrationRecord) -> EncodedFrame:
    """Signed fractions [n, n] in -1 .. 1 to a frame of gratings; rows, columns and fields as `encode_frame`.

    The record gives `panel_phase_rad` [n_levels] over level, `grating_period_px` [1], `path_origin_px`
    [2, 2] and `cell_px` [2]. Raises ProgramError where a cell is no whole number of periods wide.
    """
    height, width = (int(v) for v in record.array("cell_px"))
    period, n = int(record.array("grating_period_px")[0]), len(fractions)
    if width % period:
        raise ProgramError(
            f"cells are {width} pixels wide, gratings have {period} a period; allowed: whole periods a cell"
        )
    staircases, shares = _table(record.array("panel_phase_rad"), period)
    frame, realised = np.zeros(spec.shape_px, np.uint16), np.zeros((n, n))
    for (top, left), sign in zip(record.array("path_origin_px").astype(int), (1.0, -1.0), strict=True):
        want = np.maximum(sign * fractions, 0.0)
        right = np.clip(np.searchsorted(shares, want), 1, len(shares) - 1)
        nearest = np.where(want - shares[right - 1] <= shares[right] - want, right - 1, right)
        cells = np.tile(staircases[nearest], (1, 1, width // period))  # [n, n, width]
        rows = cells.reshape(n, n * width).repeat(height, axis=0)
        frame[top : top + n * height, left : left + n * width] = rows
        realised += sign * shares[nearest]
    return EncodedFrame(frame, realised)


def _table(phase_rad: FloatArray, period: int) -> tuple[NDArray[np.uint16], FloatArray]:
    """Staircases of levels [K, period] and their shares [K] in the first order, rising."""
    pixel = np.arange(period)
    wanted = 2 * np.pi * np.linspace(0.0, 1.0, DEPTHS)[:, None] * pixel / period
    right = np.clip(np.searchsorted(phase_rad, wanted), 1, len(phase_rad) - 1)
    lower = wanted - phase_rad[right - 1] <= phase_rad[right] - wanted
    staircases = np.unique(np.where(lower, right - 1, right).astype(np.uint16), axis=0)
    field = np.exp(1j * (phase_rad[staircases] - 2 * np.pi * pixel / period)).mean(axis=1)
    order = np.argsort(np.abs(field) ** 2, kind="stable")
    return staircases[order], (np.abs(field) ** 2)[order]
