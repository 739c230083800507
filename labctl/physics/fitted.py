"""The loop as a measurement knows it: fitted curves and matrices instead of W tanh(z). Differentiable.

    leak_scale leak z = gain_scale gain y + bias + offset,   y = P_0 + sum_k P_k f(z)^k,  k = 1 .. K

P_k [K, n, n] are of the frame on display (rows are outputs), as open-loop probes see them: emitter curves
make the higher powers, crosstalk and leakage fill the places where no weight was placed. f is the
electronics' own saturating curve, one a channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.physics.kernels import interpolate_rows

LEAST_SHOWN = 0.05  # sum of squared weights of a channel, from which it tells what it carries


@dataclass(frozen=True, eq=False)
class FittedCurve:
    """f(z) = reach ((1 - mix) tanh(y) + mix y / (1 + |y|^knee)^(1/knee)) + slope z, y = scale z + shift.

    reach, scale, shift, slope [n]; knee and mix are shared: all channels are built alike. mix 0 is tanh; 1 is
    the published machine's family of curves. States of hidden rows run far beyond what an ADC shows, so that
    the curve must saturate there: slope is small and never negative.
    """

    reach: Tensor
    scale: Tensor
    shift: Tensor
    slope: Tensor
    knee: Tensor
    mix: Tensor

    @classmethod
    def nominal(cls, n_channels: int, dtype: torch.dtype = torch.float64) -> FittedCurve:
        """tanh on every channel."""
        one = torch.ones(n_channels, dtype=dtype)
        return cls(one, one, 0 * one, 0 * one, torch.tensor(2.5, dtype=dtype), torch.tensor(0.0, dtype=dtype))

    def on(self, channels: Tensor) -> FittedCurve:
        """The curves of `channels` [n], in that order."""
        return FittedCurve(
            self.reach[channels], self.scale[channels], self.shift[channels], self.slope[channels], self.knee,
            self.mix,
        )  # fmt: skip

    def __call__(self, z: Tensor) -> Tensor:
        """f of states [..., n]."""
        y = self.scale * z + self.shift
        size = y.abs().clamp_min(1e-12)
        # (1 + s^k)^(1/k) without overflow: s (1 + s^-k)^(1/k) for s > 1
        low, high = size.clamp_max(1.0), size.clamp_min(1.0)
        root = torch.where(
            size <= 1,
            (1 + low**self.knee) ** (1 / self.knee),
            high * (1 + high ** (-self.knee)) ** (1 / self.knee),
        )
        shape = (1 - self.mix) * torch.tanh(y) + self.mix * y / root
        return self.reach * shape + self.slope * z


class CurveTable:
    """A fitted curve as float32 tables, compiled: powers are slow, and a training asks for very many.

    Linear between 2,048 values over +-12 units: within 1e-4 of the curve.
    """

    RANGE_UNITS = 12.0
    VALUES = 2048

    def __init__(self, curve: FittedCurve) -> None:
        grid = torch.linspace(-self.RANGE_UNITS, self.RANGE_UNITS, self.VALUES, dtype=torch.float64)
        values = curve(grid[:, None].expand(-1, len(curve.scale)))
        self._table = np.ascontiguousarray(values.T.numpy().astype(np.float32))

    def __call__(self, z: Tensor) -> Tensor:
        """f of states [..., n], differentiable in z."""
        out: Tensor = _Interpolated.apply(z, self._table)  # type: ignore[no-untyped-call]
        return out


class _Interpolated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, table: NDArray[np.float32]) -> Tensor:
        rows = z.detach().reshape(-1, z.shape[-1]).contiguous()
        out, slope = torch.empty_like(rows), torch.empty_like(rows)
        per_unit = (CurveTable.VALUES - 1) / (2 * CurveTable.RANGE_UNITS)
        interpolate_rows(rows.numpy(), table, -CurveTable.RANGE_UNITS, per_unit, out.numpy(), slope.numpy())
        ctx.save_for_backward(slope.reshape(z.shape))
        return out.reshape(z.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None


@dataclass(frozen=True, eq=False)
class FittedMap:
    """y(z) of one frame: powers [K, n, n] over a curve, offset P_0 [n].

    Units: photocurrent of a full-scale weight at phi = 1.
    """

    powers: Tensor
    curve: FittedCurve
    offset: Tensor

    def light(self, phi: Tensor) -> Tensor:
        """y [..., n] of driven values phi [..., n], as an open-loop probe has them."""
        return summed(self.powers, phi)

    def __call__(self, z: Tensor) -> Tensor:
        """y [..., n] of states z [..., n], with the offset that only the closed loop has."""
        return self.light(self.curve(z)) + self.offset

    def slope(self, z: Tensor) -> Tensor:
        """dy/dz [B, n, n] at states z [B, n]; no gradient."""
        at = z.detach().requires_grad_()
        with torch.enable_grad():
            phi = self.curve(at)
            (rise,) = torch.autograd.grad(phi.sum(), at)
        phi, powers = phi.detach(), self.powers.detach()
        out, raised = powers[0].expand(len(z), -1, -1), torch.ones_like(phi)
        for k, power in enumerate(powers[1:], start=2):
            raised = raised * phi
            out = out + k * power * raised[:, None, :]
        return out * rise[:, None, :]


def carried(powers: Tensor, fractions: Tensor) -> Tensor:
    """What each power of a channel's light carries of its weights, the same for any frame [K, n].

    powers [K, n, n] were measured with weights `fractions` [n, n] shown; channels that were shown next to
    nothing get what the others typically have.
    """
    size = fractions.square().sum(dim=0)
    along = (powers * fractions).sum(dim=1) / size.clamp_min(1e-12)
    typical = along[:, size > 0].median(dim=1, keepdim=True).values
    return torch.where(size > LEAST_SHOWN, along, typical)


def summed(powers: Tensor, phi: Tensor) -> Tensor:
    """sum_k P_k phi^k [..., r] of driven values phi [..., n] through powers [K, r, n], k = 1 .. K."""
    out, raised = phi @ powers[0].T, phi
    for power in powers[1:]:
        raised = raised * phi
        out = out + raised @ power.T
    return out
