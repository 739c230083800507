"""The gradient of a state of rest by the implicit function, for any machine: nothing is kept of the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def at_rest(rest: Tensor, rate: Tensor, curvature: Tensor) -> Tensor:
    """`rest` [B, n], whose gradient goes to the rate of change there: d rest = H^-1 d rate (ais.md 7.4).

    rate [B, n]: the rate of change at `rest`, which is to stand in it without gradient. curvature [B, n, n]:
    H = -d rate / d rest. A state that is not quite at rest is returned as it is.
    """
    out: Tensor = _AtRest.apply(rest, rate, curvature)  # type: ignore[no-untyped-call]
    return out


class _AtRest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rest: Tensor, rate: Tensor, curvature: Tensor) -> Tensor:
        ctx.save_for_backward(curvature)
        return rest.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (curvature,) = ctx.saved_tensors
        return None, torch.linalg.solve(curvature.transpose(1, 2), grads[0]), None
