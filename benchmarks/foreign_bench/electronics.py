"""The loop in time: tau dz/dt = -leak z + gain (light - null + offset) + bias, per channel, integrated step by step.

The curve is r ((1 - k) tanh(s (z - c) / r) + k erf(sqrt(pi) / 2 s (z - c) / r)): an error function has a sharper
knee than tanh and the same slope. Integrator: fourth-order exponential time differencing with Runge-Kutta stages
(Cox and Matthews, J. Comput. Phys. 176, 430, 2002), exact for what is linear or constant. White noise is constant
within a step, with the power it has in the band that the step leaves; the loop's own is exact at leak 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foreign_bench.draws import Draws
from foreign_bench.light import Light
from foreign_bench.unit import ForeignUnit, N

FloatArray = NDArray[np.floating]
ELEMENTARY_CHARGE = 1.602176634e-19
# samples that are integrated together, always so many: a sample's sums never depend on its queue
TILES = (16, 64, 512)  # matrix products add up alike in all (the conformance suite holds it to that)
LONGEST_STEP_US = 0.5
ROOT = math.sqrt(math.pi) / 2


@dataclass(frozen=True, eq=False)
class Knobs:
    """One queue in network units: bias, start [B, n]; gain, leak [1 or B, n]; null [n]; hum and flicker [B]."""

    bias: FloatArray
    start: FloatArray
    gain: FloatArray
    leak: FloatArray
    null: FloatArray
    hum: FloatArray
    flicker: FloatArray


@dataclass(frozen=True, eq=False)
class _Step:
    """Coefficients of one step of `us` for the leaks of a tile."""

    us: float
    whole: Tensor
    half: Tensor
    stage: Tensor
    first: Tensor
    middle: Tensor
    last: Tensor
    midway: tuple[Tensor, Tensor, Tensor]
    loop_noise: Tensor


def phi_functions(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """phi_k(x) = sum of x^m / (m + k)!, k = 1, 2, 3; by its series, for |x| below 1."""
    out = []
    for k in (1, 2, 3):
        term = torch.full_like(x, 1 / math.factorial(k))
        total = term.clone()
        for m in range(1, 16):
            term = term * x / (m + k)
            total = total + term
        out.append(total)
    return out[0], out[1], out[2]


def _plan(times_us: FloatArray) -> list[tuple[int, float, int, bool]]:
    """Steps to records at times from 0 on: (record, length of a step in us, steps, whether it has a middle)."""
    out, now, index = [], 0.0, 0
    while index < len(times_us):
        gap = times_us[index] - now
        further = times_us[index + 1] - times_us[index] if index + 1 < len(times_us) else math.inf
        halved = gap > 0 and 2 * gap <= LONGEST_STEP_US and abs(further - gap) < 1e-9
        index += halved
        gap = times_us[index] - now
        pieces = math.ceil(gap / LONGEST_STEP_US - 1e-9)
        out.append((index, round(gap / max(pieces, 1), 9), pieces, halved))
        now, index = float(times_us[index]), index + 1
    return out


class Loop:
    """The closed loop of one unit over one frame's light."""

    def __init__(
        self, unit: ForeignUnit, light: Light, noise_scale: float, louder: FloatArray | None = None
    ) -> None:
        """louder [n]: factor on each row's own noise."""
        self._unit, self._light, self._noise = unit, light, noise_scale
        self._louder = None if louder is None else _row(louder)
        self._rate = _row(1 / unit.tau_us)
        self._into = _row(unit.slope / unit.reach)
        self._centre = _row(unit.centre_units)
        self._tanh = _row(unit.reach * (1 - unit.erf_share))
        self._erf = _row(unit.reach * unit.erf_share)
        self._sharper = bool(unit.erf_share.any())

    def curve(self, z: Tensor) -> Tensor:
        """phi [B, n] of states."""
        x = self._into * (z - self._centre)
        out = self._tanh * torch.tanh(x)
        return out + self._erf * torch.erf(ROOT * x) if self._sharper else out

    def run(self, knobs: Knobs, times_us: FloatArray, draws: Draws) -> NDArray[np.float32]:
        """States [T, B, n] at increasing times from release (0 is the preset)."""
        size = len(knobs.bias)
        out = np.empty((len(times_us), size, N), np.float32)
        tile = next((one for one in TILES if size <= one), TILES[-1])
        for first in range(0, size, tile):
            rows = np.minimum(np.arange(first, first + tile), size - 1)  # the last tile is filled up
            self._tile(knobs, rows, times_us, draws, out)
        return out

    def _tile(
        self,
        knobs: Knobs,
        rows: NDArray[np.int64],
        times_us: FloatArray,
        draws: Draws,
        out: NDArray[np.float32],
    ) -> None:
        unit, kept = self._unit, min(len(rows), out.shape[1] - int(rows[0]))
        here = slice(int(rows[0]), int(rows[0]) + kept)

        def shared(values: FloatArray) -> FloatArray:
            return values if len(values) == 1 else values[rows]

        leak = _row(shared(knobs.leak) * unit.leak_scale + unit.leak_offset) * self._rate
        gain = _row(shared(knobs.gain) * unit.gain_scale)
        bias = _row(knobs.bias[rows] + unit.offset_units + knobs.hum[rows, None])
        null, flicker = _row(knobs.null - unit.input_offset), _row(knobs.flicker[rows, None])
        sd = self._densities(gain)
        own = draws.part(rows)
        steps: dict[float, _Step] = {}
        z, count = _row(knobs.start[rows]), 0

        def slope(state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Nonlinear part of tau dz/dt, net and whole photocurrent."""
            current = (unit.pedestal_units + self._light.phi(self.curve(state))).clamp_min(0.0)
            plus, minus = self._light.photocurrents(self._light.emitted(current), flicker)
            net = plus - minus
            return gain * (net - null) + bias, net, plus + minus

        with torch.inference_mode():
            # a `halved` step to record `until` has the record before at its middle
            for until, us, pieces, halved in _plan(times_us):
                if us not in steps:
                    steps[us] = self._coefficients(leak, us)
                step = steps[us]
                for _ in range(pieces):
                    before = z
                    start, net, whole = slope(z)
                    force: Tensor | float = 0.0
                    if self._noise:
                        force = self._force(own.normals(count, N + 2), sd, step, gain, net, whole)
                    start = self._rate * (start + force)
                    a = step.half * z + step.stage * start
                    at_a = self._rate * (slope(a)[0] + force)
                    b = step.half * z + step.stage * at_a
                    at_b = self._rate * (slope(b)[0] + force)
                    c = step.half * a + step.stage * (2 * at_b - start)
                    at_c = self._rate * (slope(c)[0] + force)
                    z = step.whole * z + step.first * start + step.middle * (at_a + at_b) + step.last * at_c
                    count += 1
                if halved:
                    # its nonlinear part as a parabola in time, through both ends and the stages half-way
                    at_end = self._rate * (slope(z)[0] + force)
                    first, second, third = step.midway
                    middle = step.half * before + first * start + second * (at_a + at_b) + third * at_end
                    out[until - 1, here] = middle[:kept].numpy()
                out[until, here] = z[:kept].numpy()

    def _densities(self, gain: Tensor) -> tuple[Tensor, Tensor, float]:
        """Noise before a step's length is known: shot per unit light and detector (units^2 us), intensity (us)."""
        unit = self._unit
        amperes = unit.photocurrent_ua * 1e-6
        # one-sided densities in 1/Hz; half of them is the power in a band of 1 / step
        shot = 2 * ELEMENTARY_CHARGE / amperes * 1e6 / 2
        dark = (unit.detector_pa_per_rthz * 1e-12 / amperes) ** 2 * 1e6 / 2
        scale = self._noise**2
        return (
            scale * shot * gain**2,
            scale * dark * gain**2,
            scale * 10 ** (unit.rin_dbc_per_hz / 10) * 1e6 / 2,
        )

    def _force(
        self,
        normals: NDArray[np.float32],
        densities: tuple[Tensor, Tensor, float],
        step: _Step,
        gain: Tensor,
        net: Tensor,
        whole: Tensor,
    ) -> Tensor:
        """Noise of one step [B, n] in units of the bias."""
        shot, dark, intensity = densities
        drawn = torch.from_numpy(normals)
        own = torch.sqrt((shot * whole + dark) / step.us + step.loop_noise)
        if self._louder is not None:
            own = own * self._louder
        common = math.sqrt(intensity / step.us) * drawn[:, N : N + 1]  # the same emitters for every output
        return own * drawn[:, :N] + common * gain * net

    def _coefficients(self, leak: Tensor, us: float) -> _Step:
        x = (-us * leak).double()
        one, two, three = phi_functions(x)
        near, further, furthest = phi_functions(x / 2)
        alone = (-us * self._rate).double()
        kick = us * self._rate.double() * phi_functions(alone)[0]
        sd = self._noise * self._unit.loop_noise_units
        return _Step(
            us=us,
            whole=torch.exp(x).float(),
            half=torch.exp(x / 2).float(),
            stage=(us / 2 * near).float(),
            first=(us * (one - 3 * two + 4 * three)).float(),
            middle=(us * (2 * two - 4 * three)).float(),
            last=(us * (4 * three - two)).float(),
            midway=(
                (us / 2 * (near - 1.5 * further + furthest)).float(),
                (us / 2 * (further - furthest)).float(),
                (us / 2 * (furthest - 0.5 * further)).float(),
            ),
            loop_noise=(sd**2 * -torch.expm1(2 * alone) / kick**2).float(),
        )


def _row(values: FloatArray) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
