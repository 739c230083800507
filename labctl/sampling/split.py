"""A network larger than the machine: its hidden layer cut into parts that run on the machine in sequence.

F = g_out . (sum_k W_out,k phi(h_k)) + b_out: each part h_k fits the machine, shows its own matrix, and feeds
the same rows u. A step z = c + g D(z) is then solved part by part (block Gauss-Seidel): while one part
settles, what the others last gave to rows u is held in the injection. At the root the order no longer
matters: it is the whole network's own step. Time-multiplexed like the published machine's models, whose
outputs the host joins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ProgramError
from labctl.programs import CodedMatrix
from labctl.sampling.network import LoopNetwork, RowTables
from labctl.sampling.parametrisation import Preconditioning

FloatArray = NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class PartNetwork:
    """Hidden units [first, first + width) of `whole`, as a LoopNetwork of its own; b_out is in every part.

    Beyond the last hidden unit rows are empty: gain 0, weights 0.
    """

    whole: LoopNetwork
    first: int
    width: int

    @property
    def sizes(self) -> Sequence[int]:
        """[d, width]."""
        return (self.whole.sizes[0], self.width)

    @property
    def n_classes(self) -> int:
        """The whole network's."""
        return self.whole.n_classes

    @property
    def preconditioning(self) -> Preconditioning:
        """The whole network's."""
        return self.whole.preconditioning

    @property
    def codes(self) -> list[CodedMatrix] | None:
        """The part of the whole network's codes, None where it has none."""
        codes: list[CodedMatrix] | None = getattr(self.whole, "codes", None)
        if codes is None:
            return None
        into, out = codes
        return [
            CodedMatrix(self._rows_of(into.codes, 0), self._rows_of(into.scale, 0, 1.0), into.bits),
            CodedMatrix(self._rows_of(out.codes, 1), out.scale, out.bits),
        ]

    def weights(self) -> list[FloatArray]:
        """[W_1 (width, d), W_out (d, width)]."""
        into, out = self.whole.weights()
        return [self._rows_of(into, 0), self._rows_of(out, 1)]

    def rows(self, sigma: float) -> RowTables:
        """Gains and biases of the part's rows, and of rows u as the whole network has them."""
        whole = self.whole.rows(sigma)
        return RowTables(
            (self._rows_of(whole.gains[0], 1), whole.gains[1]),
            (self._rows_of(whole.biases[0], 1), whole.biases[1]),
        )

    def _rows_of(self, table: NDArray[Number], axis: int, fill: float = 0.0) -> NDArray[Number]:
        """The part's hidden units along `axis`, filled up to its width."""
        stop = min(self.first + self.width, table.shape[axis])
        cut = table[(slice(None),) * axis + (slice(self.first, stop),)]
        missing = [(0, 0)] * table.ndim
        missing[axis] = (0, self.width - cut.shape[axis])
        return np.pad(cut, missing, constant_values=fill)


def parts_of(network: LoopNetwork, n_channels: int) -> tuple[LoopNetwork, ...]:
    """The network alone where it fits the machine, else the parts it is cut into, as few as possible.

    Raises ProgramError for a network that cannot be cut: of several hidden layers, or with no room for one.
    """
    sizes = tuple(network.sizes)
    if sum(sizes) <= n_channels:
        return (network,)
    room = n_channels - sizes[0]
    if len(sizes) != 2 or room < 1:
        raise ProgramError(
            f"network {list(sizes)} needs {sum(sizes)} variables; this machine has {n_channels}, and only a "
            "network of one hidden layer can be cut into machines in sequence"
        )
    count = -(-sizes[1] // room)
    width = -(-sizes[1] // count)
    return tuple(PartNetwork(network, first, width) for first in range(0, sizes[1], width))


def visits(parts: int, sweeps: int, from_top: bool) -> list[int]:
    """The order in which one step settles the parts, there and back: no matrix is shown twice in a row.

    The next step begins where this one ended, with the matrix that is still on display.
    """
    order = list(range(parts))[:: -1 if from_top else 1]
    out = order[:1]
    for _ in range(sweeps if parts > 1 else 0):
        out += order[1:]
        order.reverse()
    return out
