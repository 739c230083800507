"""Straight-through codes: forward the value that a converter makes, backward as though it were not there.

A coupling is scale x k / top with one scale a segment, |k| <= top = max(1, 2^(b-1) - 1). At 1 bit k is +-1,
never 0. Everything else is scale x k / top with the fixed full scale of its converter.
"""

from __future__ import annotations

import torch
from torch import Tensor


def top_code(bits: int) -> int:
    """The largest code of a signed converter of `bits` bits."""
    return max(1, 2 ** (bits - 1) - 1)


def codes_of(values: Tensor, scale: Tensor | float, bits: int) -> Tensor:
    """Signed codes (whole numbers, same shape) of `values` on a converter of full scale `scale`."""
    top = top_code(bits)
    if bits == 1:
        return torch.where(values < 0, -torch.ones_like(values), torch.ones_like(values))
    return torch.round((values / scale).clamp(-1.0, 1.0) * top)


def coded(values: Tensor, scale: Tensor | float, bits: int) -> Tensor:
    """The values that the codes mean; gradients pass to `values` and `scale` (Esser et al. 2020).

    Where a value lies beyond the full scale, its gradient goes to the scale alone.
    """
    inside = (values / scale).clamp(-1.0, 1.0)
    fraction = codes_of(values, scale, bits).detach() / top_code(bits)
    return scale * (inside + (fraction - inside).detach())
