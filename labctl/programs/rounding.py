"""Values to converter codes, in one compiled pass: this runs between any two settles."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.devices import Coercion, Converter, ProgramError

FloatArray = NDArray[np.float64]
Codes = NDArray[np.int64]


def to_codes(
    values: FloatArray, converter: Converter, field: str, out: Codes | None = None
) -> tuple[Codes, NDArray[np.bool_], Coercion | None]:
    """Nearest codes (in `out` where given), where the range clipped them, and the worst clipped pair.

    Raises ProgramError for NaN or infinity: no code means that.
    """
    if values.size == 0:
        return values.astype(np.int64), np.zeros(values.shape, np.bool_), None
    limit, codes = converter.range_units, np.empty(values.shape, np.int64) if out is None else out
    flat = np.ascontiguousarray(values, dtype=np.float64).reshape(-1)
    low, high = _round_to_codes(flat, 1.0 / converter.units_per_code, converter.max_code, codes.reshape(-1))
    if not np.isfinite(high - low):
        raise ProgramError(f"{field} is {values[~np.isfinite(values)][0]}; allowed: finite numbers")
    if -limit <= low and high <= limit:
        return codes, np.zeros(values.shape, np.bool_), None
    clipped = np.abs(values) > limit
    worst = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    applied = float(codes[worst] * converter.units_per_code)
    note = Coercion(field, float(values[worst]), applied, "network units", int(clipped.sum()))
    return codes, clipped, note


@njit(cache=True, error_model="numpy")
def _round_to_codes(  # pragma: no cover - compiled
    values: NDArray[np.float64], per_unit: float, limit: float, codes: NDArray[np.int64]
) -> tuple[float, float]:
    """codes = values x per_unit, rounded half to even, kept inside +-limit; (lowest, highest) value.

    Flat arrays. Where a value is not a number, both are: no code means that.
    """
    low = high = values[0]
    for i in range(values.size):
        value = values[i]
        if not value >= low:
            low = value
        if not value <= high:
            high = value
        if value != value:
            return np.nan, np.nan
        codes[i] = np.int64(np.rint(min(max(value * per_unit, -limit), limit)))
    return low, high
