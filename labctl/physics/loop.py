"""The loop law: tau dz/dt = -leak z + gain y + bias, y = W phi(z), phi saturating on every row.

Time is in units of tau throughout. Arrays are torch tensors, batch first: z [B, n]; gain and leak [G, n]
with G = 1 or B; bias [B, n]; W [n, n], rows are outputs. Everything is differentiable unless run through
`settle_fast`, which works in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from labctl.physics.kernels import corrected_step_into, euler_step_into, step_into, tanh_into

Method = Literal["euler", "ab2", "pec"]


def saturate(z: Tensor, out: Tensor | None = None) -> Tensor:
    """tanh(z): the compiled kernel for float32 where no gradient is asked for, torch otherwise."""
    if z.dtype != torch.float32 or not z.is_contiguous() or (z.requires_grad and torch.is_grad_enabled()):
        return torch.tanh(z, out=out) if out is not None else torch.tanh(z)
    out = torch.empty_like(z) if out is None else out
    tanh_into(z.detach().numpy().reshape(-1), out.numpy().reshape(-1))
    return out


@dataclass(frozen=True)
class LoopLaw:
    """Right-hand side of the loop, parameters passed in. Rows in `linear_rows` have phi(z) = z."""

    weights: Tensor
    gain: Tensor
    leak: Tensor
    bias: Tensor
    linear_rows: tuple[int, ...] = ()

    def phi(self, z: Tensor) -> Tensor:
        """The nonlinearity: tanh, saturating at +-1."""
        out = saturate(z)
        if self.linear_rows:
            rows = list(self.linear_rows)
            out = out.clone()
            out[..., rows] = z[..., rows]
        return out

    def forcing(self, z: Tensor) -> Tensor:
        """gain y + bias: all that is not the leak."""
        return self.gain * (self.phi(z) @ self.weights.T) + self.bias

    def slope(self, z: Tensor) -> Tensor:
        """tau dz/dt."""
        return self.forcing(z) - self.leak * z

    def map(self, z: Tensor) -> Tensor:
        """F(z) = (1 - leak) z + gain W phi(z) + bias: same fixed points; the delayed-map machine's step."""
        return z + self.slope(z)


class Forced(Protocol):
    """What a trajectory needs of a law: tau dz/dt = forcing(z) - leak z."""

    @property
    def leak(self) -> Tensor:
        """[G, n]."""
        ...

    def forcing(self, z: Tensor) -> Tensor:
        """All that is not the leak [B, n]."""
        ...


@dataclass(frozen=True)
class ExponentialStep:
    """Coefficients of one exponential step of length dt (tau) with a trip delay (tau).

    z' = decay z + now N_k + before N_{k-1}, N = forcing. Euler holds N over the step. "ab2" extends N
    linearly in time, N(t_k + s - trip) = N_k + (s - trip)/dt (N_k - N_{k-1}): exponential Adams-Bashforth 2
    (Cox and Matthews 2002) at trip 0, and the loop's delay to second order for trips up to about a step.

    "pec" predicts so, takes N* there, and corrects with N drawn linearly from N*_k to N*_{k+1} (exponential
    trapezoid): one evaluation a step like the others (predict, evaluate, correct; Hairer, Norsett and Wanner,
    Solving ODEs I, III.1), at a fraction of the error. z is then the corrected state.
    """

    decay: Tensor
    now: Tensor
    before: Tensor

    @classmethod
    def of(
        cls,
        leak: Tensor,
        dt: float | Tensor,
        *,
        method: Method = "ab2",
        trip: float | Tensor = 0.0,
    ) -> ExponentialStep:
        """Coefficients for each row's leak; dt and trip [1, n] where rows differ in tau."""
        x = leak * dt
        decay = torch.exp(-x)
        small = x < 1e-3  # series: 1 - exp(-x) would cancel, and leak 0 is a pure integrator
        safe = torch.where(small, torch.ones_like(x), x)
        phi1 = torch.where(small, 1 - x / 2 + x * x / 6, -torch.expm1(-safe) / safe)
        if method == "euler":
            return cls(decay, dt * phi1, torch.zeros_like(x))
        phi2 = torch.where(small, 0.5 - x / 6 + x * x / 24, (torch.expm1(-safe) + safe) / (safe * safe))
        extend = phi2 - (trip / dt) * phi1
        return cls(decay, dt * (phi1 + extend), -dt * extend)

    def predicted(self, z: Tensor, now: Tensor, before: Tensor) -> Tensor:
        """z a step on, from the forcing at z and a step before it."""
        return self.decay * z + self.now * now + self.before * before

    @property
    def correction(self) -> tuple[Tensor, Tensor]:
        """Shares of the forcing at the step's end and at its start in the corrected step."""
        return -self.before, self.now + 2 * self.before


