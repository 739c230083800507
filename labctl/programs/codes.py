"""Weights as the modulator shows them: a signed b-bit code and one scale for each output row.

weight = scale * k / (2^(b-1) - 1) with |k| <= 2^(b-1) - 1. The sign chooses the light path, so b - 1 bits
are magnitude. b = 1 is k = +-1 with weight scale * k; it has no zero, so it holds dense matrices only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.errors import ProgramError

FloatArray = NDArray[np.float64]
CodeArray = NDArray[np.int16]
BoolArray = NDArray[np.bool_]

ScaleRule = Literal["row", "row-mse", "global"]

MIN_BITS = 1
MAX_BITS = 9
DEFAULT_BITS = 4

_CLIPS = np.linspace(1.0, 0.4, 61)


def full_scale_code(bits: int) -> int:
    """The largest |k| at `bits` bits (1 at one bit); ProgramError unless bits is a whole number in 1..9."""
    if isinstance(bits, bool) or not isinstance(bits, int | np.integer) or not MIN_BITS <= bits <= MAX_BITS:
        raise ProgramError(f"bits = {bits!r}: weight codes have {MIN_BITS} to {MAX_BITS} bits")
    return max(1, (1 << (int(bits) - 1)) - 1)


@dataclass(frozen=True, eq=False)
class CodedMatrix:
    """A weight matrix as codes.

    `codes` is int16 [rows, cols] (rows are outputs), `scale` float64 [rows], > 0, in network units.
    Raises ProgramError when codes exceed the bits, or shapes or scales do not make sense.
    """

    codes: CodeArray
    scale: FloatArray
    bits: int

    def __post_init__(self) -> None:
        top = full_scale_code(self.bits)
        codes = np.asarray(self.codes)
        scale = np.asarray(self.scale, dtype=np.float64)
        if codes.ndim != 2 or scale.shape != codes.shape[:1]:
            raise ProgramError(
                f"codes of shape {codes.shape} with scale of shape {scale.shape}: "
                "allowed are [rows, cols] and [rows]"
            )
        if not np.issubdtype(codes.dtype, np.integer):
            raise ProgramError(f"codes of type {codes.dtype}: whole numbers are allowed")
        # Compared in the caller's own integer type, before the cast can wrap anything around.
        if codes.size and (int(codes.min()) < -top or int(codes.max()) > top):
            raise ProgramError(
                f"codes from {int(codes.min())} to {int(codes.max())}: "
                f"at {self.bits} bits -{top} to {top} are allowed"
            )
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            row = int(np.flatnonzero(~(np.isfinite(scale) & (scale > 0)))[0])
            raise ProgramError(f"scale of row {row} is {scale[row]}: a finite number above 0 is allowed")
        if self.bits == 1 and (codes == 0).any():
            row, col = (int(i) for i in np.argwhere(codes == 0)[0])
            raise ProgramError(f"code 0 at row {row}, column {col}: one bit knows only -1 and +1")
        object.__setattr__(self, "codes", np.ascontiguousarray(codes, dtype=np.int16))
        object.__setattr__(self, "scale", np.ascontiguousarray(scale))
        self.codes.flags.writeable = False
        self.scale.flags.writeable = False

    @property
    def full_scale(self) -> int:
        """The largest |k| these bits can show."""
        return full_scale_code(self.bits)

    def weights(self) -> FloatArray:
        """The weights the codes stand for, float64 [rows, cols], network units."""
        return self.scale[:, None] * (self.codes / float(self.full_scale))


def encode(
    weights: ArrayLike,
    bits: int = DEFAULT_BITS,
    scale: ScaleRule = "row",
    mask: ArrayLike | None = None,
) -> CodedMatrix:
    """Round a weight matrix [rows, cols] to codes.

    `scale` is the rule for the scale: "row" takes each row's largest |weight|; "row-mse" lets it clip, with
    the least squared rounding error of that row; "global" gives all rows the largest |weight| of the matrix
    (there to show what it costs). "row" is the default: row gains and biases are re-fitted after coding, and
    a gain can undo any scale but not a clipped weight; after the re-fit the two were alike (moons, 4 bit, 5
    seeds: energy distance .32 and .29e-3, standard error .08e-3).
    At one bit the code is the sign and the scale the mean |weight| of the row (or matrix), which is the
    least-squares choice.

    `mask` [rows, cols] is True where a weight exists; elsewhere the matrix has a structural zero.
    Raises ProgramError for NaN or infinite weights (naming row and column), bits outside 1..9, an unknown
    rule, a weight under a structural zero, and any zero at one bit.
    """
    top = full_scale_code(bits)
    if scale not in get_args(ScaleRule):
        raise ProgramError(f"scale = {scale!r}: allowed are {', '.join(get_args(ScaleRule))}")
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 2 or 0 in w.shape:
        raise ProgramError(f"weights of shape {w.shape}: a matrix [rows, cols] is allowed")
    if not np.isfinite(w).all():
        row, col = (int(i) for i in np.argwhere(~np.isfinite(w))[0])
        raise ProgramError(f"weight at row {row}, column {col} is {w[row, col]}: finite numbers are allowed")
    present = _checked_mask(w, mask)
    if bits == 1:
        return _encode_signs(w, present, scale)

    size = np.abs(w).max(axis=1)
    if scale == "global":
        size = np.full_like(size, size.max())
    elif scale == "row-mse":
        size = _least_squares_scale(w, size, top)
    size = np.where(size > 0, size, 1.0)  # an empty row: any scale is as good
    codes = np.rint(np.clip(w / size[:, None], -1.0, 1.0) * top).astype(np.int16)
    return CodedMatrix(codes, size, bits)


def _checked_mask(w: FloatArray, mask: ArrayLike | None) -> BoolArray:
    if mask is None:
        return np.ones(w.shape, dtype=np.bool_)
    present = np.asarray(mask, dtype=np.bool_)
    if present.shape != w.shape:
        raise ProgramError(f"mask of shape {present.shape} for weights of shape {w.shape}: must be equal")
    stray = np.argwhere(~present & (w != 0))
    if len(stray):
        row, col = (int(i) for i in stray[0])
        raise ProgramError(
            f"weight at row {row}, column {col} is {w[row, col]}, but the mask has a structural zero there"
        )
    return present


def _encode_signs(w: FloatArray, present: BoolArray, scale: ScaleRule) -> CodedMatrix:
    zeros = np.argwhere(~present | (w == 0))
    if len(zeros):
        row, col = (int(i) for i in zeros[0])
        raise ProgramError(
            f"weight at row {row}, column {col} is 0: one bit knows only -1 and +1, "
            "so a matrix with zeros starts at 2 bits"
        )
    size = np.abs(w).mean(axis=1)
    if scale == "global":
        size = np.full_like(size, size.mean())
    return CodedMatrix(np.sign(w).astype(np.int16), size, 1)


def _least_squares_scale(w: FloatArray, largest: FloatArray, top: int) -> FloatArray:
    """The clip of each row, among 61 from 1 down to 0.4 of its largest |weight|, with least squared error."""
    best, least = largest.copy(), np.full(len(largest), np.inf)
    for clip in _CLIPS:
        trial = np.where(largest > 0, clip * largest, 1.0)
        unit = w / trial[:, None]
        error = ((np.rint(np.clip(unit, -1.0, 1.0) * top) / top - unit) ** 2).sum(axis=1) * trial**2
        better = error < least * (1.0 - 1e-9)
        best, least = np.where(better, trial, best), np.where(better, error, least)
    return best
