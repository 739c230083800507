"""Straight-through codes: forward the value that a converter makes, backward as though it were not there.

The codes are those of `labctl.programs`: a coupling is scale x k / top with one scale a segment, |k| <= top =
max(1, 2^(b-1) - 1), and k = +-1 at one bit; node parameters are signed codes of fixed full scale, starting
phases parts of a turn, noise amplitudes parts of pi.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labctl.programs.codes import full_scale_code


def codes_of(values: Tensor, scale: Tensor | float, bits: int, *, towards_zero: bool = False) -> Tensor:
    """Signed codes (whole numbers, same shape) of `values` on a converter of full scale `scale`.

    The nearest ones, or the next ones towards zero; one bit is a sign in either case.
    """
    if bits == 1:
        return torch.where(values < 0, -torch.ones_like(values), torch.ones_like(values))
    exact = (values / scale).clamp(-1.0, 1.0) * full_scale_code(bits)
    return torch.trunc(exact) if towards_zero else torch.round(exact)


def coded(values: Tensor, scale: Tensor | float, bits: int, codes: Tensor | None = None) -> Tensor:
    """The values that the codes (the nearest, or those given) mean; gradients pass to `values` and `scale`.

    Esser et al. 2020. Where a value lies beyond the full scale, its gradient goes to the scale alone.
    """
    inside = (values / scale).clamp(-1.0, 1.0)
    whole = codes_of(values, scale, bits) if codes is None else codes
    fraction = whole.detach() / full_scale_code(bits)
    return scale * (inside + (fraction - inside).detach())


def stepped(values: Tensor, step: float) -> Tensor:
    """The nearest whole multiples of `step`; the gradient passes as though nothing were rounded."""
    return values + (torch.round(values / step) * step - values).detach()
