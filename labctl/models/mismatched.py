"""A network trained through a machine that is known only so well: every batch meets another that might be it.

A batch's machine has its weights and biases moved by one draw of what the records state they are uncertain
by. What trains so does not lean on what nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices.errors import ConfigError
from labctl.models.measured import MeasuredNetwork
from labctl.models.network import RowTableNetwork
from labctl.physics import FittedMap
from labctl.programs import PlacedWeights


@dataclass(frozen=True, eq=False)
class Mismatch:
    """Standard uncertainties in a program's rows: weight [n, n], relative; bias [n], units.

    ConfigError for one that is negative or not finite.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("weight", "bias"):
            values = getattr(self, name)
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise ConfigError(f"mismatch: {name} has {values.min():g}; allowed: 0 or more, finite")

    def on(self, order: NDArray[np.int64]) -> Mismatch:
        """Of a program whose row i is on channel order[i]."""
        return Mismatch(self.weight[np.ix_(order, order)], self.bias[order])


class MismatchedNetwork(MeasuredNetwork):
    """A measured network that meets another machine in every evaluation with gradients; without, the mean.

    The draws are a stream of `seed`: same seed, same machines.
    """

    def __init__(
        self,
        network: RowTableNetwork,
        weights: PlacedWeights,
        light: FittedMap,
        mismatch: Mismatch,
        *,
        bits: int | None = None,
        gain_limit: NDArray[np.float64] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(network, weights, light, bits=bits, gain_limit=gain_limit)
        self._weight_sd = torch.as_tensor(mismatch.weight, dtype=torch.float32)
        self._bias_sd = torch.as_tensor(mismatch.bias, dtype=torch.float32)
        self._draw = torch.Generator().manual_seed(seed)

    def _machine(self) -> tuple[Tensor, Tensor, Tensor]:
        powers, offset, shift = super()._machine()
        if not torch.is_grad_enabled():
            return powers, offset, shift
        weight = torch.randn(self._weight_sd.shape, generator=self._draw) * self._weight_sd
        bias = torch.randn(self._bias_sd.shape, generator=self._draw) * self._bias_sd
        return powers * (1 + weight), offset, shift + bias
