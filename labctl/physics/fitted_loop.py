"""The loop with its rows as measured: where it comes to rest, how it gets there, what a disturbance becomes.

    tau dz/dt = -(leak_scale leak + leak_offset) z + gain_scale gain (y(z) + d) + bias + offset + e

y(z) is a `FittedMap`; d and e are disturbances in front of the gain and behind it. Time is in tau.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from labctl.physics.at_rest import at_rest
from labctl.physics.fitted import FittedMap
from labctl.physics.loop import trajectory

STEP_TAU, WAY_TAU = 0.5, 40.0  # of the way to rest; it decides which rest, the polish how exactly
POLISH = 4  # Newton steps


@dataclass(frozen=True, eq=False)
class FittedLaw:
    """One settle with all knobs set: acting gain and leak [G, n] with G = 1 or B, acting bias [B, n]."""

    light: FittedMap
    gain: Tensor
    leak: Tensor
    bias: Tensor

    def forcing(self, z: Tensor) -> Tensor:
        """All that is not the leak [B, n]."""
        return self.gain * self.light(z) + self.bias

    def rate(self, z: Tensor) -> Tensor:
        """tau dz/dt [B, n]."""
        return self.forcing(z) - self.leak * z

    def curvature(self, z: Tensor) -> Tensor:
        """H = -d rate / dz [B, n, n]; no gradient."""
        gain, leak = (t.detach().expand_as(z) for t in (self.gain, self.leak))
        return torch.diag_embed(leak) - gain[:, :, None] * self.light.slope(z)

    def rest(self, start: Tensor | None = None) -> Tensor:
        """Where the flow ends from `start` [B, n] (0 by default), differentiable by the implicit function in
        everything but `start`. A state that has not come to rest after 40 tau is returned as it is: its
        `rate` tells.
        """
        with torch.no_grad():
            z = torch.zeros_like(self.bias) if start is None else start
            for state in trajectory(self, z, dt=STEP_TAU, steps=round(WAY_TAU / STEP_TAU)):
                z = state
            for _ in range(POLISH):
                step = torch.linalg.solve(self.curvature(z), self.rate(z)[:, :, None])[:, :, 0]
                # a long step is no polish: there the state is no rest, and Newton would jump to another
                z = z + torch.where(step.abs().amax(dim=1, keepdim=True) < 1.0, step, 0.0)
        return self.held(z)

    def held(self, z: Tensor) -> Tensor:
        """States z [B, n] that a machine came to rest at, with this law's gradient there."""
        z = z.detach()
        return at_rest(z, self.rate(z), self.curvature(z))

    def way(self, *, dt: float, steps: int, start: Tensor | None = None) -> Tensor:
        """States [steps, B, n] after each step of `dt` tau; no gradient."""
        with torch.no_grad():
            z = torch.zeros_like(self.bias) if start is None else start
            return torch.stack(list(trajectory(self, z, dt=dt, steps=steps)))

    def moved(self, z: Tensor, behind: Tensor, before: Tensor) -> Tensor:
        """States z [B, n] at rest, moved to first order by slow disturbances [B, n] behind and before the
        gain.
        """
        push = (behind + self.gain.detach() * before)[:, :, None]
        moved: Tensor = torch.linalg.solve(self.curvature(z), push)
        return z + moved[:, :, 0]


@dataclass(frozen=True, eq=False)
class FittedLoop:
    """Map and rows [n] of one machine. `law` sets its knobs as the data sheet has them, `trimmed` with the
    rows' errors taken out of what is set.
    """

    light: FittedMap
    leak_scale: Tensor
    leak_offset: Tensor
    gain_scale: Tensor
    offset: Tensor

    def law(self, bias: Tensor, gain: Tensor, leak: Tensor) -> FittedLaw:
        """bias [B, n], gain and leak [n] or [G, n], as set."""
        return FittedLaw(
            self.light, self.gain_scale * gain, self.leak_scale * leak + self.leak_offset, bias + self.offset
        )

    def trimmed(self, bias: Tensor, gain: Tensor, leak: Tensor) -> FittedLaw:
        """The same, of what is to act; what stands in front of the gain is nulled."""
        return FittedLaw(replace(self.light, offset=torch.zeros_like(self.light.offset)), gain, leak, bias)
