"""A program on its bench's fitted twin, many times over: each time on another machine that might be it.

The states of rest are found once, on the map that is known, and kept with the inverse of the curvature there.
A machine drawn from what is uncertain has its rests nearby: a few chord steps from the kept ones (Newton with
the kept inverse) find them, disturbances of a noise draw included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.engines import AppliedKnobs, Batch, FixedPointResult, Ledger
from labctl.physics import CurveTable, FittedMap, summed
from labctl.programs import CodedTables, LoopProgram, LoopSegment
from labctl_calibration.optical.twin_noise import TwinNoise

FloatArray = NDArray[np.float64]
STEP_TAU, STEPS = 0.5, 80  # of the way to the first rests
POLISH, CHORDS = 2, 3  # Newton's steps there, and of every draw from them
FARTHEST_UNITS = 3.0  # of one such step: a longer one would be to another rest


@dataclass(frozen=True, eq=False)
class Machine:
    """One machine that might be it. light: of the program's frame, in its rows; host: the map that its host
    forms last layers with. noise: of a settle; None: without. seed: of the noise's draws.
    """

    light: FittedMap
    host: FittedMap
    noise: TwinNoise | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class _Rest:
    """States at rest [B, n] and inverse curvature [B, n, n] of one settle."""

    z: Tensor
    inverse: Tensor


class ProgramTwin:
    """A fixed-point engine of a program of one matrix, whose samples are always the same: `become` a machine,
    then run the chain. The first chain must be that of the known machine; it makes the rests.

    range_units: what the converter reads.
    """

    def __init__(
        self, program: LoopProgram, tables: tuple[CodedTables, ...], first: Machine, range_units: float
    ) -> None:
        self._program, self._range = program, range_units
        scale = torch.from_numpy(program.weights.scale_out)
        self._gain = [(torch.from_numpy(one.gain) * scale).float() for one in tables]
        self._leak = [torch.from_numpy(one.leak).float() for one in tables]
        self._curve = CurveTable(first.light.curve)
        self._rests: dict[int, _Rest] = {}
        self.become(first)

    @property
    def name(self) -> str:
        """For messages."""
        return "fitted twin"

    @property
    def n_channels(self) -> int:
        """Variables of the loop."""
        return self._program.placement.n_channels

    def become(self, machine: Machine) -> None:
        """Be this machine from now on; its curves are those of the first."""
        self._machine = machine
        self._powers, self._offset = machine.light.powers.float(), machine.light.offset.float()

    def load(self, program: LoopProgram) -> None:
        """It has its program."""

    def measured_weights(self) -> FloatArray:
        """W [n, n] in network units."""
        scale = self._program.weights.scale_out[:, None]
        return np.asarray(self._machine.host.powers[0].numpy() * scale)

    def light(self, z: FloatArray, rows: slice, columns: slice) -> FloatArray:
        """y [B, r] of rows as the host has it."""
        host, phi = self._machine.host, self._curve(torch.from_numpy(z).float()).double()
        y = summed(host.powers[:, rows], phi) + host.offset[rows]
        return np.asarray(y.numpy() * self._program.weights.scale_out[rows])

    def solve(self, segment: LoopSegment, batch: Batch, *, audit: int = 0) -> FixedPointResult:
        """States at rest as the converter reads them; no more of the result is filled in than a sampler
        needs.
        """
        del audit
        k, state = batch.step_id, self._program.placement.state
        bias = torch.from_numpy(segment.bias_of(batch.inject, batch.labels, state)).float()
        gain = self._gain[k] if batch.labels is None else self._gain[k][torch.from_numpy(batch.labels)]
        law = _Law(self._powers, self._offset, self._curve, gain, self._leak[k], bias)
        if k not in self._rests:
            self._rests[k] = law.rest(torch.from_numpy(batch.start).float())
        read: Tensor | float = 0.0
        push: Tensor | float = 0.0
        noise = self._machine.noise
        if noise is not None:
            stepped = self._machine.seed * len(self._program.segments) + k
            behind, before, seen = noise.draw(batch.sample_id, stepped, self._machine.light.powers[0])
            push, read = behind.float() + gain * before.float(), seen.float()
        z = law.near(self._rests[k], push) + read
        z = z.clamp(-self._range, self._range)
        count = len(z)
        empty = np.zeros(count)
        return FixedPointResult(
            z=z.double().numpy(), outcome=np.zeros(count, np.uint8), step_norm=empty, residual_norm=empty,
            applied=AppliedKnobs(gain.numpy(), self._leak[k].numpy(), None, None, None), ledger=Ledger(),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Law:
    """leak z = gain y(z) + bias with all knobs set; float32. gain [C or B, n], leak [n], bias [B, n]."""

    powers: Tensor
    offset: Tensor
    curve: CurveTable
    gain: Tensor
    leak: Tensor
    bias: Tensor

    def forcing(self, z: Tensor) -> Tensor:
        """All that is not the leak [B, n]."""
        return self.gain * (summed(self.powers, self.curve(z)) + self.offset) + self.bias

    def rate(self, z: Tensor) -> Tensor:
        """tau dz/dt [B, n]."""
        return self.forcing(z) - self.leak * z

    def rest(self, start: Tensor) -> _Rest:
        """Where the flow ends from `start` [B, n]: Euler steps, implicit in the leak, then Newton's."""
        z = start
        for _ in range(STEPS):
            z = (z + STEP_TAU * self.forcing(z)) / (1 + STEP_TAU * self.leak)
        inverse = torch.linalg.inv(self._curvature(z))
        for _ in range(POLISH):
            z = _stepped(z, inverse, self.rate(z))
        return _Rest(z, inverse)

    def near(self, rest: _Rest, push: Tensor | float) -> Tensor:
        """The state of rest near a known one, under a steady push [B, n]."""
        z = rest.z
        for _ in range(CHORDS):
            z = _stepped(z, rest.inverse, self.rate(z) + push)
        return z

    def _curvature(self, z: Tensor) -> Tensor:
        """-d rate / dz [B, n, n]."""
        at = z.detach().requires_grad_()
        with torch.enable_grad():
            phi = self.curve(at)
            (rise,) = torch.autograd.grad(phi.sum(), at)
        phi = phi.detach()
        slope, raised = self.powers[0].expand(len(z), -1, -1), torch.ones_like(phi)
        for k, power in enumerate(self.powers[1:], start=2):
            raised = raised * phi
            slope = slope + k * power * raised[:, None, :]
        gain = self.gain.expand_as(z)
        return torch.diag_embed(self.leak.expand_as(z)) - gain[:, :, None] * slope * rise[:, None, :]


def _stepped(z: Tensor, inverse: Tensor, rate: Tensor) -> Tensor:
    step = (inverse @ rate[:, :, None])[:, :, 0]
    far = step.abs().amax(dim=1, keepdim=True) > FARTHEST_UNITS
    return z + torch.where(far, torch.zeros_like(step), step)
