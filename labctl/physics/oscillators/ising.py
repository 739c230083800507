"""Ising machines on the interface of the oscillators: states that saturate instead of phases that turn.

    saturating:  ds_i/dt = -s_i + tanh(sum_j J_ij s_j + b_i)
    polynomial:  ds_i/dt = p_i s_i - q_i s_i^3 + sum_j J_ij s_j + b_i

Time in units of tau, states in units of the saturated level; J directed, as K of the oscillators. These forms
are ours: the equations of the paper that they follow were not read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.law import Inject, check_tables, coupled_sum


@dataclass(frozen=True, eq=False)
class SaturatingLaw:
    """K segments of tanh units with leak 1: coupling [K, E], bias [K, n]."""

    coupling: Tensor
    bias: Tensor
    injects: ClassVar[int] = 1

    @property
    def segments(self) -> int:
        """K."""
        return len(self.coupling)

    def check(self, edges: Edges) -> None:
        """Refuse tables whose shapes do not fit the edges or each other."""
        check_tables(edges, self.segments, self.coupling, bias=self.bias)

    def drift(self, edges: Edges, k: int, inject: Inject | None = None) -> Callable[[Tensor], Tensor]:
        """ds/dt of segment k as a function of s [B, n]; inject: a further bias [B, n] of each sample."""
        couple = coupled_sum(edges, self.coupling[k])
        bias = self.bias[k] if inject is None else self.bias[k] + inject[0]
        return lambda s: torch.tanh(couple(s) + bias) - s


@dataclass(frozen=True, eq=False)
class PolynomialLaw:
    """K segments of units with gain p and cubic saturation q: coupling [K, E]; bias, linear, cubic [K, n]."""

    coupling: Tensor
    bias: Tensor
    linear: Tensor
    cubic: Tensor
    injects: ClassVar[int] = 1

    @property
    def segments(self) -> int:
        """K."""
        return len(self.coupling)

    def check(self, edges: Edges) -> None:
        """Refuse tables whose shapes do not fit the edges or each other."""
        check_tables(
            edges, self.segments, self.coupling, bias=self.bias, linear=self.linear, cubic=self.cubic
        )

    def drift(self, edges: Edges, k: int, inject: Inject | None = None) -> Callable[[Tensor], Tensor]:
        """ds/dt of segment k as a function of s [B, n]; inject: a further bias [B, n] of each sample."""
        couple = coupled_sum(edges, self.coupling[k])
        bias = self.bias[k] if inject is None else self.bias[k] + inject[0]
        linear, cubic = self.linear[k], self.cubic[k]
        return lambda s: linear * s - cubic * s**3 + couple(s) + bias
