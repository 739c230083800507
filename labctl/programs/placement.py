"""Where a network [d, h1, ..., hL] lies in the machine's one matrix: block-cyclic, zeros elsewhere.

Rows and columns are cut into blocks u, h1, ..., hL. W_l stands in rows h_l, columns h_{l-1} (u for l = 1);
W_out stands in rows u, columns h_L, and closes the cycle (`adm.md`, equation 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ProgramError
from labctl.programs.codes import CodedMatrix, full_scale_code

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Placement:
    """Blocks of a network with `sizes` = (d, h1, ..., hL) on `n_channels` rows; unused rows stay dark."""

    sizes: tuple[int, ...]
    n_channels: int

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ProgramError(
                f"layer sizes are {list(self.sizes)}; allowed: d and at least one hidden layer"
            )
        if sum(self.sizes) > self.n_channels:
            raise ProgramError(
                f"network {list(self.sizes)} needs {sum(self.sizes)} variables; "
                f"this machine has {self.n_channels}"
            )

    def block(self, layer: int) -> slice:
        """Channels of layer 0 (u), 1 (h1), ..., L."""
        first = sum(self.sizes[:layer])
        return slice(first, first + self.sizes[layer])

    @property
    def state(self) -> slice:
        """Rows u, which carry the sample."""
        return self.block(0)

    @property
    def last_hidden(self) -> slice:
        """Rows h_L, read in `evaluate`."""
        return self.block(len(self.sizes) - 1)

    @property
    def blocks(self) -> list[tuple[slice, slice]]:
        """(rows, columns) of W_1, ..., W_L, W_out, in the order of a network's `weights()`."""
        last = len(self.sizes) - 1
        hidden = [(self.block(layer), self.block(layer - 1)) for layer in range(1, last + 1)]
        return [*hidden, (self.block(0), self.block(last))]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[n, n], True where a weight may stand."""
        out = np.zeros((self.n_channels, self.n_channels), np.bool_)
        for rows, columns in self.blocks:
            out[rows, columns] = True
        return out

    @property
    def n_weights(self) -> int:
        """Weights in use."""
        return int(self.mask.sum())

    def spread(self, per_matrix: Sequence[NDArray[np.float64]], fill: float = 0.0) -> FloatArray:
        """Row tables [..., rows of each matrix] laid out over [..., n_channels]."""
        out = np.full((*per_matrix[0].shape[:-1], self.n_channels), fill)
        for (rows, _), table in zip(self.blocks, per_matrix, strict=True):
            out[..., rows] = table
        return out


@dataclass(frozen=True, eq=False)
class PlacedWeights:
    """A network's matrices in the machine's W.

    fractions [n, n] in -1 .. 1 are what the light shows; scale_out [n] > 0 restores network units
    (W = scale_out fractions); codes [n, n] and bits where the weights are codes, else None.
    """

    placement: Placement
    fractions: FloatArray
    scale_out: FloatArray
    codes: NDArray[np.int16] | None
    bits: int | None

    @property
    def weights(self) -> FloatArray:
        """W [n, n] in network units."""
        return self.scale_out[:, None] * self.fractions


def place(matrices: Sequence[FloatArray | CodedMatrix], n_channels: int) -> PlacedWeights:
    """Lay [W_1, ..., W_L, W_out] into one W.

    Codes keep their own row scales; float matrices are scaled per row by their largest |weight|. Raises
    ProgramError for a network larger than the machine, NaN weights, shapes that do not chain, or a mixture.
    """
    shapes = [m.codes.shape if isinstance(m, CodedMatrix) else np.shape(m) for m in matrices]
    sizes = tuple(int(shape[1]) for shape in shapes)
    for i, (rows, _) in enumerate(shapes):
        expected = sizes[(i + 1) % len(sizes)]
        if rows != expected:
            raise ProgramError(f"matrix {i + 1} is {shapes[i]}; allowed: {expected} rows, to feed the next")
    placement = Placement(sizes, n_channels)
    fractions = np.zeros((n_channels, n_channels))
    scale_out = np.ones(n_channels)
    coded = [isinstance(m, CodedMatrix) for m in matrices]
    bits = {m.bits for m in matrices if isinstance(m, CodedMatrix)}
    if any(coded) and (not all(coded) or len(bits) != 1):
        raise ProgramError("matrices mix codes of different bits, or codes with floats; allowed: one kind")
    codes = np.zeros((n_channels, n_channels), np.int16) if all(coded) else None
    for (rows, columns), matrix in zip(placement.blocks, matrices, strict=True):
        if isinstance(matrix, CodedMatrix):
            fractions[rows, columns] = matrix.codes / full_scale_code(matrix.bits)
            scale_out[rows] = matrix.scale
            if codes is not None:
                codes[rows, columns] = matrix.codes
        else:
            if not np.isfinite(matrix).all():
                row, column = (int(i) for i in np.argwhere(~np.isfinite(matrix))[0])
                raise ProgramError(
                    f"weight at row {row}, column {column} is {matrix[row, column]}; allowed: finite numbers"
                )
            largest = np.abs(matrix).max(axis=1)
            scale = np.where(largest > 0, largest, 1.0)
            fractions[rows, columns] = matrix / scale[:, None]
            scale_out[rows] = scale
    return PlacedWeights(placement, fractions, scale_out, codes, bits.pop() if bits else None)
