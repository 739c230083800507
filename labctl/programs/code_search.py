"""Codes by what they do to the output, not by how near they are to the weights.

Rounding each weight to its nearest code is best only where the inputs are independent. They are not: hidden
states follow a few variables, so that errors of several weights can be made to cancel (the idea of optimal
brain surgery, Hassibi and Stork 1993; of GPTQ, Frantar et al. 2022). Here each row is a small integer
least-squares problem, searched by coordinate descent at several scales.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.devices.errors import ProgramError
from labctl.programs.codes import CodedMatrix, full_scale_code

FloatArray = NDArray[np.float64]
_CLIPS = np.linspace(1.0, 0.6, 21)
_SWEEPS = 12
_RIDGE = 1e-3  # of the mean diagonal: directions no input takes still prefer the nearest code


def search_codes(weights: FloatArray, bits: int, moments: FloatArray) -> CodedMatrix:
    """Codes for a matrix [r, c] with the least (w - w')' M_r (w - w') in every row r; moments M [r, c, c].

    Starts from the nearest codes at each of 21 scales, from the largest |weight| of the row down to .6 of it,
    and changes one code, then two at once, while that helps. Raises ProgramError for bits outside 2..9 and
    for moments of another shape.
    """
    top = full_scale_code(bits)
    rows, columns = weights.shape
    if bits < 2:
        raise ProgramError(f"bits = {bits!r}: codes are searched at 2 to 9 bits; one bit has no magnitudes")
    if moments.shape != (rows, columns, columns):
        raise ProgramError(f"moments of shape {moments.shape}; allowed: {(rows, columns, columns)}")
    ridge = _RIDGE * np.trace(moments, axis1=1, axis2=2) / columns + 1e-30
    full = moments + ridge[:, None, None] * np.eye(columns)
    codes, scale = np.zeros((rows, columns), np.int16), np.ones(rows)
    _search(np.ascontiguousarray(weights), np.ascontiguousarray(full), top, _CLIPS, _SWEEPS, codes, scale)
    return CodedMatrix(codes, scale, bits)


@njit(cache=True, error_model="numpy")
def _search(  # pragma: no cover - compiled
    weights: FloatArray,
    moments: FloatArray,
    top: int,
    clips: FloatArray,
    sweeps: int,
    out_codes: NDArray[np.int16],
    out_scale: FloatArray,
) -> None:
    rows, columns = weights.shape
    for r in range(rows):
        largest = np.abs(weights[r]).max()
        if largest == 0:
            continue
        best = np.inf
        for clip in clips:
            unit = clip * largest / top
            codes = np.empty(columns, np.int64)
            error = np.empty(columns)  # w - unit * code
            for j in range(columns):
                codes[j] = np.int64(np.rint(min(max(weights[r, j] / unit, -top), top)))
                error[j] = weights[r, j] - unit * codes[j]
            slope = moments[r] @ error
            for _ in range(sweeps):
                changed = False
                for j in range(columns):
                    # the vertex of the parabola in k, kept in range
                    k = np.int64(np.rint(slope[j] / (unit * moments[r, j, j])))
                    k = min(max(k, -top - codes[j]), top - codes[j])
                    gain = 2 * k * unit * slope[j] - k * k * unit * unit * moments[r, j, j]
                    if k != 0 and gain > 0:
                        codes[j] += k
                        error[j] -= k * unit
                        slope -= k * unit * moments[r, :, j]
                        changed = True
                if changed:
                    continue
                for i in range(columns):  # two at once, each by one
                    for j in range(i):
                        for a in (-1, 1):
                            for b in (-1, 1):
                                if abs(codes[i] + a) > top or abs(codes[j] + b) > top:
                                    continue
                                first, second = a * unit, b * unit
                                gain = (
                                    2 * (first * slope[i] + second * slope[j])
                                    - first * first * moments[r, i, i]
                                    - second * second * moments[r, j, j]
                                    - 2 * first * second * moments[r, i, j]
                                )
                                if gain > 1e-15:
                                    codes[i] += a
                                    codes[j] += b
                                    error[i] -= first
                                    error[j] -= second
                                    slope -= first * moments[r, :, i] + second * moments[r, :, j]
                                    changed = True
                if not changed:
                    break
            cost = error @ (moments[r] @ error)
            if cost < best * (1 - 1e-9):
                best = cost
                out_codes[r], out_scale[r] = codes, unit * top
