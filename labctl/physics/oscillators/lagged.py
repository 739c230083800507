"""The oscillator law of a real board: what an oscillator hears comes late, and so turns by a lag.

    ... sum_j K_ij sin(theta_j - theta_i - lag_ij) = sum_j [P_ij sin(theta_j - theta_i) - Q_ij cos(...)]

with P = K cos lag and Q = K sin lag; all else as in `law`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from labctl.physics.at_rest import at_rest
from labctl.physics.oscillators.analysis import hessian
from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.evolve import evolve
from labctl.physics.oscillators.law import Inject, OscillatorLaw, check_tables, coupled_sum


@dataclass(frozen=True, eq=False)
class LaggedLaw:
    """`prompt` has P as its couplings [K, E]; late [K, E] is Q. Units of K_unit."""

    prompt: OscillatorLaw
    late: Tensor
    injects: ClassVar[int] = 2

    @property
    def segments(self) -> int:
        """K."""
        return self.prompt.segments

    def check(self, edges: Edges) -> None:
        """Refuse tables whose shapes do not fit the edges or each other."""
        self.prompt.check(edges)
        check_tables(edges, self.segments, self.late)

    def drift(self, edges: Edges, k: int, inject: Inject | None = None) -> Callable[[Tensor], Tensor]:
        """dtheta/dt of segment k as a function of theta [B, n]; differentiable."""
        prompt, couple = self.prompt.drift(edges, k, inject), coupled_sum(edges, self.late[k])

        def rate(theta: Tensor) -> Tensor:
            s, c = torch.sin(theta), torch.cos(theta)
            return prompt(theta) - c * couple(c) - s * couple(s)

        return rate

    def curvature(self, edges: Edges, k: int, theta: Tensor, inject: Inject | None = None) -> Tensor:
        """H = -d(dtheta/dt)/dtheta [B, n, n] at theta [B, n]; no gradient."""
        with torch.no_grad():
            out = hessian(edges, self.prompt, k, theta, inject)
            target = torch.from_numpy(edges.target).to(torch.int64)
            source = torch.from_numpy(edges.source).to(torch.int64)
            turned = self.late[k] * torch.sin(theta[:, source] - theta[:, target])
            out[:, target, source] -= turned
            return out + torch.diag_embed(torch.zeros_like(theta).index_add(1, target, turned))


def settle_lagged(
    edges: Edges,
    law: LaggedLaw,
    theta: Tensor,
    *,
    duration: float,
    steps: int,
    inject: Inject | None = None,
) -> Tensor:
    """Phases [B, n] at rest after `duration` units from theta [B, n], with the implicit function's gradient;
    see `settle`.
    """
    with torch.no_grad():
        rest = evolve(edges, law, theta, duration=duration, steps=steps, inject=inject)
    rate = law.drift(edges, 0, inject)(rest)
    return at_rest(rest, rate, law.curvature(edges, 0, rest, inject))
