"""Straight-through codes: forward the value that a converter makes, backward as though it were not there.

The codes are those of `labctl.programs`: a coupling is scale x k / top with one scale a segment, |k| <= top =
max(1, 2^(b-1) - 1), and k = +-1 at one bit; node parameters are signed codes of fixed full scale, starting
phases parts of a turn, noise amplitudes parts of pi.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labctl.programs.codes import full_scale_code


def codes_of(values: Tensor, scale: Tensor | float, bits: int) -> Tensor:
    """Signed codes (whole numbers, same shape) of `values` on a converter of full scale `scale`."""
    if bits == 1:
        return torch.where(values < 0, -torch.ones_like(values), torch.ones_like(values))
    return torch.round((values / scale).clamp(-1.0, 1.0) * full_scale_code(bits))


def coded(values: Tensor, scale: Tensor | float, bits: int) -> Tensor:
    """The values that the codes mean; gradients pass to `values` and `scale` (Esser et al. 2020).

    Where a value lies beyond the full scale, its gradient goes to the scale alone.
    """
    inside = (values / scale).clamp(-1.0, 1.0)
    fraction = codes_of(values, scale, bits).detach() / full_scale_code(bits)
    return scale * (inside + (fraction - inside).detach())


def stepped(values: Tensor, step: float) -> Tensor:
    """The nearest whole multiples of `step`; the gradient passes as though nothing were rounded."""
    return values + (torch.round(values / step) * step - values).detach()
