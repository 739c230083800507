"""What a frame makes of the light, as the reference look has it: enough structure to say what another would.

Slope of output r with input c: W = sum over paths p of sign_p b_p,c times the sum over d = -1, 0, 1 of
A_p,r,d F_p[r + d, c]: an input's share, an output's, and what detectors see of their neighbours. F are the
cells' fractions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labctl_calibration.drift.look import FloatArray

ROUNDS = 8
SIGNS = (1.0, -1.0)
NEIGHBOURS = (-1, 0, 1)


def moved(cells: FloatArray, rows: int, columns: int) -> FloatArray:
    """What lies so many rows below and columns right of each cell [..., n, n]; dark beyond the field."""
    out = np.zeros_like(cells)
    n = cells.shape[-1]
    to = [slice(max(0, -by), min(n, n - by)) for by in (rows, columns)]
    at = [slice(max(0, by), min(n, n + by)) for by in (rows, columns)]
    out[..., to[0], to[1]] = cells[..., at[0], at[1]]
    return out


@dataclass(frozen=True, eq=False)
class LightModel:
    """cells [2, n, n]: fractions of the dense frame, by path. inputs [2, n]; outputs [2, n, 3]. slopes
    [n, n]: as they were seen.
    """

    cells: FloatArray
    inputs: FloatArray
    outputs: FloatArray
    slopes: FloatArray

    @classmethod
    def of(cls, slopes: FloatArray, fractions: FloatArray) -> LightModel:
        """Fitted to slopes [n, n] of a frame of signed fractions [n, n], in turns."""
        n = len(slopes)
        cells = np.stack([np.maximum(sign * fractions, 0.0) for sign in SIGNS])
        seen = np.stack([[sign * moved(cells[p], d, 0) for d in NEIGHBOURS] for p, sign in enumerate(SIGNS)])
        size = np.abs(slopes).mean(axis=0)
        inputs = np.tile(size / max(float(size.max()), 1e-12), (2, 1))
        outputs = np.zeros((2, n, 3))
        ridge = 1e-6 * max(float((slopes**2).mean()), 1e-12)
        for _ in range(ROUNDS):
            for row in range(n):
                design = (seen[:, :, row] * inputs[:, None]).reshape(6, n).T
                outputs[:, row] = _ridge(design, slopes[row], ridge).reshape(2, 3)
            parts = np.einsum("prd,pdrc->prc", outputs, seen)
            for column in range(n):
                inputs[:, column] = _ridge(parts[:, :, column].T, slopes[:, column], ridge)
        return cls(cells, inputs, outputs, slopes)

    def part(self, path: int, cells: FloatArray) -> FloatArray:
        """Slopes [n, n] that cells [n, n] of one path make."""
        each = sum(self.outputs[path, :, k, None] * moved(cells, d, 0) for k, d in enumerate(NEIGHBOURS))
        return np.asarray(SIGNS[path] * each * self.inputs[path])

    def frame(self, cells: FloatArray) -> FloatArray:
        """Slopes [n, n] of cells [2, n, n]."""
        return self.part(0, cells[0]) + self.part(1, cells[1])

    def change(self, cells: FloatArray) -> FloatArray:
        """By how much slopes [n, n] change where these cells [2, n, n] take the frame's place."""
        return self.frame(cells) - self.frame(self.cells)


def _ridge(design: FloatArray, seen: FloatArray, ridge: float) -> FloatArray:
    square = design.T @ design
    return np.asarray(np.linalg.solve(square + ridge * np.eye(len(square)), design.T @ seen))
