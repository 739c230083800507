"""A coded network as a measured machine computes it: its row functions over the machine's own matrix.

The codes stay; what the frame realises, curves included, comes from a calibration
(`labctl.physics.FittedMap`), all n x n of it: leakage and crosstalk couple what no weight joins. Hidden rows
are then an equilibrium of their own, given u, found by a few passes through the layers. Training this
network re-fits biases and gains to the machine, with the coded matrix frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices.errors import ProgramError
from labctl.models.network import RowTableNetwork, coefficients, for_samples
from labctl.physics import CurveTable, FittedMap
from labctl.programs import PlacedWeights

FloatArray = NDArray[np.float64]
PASSES: Final = (
    3  # through the layers: what leaks back is a few percent, each pass takes as much off the error
)


class MeasuredNetwork(RowTableNetwork):
    """`network` (one replica, coded) over `light`, the map of its frame, in the machine's channel order.

    `weights` is the network as placed on the machine. Its `rows` are what the machine is to be given.
    """

    def __init__(self, network: RowTableNetwork, weights: PlacedWeights, light: FittedMap) -> None:
        if network.n_replicas != 1 or network.codes is None:
            raise ProgramError("a measured network is made of one replica with frozen codes")
        super().__init__(
            network.sizes,
            n_classes=network.n_classes,
            preconditioning=network.preconditioning,
            width=network.width,
            harmonics=network.harmonics,
            coded=[network.codes],
        )
        self.load_state_dict(network.state_dict())
        self._placed = weights
        self._curve = CurveTable(light.curve)
        self._powers = light.powers.to(torch.float32)
        self._offset = light.offset.to(torch.float32)
        self._scale_out = torch.as_tensor(weights.scale_out, dtype=torch.float32)

    def plain(self) -> RowTableNetwork:
        """The same row functions as an ordinary network, to be saved or compiled."""
        return self.replica(0)

    def _raw_groups(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        self._check_labels(labels)
        c_skip, c_out, c_in = (c[..., None, None] for c in coefficients(self.preconditioning, sigma))
        replicas, levels, members, _ = x.shape
        gains, biases = self._tables(sigma)
        row_gains: Sequence[Tensor] = [for_samples(gain, labels) for gain in gains]
        row_biases: Sequence[Tensor] = [for_samples(bias, labels) for bias in biases]
        placement = self._placed.placement
        used = sum(placement.sizes)
        blocks: list[Tensor] = [
            c_in * x,
            *(x.new_zeros(replicas, levels, members, size) for size in placement.sizes[1:]),
        ]
        rest = x.new_zeros(replicas, levels, members, placement.n_channels - used)

        def row_light(layer: int) -> Tensor:
            rows = placement.block(layer)
            phi = self._curve(torch.cat([*blocks, rest], dim=-1))
            powers = self._powers[:, rows]
            out, raised = phi @ powers[0].T, phi
            for power in powers[1:]:
                raised = raised * phi
                out = out + raised @ power.T
            return (out + self._offset[rows]) * self._scale_out[rows]

        last = len(placement.sizes) - 1
        for _ in range(PASSES):
            for layer in range(1, last + 1):
                blocks[layer] = row_gains[layer - 1] * row_light(layer) + row_biases[layer - 1]
        return row_gains[-1] * row_light(0) + row_biases[-1], c_skip, c_out
