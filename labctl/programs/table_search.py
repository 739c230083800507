"""Codes by what they do, where every cell has a table of its own values: integer least squares, searched."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.devices.errors import ProgramError

FloatArray = NDArray[np.float64]
Codes = NDArray[np.int64]
SWEEPS = 20


def search_tables(
    gram: FloatArray, right: FloatArray, values: FloatArray, counts: Codes
) -> tuple[Codes, FloatArray]:
    """Entries k [R, m] of the tables `values` [R, m, L] with the least v' G v - 2 r' v, v_e = values[e, k_e].

    gram [R, m, m] is positive semidefinite; right [R, m]. counts [R, m]: entries that each table has, from
    its first. Starts from each entry nearest to the unconstrained minimum and changes one entry, then two at
    once, while that helps. Returns (k, costs [R]). ProgramError for shapes that do not fit.
    """
    rows, m = right.shape
    if gram.shape != (rows, m, m) or values.shape[:2] != (rows, m) or counts.shape != (rows, m):
        raise ProgramError(
            f"gram of shape {gram.shape}, values {values.shape}, counts {counts.shape}; allowed: "
            f"{(rows, m, m)}, {(rows, m, 'L')}, {(rows, m)}"
        )
    size = np.trace(gram, axis1=1, axis2=2) / max(m, 1)
    ridge = (1e-6 * size + 1e-30)[:, None, None] * np.eye(m)
    start = np.linalg.solve(gram + ridge, right[:, :, None])[:, :, 0]
    entries, costs = np.zeros((rows, m), np.int64), np.zeros(rows)
    _search(
        np.ascontiguousarray(gram, np.float64), np.ascontiguousarray(right, np.float64),
        np.ascontiguousarray(values, np.float64), np.ascontiguousarray(counts, np.int64), start, SWEEPS,
        entries, costs,
    )  # fmt: skip
    return entries, costs


@njit(cache=True, error_model="numpy")
def _search(  # pragma: no cover - compiled
    gram: FloatArray,
    right: FloatArray,
    values: FloatArray,
    counts: Codes,
    start: FloatArray,
    sweeps: int,
    entries: Codes,
    costs: FloatArray,
) -> None:
    rows, m = right.shape
    for r in range(rows):
        now = np.empty(m)
        for e in range(m):
            best = 0
            for k in range(counts[r, e]):
                if abs(values[r, e, k] - start[r, e]) < abs(values[r, e, best] - start[r, e]):
                    best = k
            entries[r, e] = best
            now[e] = values[r, e, best]
        slope = right[r] - gram[r] @ now
        for _ in range(sweeps):
            changed = False
            for e in range(m):
                best, gain = entries[r, e], 1e-12
                for k in range(counts[r, e]):
                    d = values[r, e, k] - now[e]
                    g = 2 * d * slope[e] - d * d * gram[r, e, e]
                    if g > gain:
                        best, gain = k, g
                if best != entries[r, e]:
                    d = values[r, e, best] - now[e]
                    entries[r, e] = best
                    now[e] += d
                    slope -= d * gram[r, :, e]
                    changed = True
            if changed:
                continue
            for e in range(m):  # two at once: each to any neighbouring entry up to two away
                for f in range(e):
                    best_e, best_f, gain = entries[r, e], entries[r, f], 1e-12
                    for k in range(max(0, entries[r, e] - 2), min(counts[r, e], entries[r, e] + 3)):
                        d = values[r, e, k] - now[e]
                        alone = 2 * d * slope[e] - d * d * gram[r, e, e]
                        for j in range(max(0, entries[r, f] - 2), min(counts[r, f], entries[r, f] + 3)):
                            c = values[r, f, j] - now[f]
                            g = alone + 2 * c * slope[f] - c * c * gram[r, f, f] - 2 * c * d * gram[r, e, f]
                            if g > gain:
                                best_e, best_f, gain = k, j, g
                    if best_e != entries[r, e] or best_f != entries[r, f]:
                        d, c = values[r, e, best_e] - now[e], values[r, f, best_f] - now[f]
                        entries[r, e], entries[r, f] = best_e, best_f
                        now[e] += d
                        now[f] += c
                        slope -= d * gram[r, :, e] + c * gram[r, :, f]
                        changed = True
            if not changed:
                break
        costs[r] = now @ (gram[r] @ now) - 2 * right[r] @ now
