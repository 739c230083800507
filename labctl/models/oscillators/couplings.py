"""Couplings that can be trained: of a largest size and a largest sum an oscillator hears, and their codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from labctl.devices.topology import Topology
from labctl.models.oscillators.codes import coded, codes_of
from labctl.programs.codes import full_scale_code


def row_sums(topology: Topology, values: Tensor) -> Tensor:
    """Sums [K, n] over what each oscillator hears, of values [K, E]."""
    target = torch.as_tensor(topology.target.astype(np.int64), device=values.device)
    return values.new_zeros(len(values), topology.n).index_add(1, target, values)


@dataclass(frozen=True, eq=False)
class CouplingBounds:
    """Limits of couplings [K, E] on a topology: `limit` of each, `row_limit` of max_i sum_j |K_ij|, units.

    mask [E]: 1 where a coupling may be programmed. symmetric: what shortens a coupling shortens its opposite.
    """

    topology: Topology
    limit: float
    row_limit: float
    mask: Tensor
    symmetric: bool = False

    def bounded(self, free: Tensor) -> Tensor:
        """Free numbers [K, E] brought within the limit by tanh; rows beyond theirs are scaled back to it."""
        inside = self.limit * torch.tanh(free / self.limit) * self.mask
        sums = row_sums(self.topology, inside.abs())
        share = (self.row_limit / sums.clamp_min(1e-9)).clamp(max=1.0)
        target, source = (end.to(share.device) for end in self._ends)
        of_edges = share[:, target]
        return inside * (torch.minimum(of_edges, share[:, source]) if self.symmetric else of_edges)

    def scale(self, log_scale: Tensor, bits: int) -> Tensor:
        """Full scale of each segment's couplings [K], units: learnt, up to the limit."""
        scale = log_scale.exp().clamp(max=self.limit)
        if bits > 1:
            return scale
        heard = float(row_sums(self.topology, self.mask[None]).max())  # every one of them at full scale
        return scale.clamp(max=self.row_limit / max(heard, 1.0))

    def coded(self, exact: Tensor, scale: Tensor, bits: int) -> Tensor:
        """[K, E] on the codes' grid; rows that rounding takes beyond the limit are rounded towards 0."""
        full = scale[:, None]
        target, source = (end.to(exact.device) for end in self._ends)
        with torch.no_grad():
            codes = codes_of(exact, full, bits) * self.mask
            over = row_sums(self.topology, codes.abs()) * full / full_scale_code(bits) > self.row_limit
            shorter = over[:, target] | over[:, source] if self.symmetric else over[:, target]
            smaller = codes_of(exact, full, bits, towards_zero=True) * self.mask
            codes = torch.where(shorter, smaller, codes)
        return coded(exact, full, bits, codes) * self.mask

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor]:
        wiring = self.topology
        return torch.as_tensor(wiring.target.astype(np.int64)), torch.as_tensor(
            wiring.source.astype(np.int64)
        )
