"""How certain the rows' closed-loop errors are: the fit of `closed_loop`, linearised where it ended.

Gauss-Newton about the solution: cov = H^-1 (S + M) H^-1, H the normal matrix with the fit's pulls. S sums the
squared gradients of whole settles (White's sandwich, clustered by settle: mains and the light's noise come
through all rows at once); M is what the uncertainty of the probed map, of leaks and of offsets puts in. Only
the product of gain_scale and f acts on a state, so both are told beside the rows' mean (the gauge).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labctl.physics import FittedCurve
from labctl_calibration.effective_map import EffectiveMap, FloatArray, moments

OWN = ("reach", "scale", "shift", "slope")  # of every channel's curve
SHARED = ("knee", "mix")
LEAST_LIT = 0.01  # of the median channel's light squared: a dead one's curve cannot be told
QUEUE = 64  # settles at once


@dataclass(frozen=True, eq=False)
class Relative:
    """What settles tell of a row beside the others [n], with standard errors: `gain`, gain_scale over the
    geometric mean of all rows; `slope`, f's at zero over the mean of the channels that have light
    (of one that has none its error is infinite).

    Offsets in front of the gain have no error: light at rest moves with the emitters' warmth by more than
    settles scatter, and is measured again for every frame.
    """

    gain: FloatArray
    gain_error: FloatArray
    slope: FloatArray
    slope_error: FloatArray


@dataclass(frozen=True, eq=False)
class Settles:
    """What was fitted: states z and wanted drive [B, n], set gains [B, 1]."""

    z: Tensor
    wanted: Tensor
    gains: Tensor


def relative_rows(
    light: EffectiveMap, settles: Settles, curve: FittedCurve, gain: Tensor, offset: Tensor,
    open_error: FloatArray, pull: float,
) -> Relative:  # fmt: skip
    """Of the fit that ended in `curve`, row gains and offsets P_0 [n]. open_error [2, n]: standard errors of
    leak and offset, which were known before; `pull`: weight of a parameter's square beside the sum of squared
    residuals.
    """
    at = _Model(torch.from_numpy(light.powers), curve, gain, offset)
    n, size = len(gain), at.size
    normal, scatter = torch.zeros((size, size), dtype=gain.dtype), torch.zeros((size, size), dtype=gain.dtype)
    opened = torch.zeros((2, n, size), dtype=gain.dtype)
    mapped = torch.zeros((n, size, light.powers.shape[0] * n), dtype=gain.dtype)
    for first in range(0, len(settles.z), QUEUE):
        part = slice(first, first + QUEUE)
        gains = settles.gains[part]
        jacobian, drive, features = at.about(settles.z[part], gains)
        left = gain * gains * drive - settles.wanted[part]
        normal += torch.einsum("bip,biq->pq", jacobian, jacobian)
        pushed = torch.einsum("bip,bi->bp", jacobian, left)
        scatter += pushed.T @ pushed
        opened[0] += torch.einsum("bip,bi->ip", jacobian, settles.z[part])
        opened[1] += jacobian.sum(dim=0)
        mapped += torch.einsum("bip,bi,bf->ipf", jacobian, gain * gains, features)
    scatter += torch.einsum("ipf,ifq->pq", mapped, _weighted(mapped, light))
    known = opened * torch.from_numpy(open_error)[:, :, None]
    scatter += torch.einsum("kip,kiq->pq", known, known)
    # held everywhere, so that what no state tells stays finite
    inverse = torch.linalg.inv(normal + pull * torch.eye(size, dtype=gain.dtype))
    return at.told(inverse @ scatter @ inverse)


def _weighted(mapped: Tensor, light: EffectiveMap) -> Tensor:
    """cov of the map's coefficients times mapped^T [n, K n, P]; a channel's powers vary together."""
    powers, n = light.powers.shape[:2]
    block = torch.linalg.inv(torch.from_numpy(moments(powers)))
    sizes = torch.from_numpy(light.error[0]) ** 2 / block[0, 0]  # [out, in]
    parts = mapped.reshape(n, -1, powers, n)
    return torch.einsum("ipkj,kl,ij->iljp", parts, block, sizes).reshape(n, powers * n, -1)


class _Model:
    """Parameters [P]: log reach, log scale, shift, slope of channels; log gain and P_0 of rows; knee, mix."""

    def __init__(self, powers: Tensor, curve: FittedCurve, gain: Tensor, offset: Tensor) -> None:
        self.powers, self.curve, self.gain, self.offset = powers, curve, gain, offset
        self.n = len(gain)
        self.size = 6 * self.n + 2

    def about(self, z: Tensor, gains: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(residuals' slopes [B, n, P], light [B, n], powers of f [B, K n]) at states z [B, n]."""
        phi, by_own, by_shared = self._bent(z)
        raised, rising = torch.ones_like(phi), torch.zeros((*phi.shape, self.n), dtype=phi.dtype)
        features, light = [], self.offset.expand_as(phi)
        for k, power in enumerate(self.powers, start=1):
            rising = rising + k * power.T * raised[:, :, None]  # [B, in, out]
            raised = raised * phi
            features.append(raised)
            light = light + raised @ power.T
        through = rising.transpose(1, 2) * (self.gain[:, None] * gains[:, :, None])  # [B, out, in]
        own = torch.cat([through * by[:, None, :] for by in by_own], dim=2)
        eye = torch.eye(self.n, dtype=phi.dtype)
        set_to = self.gain * gains
        shared = [(through @ by[:, :, None]) for by in by_shared]
        jacobian = torch.cat(
            [own, eye * (set_to * light)[:, :, None], eye * set_to[:, :, None], *shared], dim=2
        )
        return jacobian, light, torch.cat(features, dim=1)

    def told(self, cov: Tensor) -> Relative:
        """By the parameters' covariance [P, P]."""
        n, size, kind = self.n, self.size, cov.dtype
        gain = torch.exp(torch.log(self.gain) - torch.log(self.gain).mean())
        by_gain = torch.zeros((n, size), dtype=kind)
        by_gain[:, 4 * n : 5 * n] = gain[:, None] * (torch.eye(n, dtype=kind) - 1 / n)
        slope, by_own, by_shared = self._rise()
        by = torch.zeros((n, size), dtype=kind)
        for place, change in enumerate(by_own):
            by[:, place * n : (place + 1) * n] = torch.diag(change)
        by[:, 6 * n :] = torch.stack(by_shared, dim=1)
        light = self.powers[0].square().sum(dim=0)
        lit = light > LEAST_LIT * light.median()
        share = lit.to(kind) / lit.sum()
        mean, by_mean = share @ slope, share @ by
        slope_error = _sd(by / mean - slope[:, None] * by_mean / mean**2, cov)
        return Relative(
            gain=gain.numpy(),
            gain_error=_sd(by_gain, cov).numpy(),
            slope=(slope / mean).numpy(),
            slope_error=torch.where(lit, slope_error, torch.inf).numpy(),
        )

    def _rise(self) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """f'(0) [n] by a small difference, and how it goes with each parameter of `_bent`, [n] each."""
        step, zero = 1e-4, torch.zeros((1, self.n), dtype=self.gain.dtype)
        (high, *up), (low, *down) = (self._bent(zero + sign * step) for sign in (1, -1))
        own, shared = (
            [(a - b)[0] / (2 * step) for a, b in zip(above, below, strict=True)]
            for above, below in zip(up, down, strict=True)
        )
        return (high - low)[0] / (2 * step), own, shared

    def _bent(self, z: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """f(z) [B, n] and its slopes by each channel's own parameters and by the shared ones, [B, n] each."""
        curve = self.curve
        values = (
            torch.log(curve.reach), torch.log(curve.scale), curve.shift, curve.slope, curve.knee, curve.mix,
        )  # fmt: skip
        with torch.enable_grad():
            at = [one.detach().expand(z.shape).clone().requires_grad_() for one in values]
            reach, scale, *others = at
            phi = FittedCurve(torch.exp(reach), torch.exp(scale), *others)(z)
            slopes = torch.autograd.grad(phi.sum(), at)
        return phi.detach(), list(slopes[: len(OWN)]), list(slopes[len(OWN) :])


def _sd(rows: Tensor, cov: Tensor) -> Tensor:
    return torch.einsum("ip,pq,iq->i", rows, cov, rows).clamp_min(0).sqrt()
