"""The oscillator law: phases drawn to each other by sines, held by injection, turned by detuning.

    dtheta_i/dt = w_i + sum_j K_ij sin(theta_j - theta_i) + a_i cos theta_i - b_i sin theta_i
                  - l_i sin 2 theta_i

theta in rad, relative to the reference oscillator; time in units of 1/K_unit. K_ij is what i hears from j:
directed. This form is ours: the equations of the paper that it follows were not read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from labctl.devices.errors import ProgramError
from labctl.physics.oscillators.edges import Edges

# below this many oscillators a full matrix product is faster than gathering the edges one by one
_DENSE_UP_TO = 128

Inject = tuple[Tensor, ...]  # of each sample [B, n]: (a, b) beside the law's own, or one bias of an Ising law


class Law(Protocol):
    """What evolves: tables of K segments over edges, and the rate of change that they make."""

    injects: ClassVar[int]  # how many tensors `inject` has

    @property
    def segments(self) -> int:
        """K."""
        ...

    def check(self, edges: Edges) -> None:
        """Refuse tables whose shapes do not fit the edges or each other."""
        ...

    def drift(self, edges: Edges, k: int, inject: Inject | None = None) -> Callable[[Tensor], Tensor]:
        """The rate of change in segment k as a function of the state [B, n]; differentiable."""
        ...


def check_tables(edges: Edges, segments: int, coupling: Tensor, **nodes: Tensor) -> None:
    """Refuse tables that are not [segments, E] and [segments, n]."""
    for name, table in (("coupling", coupling), *nodes.items()):
        allowed = (segments, len(edges) if name == "coupling" else edges.n)
        if tuple(table.shape) != allowed:
            raise ProgramError(f"law: {name} has shape {tuple(table.shape)}; allowed: {allowed}")


@dataclass(frozen=True, eq=False)
class OscillatorLaw:
    """Parameters of K segments; all in units of K_unit (rad per unit time).

    coupling [K, E]; in_phase, quadrature, second, detuning [K, n]: a cos theta, - b sin theta,
    - l sin 2 theta and w of the law.
    """

    coupling: Tensor
    in_phase: Tensor
    quadrature: Tensor
    second: Tensor
    detuning: Tensor
    injects: ClassVar[int] = 2

    @property
    def segments(self) -> int:
        """K."""
        return len(self.coupling)

    @classmethod
    def zeros(cls, edges: Edges, segments: int = 1, dtype: torch.dtype = torch.float32) -> OscillatorLaw:
        """Nothing coupled, nothing injected."""
        node = torch.zeros(segments, edges.n, dtype=dtype)
        return cls(torch.zeros(segments, len(edges), dtype=dtype), node, node, node, node)

    def check(self, edges: Edges) -> None:
        """Refuse tables whose shapes do not fit the edges or each other."""
        check_tables(
            edges, self.segments, self.coupling, in_phase=self.in_phase, quadrature=self.quadrature,
            second=self.second, detuning=self.detuning,
        )  # fmt: skip

    def drift(self, edges: Edges, k: int, inject: Inject | None = None) -> Callable[[Tensor], Tensor]:
        """dtheta/dt of segment k as a function of theta [B, n], rad per unit time; differentiable.

        inject: further (a, b) [B, n] of each sample, for anchors that carry an image.
        """
        couple = coupled_sum(edges, self.coupling[k])
        in_phase, quadrature, second, detuning = (
            table[k] for table in (self.in_phase, self.quadrature, self.second, self.detuning)
        )
        if inject is not None:
            in_phase, quadrature = in_phase + inject[0], quadrature + inject[1]

        def rate(theta: Tensor) -> Tensor:
            s, c = torch.sin(theta), torch.cos(theta)
            # sin(theta_j - theta_i) = s_j c_i - c_j s_i: two sums over neighbours, no sine on every edge
            return c * (couple(s) + in_phase) - s * (couple(c) + quadrature + 2 * second * c) + detuning

        return rate


def coupled_sum(edges: Edges, coupling: Tensor) -> Callable[[Tensor], Tensor]:
    """The map from values v [B, n] to sum_j K_ij v_j [B, n], for coupling [E]; differentiable."""
    target = torch.from_numpy(edges.target).to(coupling.device, torch.int64)
    source = torch.from_numpy(edges.source).to(coupling.device, torch.int64)
    if edges.n <= _DENSE_UP_TO or 8 * len(edges) > edges.n**2:
        transposed = coupling.new_zeros(edges.n, edges.n).index_put((source, target), coupling)
        return lambda v: v @ transposed
    return lambda v: torch.zeros_like(v).index_add(1, target, v[:, source] * coupling)


def rhs(edges: Edges, law: OscillatorLaw, k: int, theta: Tensor, inject: Inject | None = None) -> Tensor:
    """dtheta/dt [B, n] of segment k at theta [B, n], rad per unit time."""
    return law.drift(edges, k, inject)(theta)
