"""What sampling asks of a network: weights for the matrix, tables for the rows. Models provide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from labctl.sampling.parametrisation import Preconditioning

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RowTables:
    """Row gains and biases of every layer at one sigma, as functions of the class.

    Each tuple has one array per weight matrix, in the order W_1 ... W_L, W_out; each array is [C, rows of
    that matrix] with C = max(n_classes, 1). Gains multiply the matrix as `LoopNetwork.weights` gives it.
    """

    gains: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]


@runtime_checkable
class LoopNetwork(Protocol):
    """A denoiser whose raw part F fits the loop law with phi = tanh.

    h_1 = g_1 . (W_1 phi(u)) + b_1, h_l = g_l . (W_l phi(h_{l-1})) + b_l,
    F = g_out . (W_out phi(h_L)) + b_out, u = c_in x; D = c_skip x + c_out F.
    """

    @property
    def sizes(self) -> Sequence[int]:
        """[d, h1, ..., hL]."""
        ...

    @property
    def n_classes(self) -> int:
        """0 for an unconditional network."""
        ...

    @property
    def preconditioning(self) -> Preconditioning:
        """c_skip, c_out and c_in of this network."""
        ...

    def weights(self) -> list[FloatArray]:
        """[W_1 (h1, d), ..., W_L (hL, hL-1), W_out (d, hL)]."""
        ...

    def rows(self, sigma: float) -> RowTables:
        """Gains and biases at `sigma`."""
        ...