def trajectory(
    law: Forced, z: Tensor, *, dt: float, steps: int, method: Method = "ab2", trip: float = 0.0
) -> Iterator[Tensor]:
    """States after each of `steps` steps of `dt` (tau), noise-free and differentiable."""
    step = ExponentialStep.of(law.leak, dt, method=method, trip=trip)
    before = now = law.forcing(z)
    end, start = step.correction
    for _ in range(steps):
        ahead = step.predicted(z, now, before)
        before, now = now, law.forcing(ahead)
        z = step.decay * z + end * now + start * before if method == "pec" else ahead
        yield z


def settle_fast(
    law: LoopLaw,
    z: Tensor,
    *,
    dt: float,
    steps: int,
    method: Method = "ab2",
    trip: float = 0.0,
    observe: Callable[[int, Tensor], None] | None = None,
    tile: int = 1024,
) -> Tensor:
    """`trajectory`'s last state, in place and tile by tile, so that a tile stays in cache. No gradients.

    `observe(step, z)` (with tile = the whole batch) sees every state; it must copy what it keeps.
    """
    if observe is not None:
        tile = len(z)
    shared = len(law.gain) == 1 and len(law.leak) == 1 and not law.linear_rows
    with torch.no_grad():
        parts = []
        for first in range(0, len(z), tile):
            part = slice(first, first + tile)
            tiled = LoopLaw(
                law.weights,
                _rows(law.gain, part),
                _rows(law.leak, part),
                _rows(law.bias, part),
                law.linear_rows,
            )
            run = _run_shared if shared else _run_general
            parts.append(run(tiled, z[part].clone(), dt, steps, method, trip, observe))
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def _rows(table: Tensor, part: slice) -> Tensor:
    return table if len(table) == 1 else table[part]


def _run_shared(
    law: LoopLaw,
    z: Tensor,
    dt: float,
    steps: int,
    method: Method,
    trip: float,
    observe: Callable[[int, Tensor], None] | None,
) -> Tensor:
    """One gain and leak for the whole tile: they fold into the product; one product and one pass a step."""
    step = ExponentialStep.of(law.leak, dt, method=method, trip=trip)
    scaled = (law.gain.T * law.weights).T.contiguous()
    phi = saturate(z)
    now = torch.addmm(law.bias, phi, scaled)
    before = now.clone()
    corrects = method == "pec"
    if corrects:
        saturate(step.predicted(z, now, before), out=phi)
    make = _fused_step if z.dtype == torch.float32 else _plain_step
    advance = make(z, phi, step, corrects=corrects)
    for k in range(steps):
        if k or corrects:
            before, now = now, before
            torch.addmm(law.bias, phi, scaled, out=now)
        advance(now, before)
        if observe is not None:
            observe(k, z)
    return z


def _fused_step(
    z: Tensor, phi: Tensor, step: ExponentialStep, *, corrects: bool
) -> Callable[[Tensor, Tensor], None]:
    decay, share, extend, end, start = (
        row.expand(1, z.shape[1]).reshape(-1).numpy()
        for row in (step.decay, step.now, step.before, *step.correction)
    )
    state, nonlinear = z.numpy(), phi.numpy()
    if corrects:
        return lambda now, before: corrected_step_into(
            state, now.numpy(), before.numpy(), decay, share, extend, end, start, nonlinear
        )
    if not extend.any():
        return lambda now, before: euler_step_into(state, now.numpy(), decay, share, nonlinear)
    return lambda now, before: step_into(state, now.numpy(), before.numpy(), decay, share, extend, nonlinear)


def _plain_step(
    z: Tensor, phi: Tensor, step: ExponentialStep, *, corrects: bool
) -> Callable[[Tensor, Tensor], None]:
    end, start = step.correction if corrects else (step.now, step.before)

    def advance(now: Tensor, before: Tensor) -> None:
        z.mul_(step.decay).addcmul_(end, now).addcmul_(start, before)
        torch.tanh(step.predicted(z, now, before) if corrects else z, out=phi)

    return advance


def _run_general(
    law: LoopLaw,
    z: Tensor,
    dt: float,
    steps: int,
    method: Method,
    trip: float,
    observe: Callable[[int, Tensor], None] | None,
) -> Tensor:
    for k, state in enumerate(trajectory(law, z, dt=dt, steps=steps, method=method, trip=trip)):
        z = state
        if observe is not None:
            observe(k, z)
    return z


def delayed_map(law: LoopLaw, z: Tensor, *, trips: int) -> Iterator[Tensor]:
    """The regime tau ~ trip: z_{t+1} = F(z_t) once a trip, as in the AOC machine (alpha = 1 - leak)."""
    for _ in range(trips):
        z = law.map(z)
        yield z
