"""The host's own model of one segment: what the loop law says, with the knobs as applied."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.physics import LoopLaw
from labctl.physics.kernels import residual_peak

FloatArray = NDArray[np.float64]


def law_of(weights: FloatArray, gain: FloatArray, leak: FloatArray, bias: FloatArray) -> LoopLaw:
    """The loop law in float64: weights [n, n], gain [G, n], leak [n], bias [B, n]."""
    parts = [torch.from_numpy(np.ascontiguousarray(a)) for a in (weights, gain, leak[None], bias)]
    return LoopLaw(parts[0], parts[1], parts[2], parts[3])


def residual(
    z: FloatArray,
    weights: FloatArray,
    gain: FloatArray,
    leak: FloatArray,
    bias: FloatArray,
    rows: slice,
    columns: slice,
    *,
    limit: float,
) -> FloatArray:
    """Largest |F(z) - z| over `rows` for each sample [B], F by the host's model of these rows alone.

    weights [r, c] of rows x columns (all that feeds the rows), gain [G, r], leak [r], bias [B, r]. `limit` is
    the read-out's range: a hidden row may run beyond it, so F is compared as it would be read. The
    nonlinearity is the float32 kernel's: good to 3e-7 times the row's gain.
    """
    out = np.empty(len(z))
    residual_peak(z[:, columns], z[:, rows], weights.astype(np.float32), gain, leak, bias, limit, out)
    return out


def contraction(law: LoopLaw, z: FloatArray, blocks: list[tuple[slice, slice]]) -> FloatArray:
    """kappa [B] at z: the largest |eigenvalue| of the step's map on rows u, (1 - leak) + gain W' W' ... .

    A step is unique and attracting where it stays below 1 along the path (reference numbers, 0.4). blocks
    are (rows, columns) of W_1 ... W_out.
    """
    state = torch.from_numpy(np.ascontiguousarray(z))
    slope = 1 - torch.tanh(state) ** 2
    d = blocks[0][1].stop - blocks[0][1].start
    jacobian = torch.eye(d, dtype=torch.float64).expand(len(z), d, d)
    gain = law.gain.expand(len(z), -1)
    for rows, columns in blocks:
        matrix = law.weights[rows, columns] * slope[:, None, columns]
        jacobian = (gain[:, rows, None] * matrix) @ jacobian
    keep = (1 - law.leak[0, blocks[-1][0]]).diag_embed()
    values = torch.linalg.eigvals(keep + jacobian)
    out: FloatArray = values.abs().amax(dim=1).numpy()
    return out
