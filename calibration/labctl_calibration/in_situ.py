"""Fine-tuning on the machine itself: it computes the states, its fitted twin their gradient.

A program's steps are posed at noised data, injected what would put their roots there (`operating.rooted`).
The machine settles; what it misses the data by is the loss. Its gradient by the biases and gains of the
step's rows is the fitted twin's at the very states that the machine came to: an error of the twin makes the
way longer, not the answer wrong. Each settle of a sample is one device call, and there is a budget of them.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, ConfigError, Outcome
from labctl.engines import OpticalLoopEngine
from labctl.models.datasets import DataSource
from labctl.models.network import RowTableNetwork
from labctl.physics import FittedLaw, FittedMap
from labctl.programs import LoopProgram, LoopSegment
from labctl_calibration.operating import rooted

FloatArray = NDArray[np.float64]
KIND = "fine-tuning"
SAMPLES = 64  # of a step's batch
RATE, LAST_RATE = 4e-3, 4e-4  # Adam's, of biases (units) and logarithms of gains
KEEP = 0.5  # share of the iterations, the last ones, over which tables are averaged
LEAST_ITERATIONS = 4


@dataclass(frozen=True, eq=False)
class FineTuned:
    """program: with the tables that were found. calls: settles of a sample that the device made, of `budget`
    allowed. missed [iterations, K]: rms that the machine missed the roots by, units, step by step.
    """

    program: LoopProgram
    calls: int
    budget: int
    missed: FloatArray

    def record(self, device_serial: str, upstream: tuple[str, ...]) -> CalibrationRecord:
        """What it took, for the store: calls, budget and the program it ended with, resting on the bench's
        records.
        """
        return CalibrationRecord(
            kind=KIND,
            device_serial=device_serial,
            taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            arrays={"missed_units": self.missed},
            settings={"calls": self.calls, "budget": self.budget, "program": self.program.hash},
            upstream=upstream,
        )


def fine_tune(
    engine: OpticalLoopEngine,
    program: LoopProgram,
    teacher: RowTableNetwork,
    source: DataSource,
    *,
    budget: int,
    samples: int = SAMPLES,
    rate: float = RATE,
    seed: int = 0,
) -> FineTuned:
    """Tune biases and gains of the implicit steps of the program that the engine has loaded.

    The engine's bench was brought up, so that its load measured the frame's map, which the twin's gradient
    goes through. Samples that saturate or diverge are left out. `teacher` says what F is wanted.
    Raises ConfigError for a budget that is too small to learn from.
    """
    steps = [k for k, segment in enumerate(program.segments) if segment.kind == "implicit"]
    iterations = budget // max(1, len(steps) * samples)
    if iterations < LEAST_ITERATIONS:
        least = LEAST_ITERATIONS * len(steps) * samples
        raise ConfigError(
            f"budget is {budget} device calls; allowed: {least} or more, {LEAST_ITERATIONS} iterations of "
            f"{len(steps)} steps with {samples} samples"
        )
    light = engine.measured_map()
    rng = np.random.Generator(np.random.Philox(key=seed + 808))
    tables = {k: _Tables.of(program.segments[k]) for k in steps}
    adam = torch.optim.Adam([one for t in tables.values() for one in t.free], lr=rate, betas=(0.9, 0.98))
    missed, calls = np.zeros((iterations, len(steps))), 0
    for at in range(iterations):
        for group in adam.param_groups:
            group["lr"] = LAST_RATE + (rate - LAST_RATE) * 0.5 * (1 + np.cos(np.pi * at / iterations))
        adam.zero_grad()
        for column, k in enumerate(steps):
            ids = np.arange(at * samples, (at + 1) * samples)
            loss = _missed(engine, program, k, tables[k], light, teacher, source, ids, rng)
            torch.autograd.backward(loss)
            missed[at, column] = float(loss.detach().sqrt())
            calls += samples
        adam.step()
        if at >= iterations * (1 - KEEP):
            for table in tables.values():
                table.keep()
    segments = list(program.segments)
    for k in steps:
        segments[k] = tables[k].averaged(segments[k])
    return FineTuned(replace(program, segments=tuple(segments)), calls, budget, missed)


def _missed(
    engine: OpticalLoopEngine,
    program: LoopProgram,
    k: int,
    tables: _Tables,
    light: FittedMap,
    teacher: RowTableNetwork,
    source: DataSource,
    ids: NDArray[np.int64],
    rng: np.random.Generator,
) -> torch.Tensor:
    """Mean square of what rows u miss their roots by in step k (units), with the twin's gradient.

    In units of the state: what a step misses at a high level shrinks with the level on the way to samples.
    """
    segment, state = program.segments[k], program.placement.state
    x, batch = rooted(program, k, teacher, source, ids, rng)
    result = engine.solve(tables.given(segment), batch)
    good = (result.outcome != Outcome.SATURATED) & (result.outcome != Outcome.DIVERGED)
    good &= np.abs(result.z[:, state]).max(axis=1) < engine.electronics.spec.adc.range_units
    if not good.any():
        raise ConfigError(f"step {k}: no sample stays in the machine's range; allowed: one or more")
    row = np.zeros(len(x), np.int64) if batch.labels is None else batch.labels
    scale_out = torch.from_numpy(program.matrix_of(segment).scale_out)
    # the gain that the codes came to, with the gradient of the one that was asked for
    gain = torch.from_numpy(np.array(result.applied.gain)) * tables.factor()
    bias = tables.values(segment)[1]
    injected = torch.zeros(len(x), program.placement.n_channels, dtype=torch.float64)
    injected[:, state] = torch.from_numpy(segment.inject_scale * batch.inject)
    law = FittedLaw(
        light,
        (gain[row] * scale_out)[good],
        torch.from_numpy(segment.leak)[None],
        (bias[row] + injected)[good],
    )
    z = law.held(torch.from_numpy(result.z[good]))
    return (z[:, state] - torch.from_numpy(segment.inject_scale * x[good])).square().mean()


@dataclass(eq=False)
class _Tables:
    """What is added to a step's biases and to the logarithms of its gains [n], for all classes alike."""

    free: tuple[torch.Tensor, torch.Tensor]
    total: tuple[torch.Tensor, torch.Tensor]
    kept: int = 0

    @classmethod
    def of(cls, segment: LoopSegment) -> _Tables:
        n = len(segment.leak)
        zeros = [torch.zeros(n, dtype=torch.float64) for _ in range(4)]
        return cls((zeros[0].requires_grad_(), zeros[1].requires_grad_()), (zeros[2], zeros[3]))

    def values(self, segment: LoopSegment) -> tuple[torch.Tensor, torch.Tensor]:
        """Gain and bias [C, n]."""
        bias, log_gain = self.free
        return (
            torch.from_numpy(segment.gain) * torch.exp(log_gain),
            torch.from_numpy(segment.bias) + bias,
        )

    def factor(self) -> torch.Tensor:
        """1 [n], with the gradient of a gain's logarithm."""
        return torch.exp(self.free[1] - self.free[1].detach())

    def given(self, segment: LoopSegment) -> LoopSegment:
        """The step as the machine gets it now."""
        gain, bias = self.values(segment)
        return replace(segment, gain=gain.detach().numpy(), bias=bias.detach().numpy())

    def keep(self) -> None:
        """Count the present values into the mean."""
        self.kept += 1
        for total, now in zip(self.total, self.free, strict=True):
            total += now.detach()

    def averaged(self, segment: LoopSegment) -> LoopSegment:
        """The step with the mean of what was kept."""
        bias, log_gain = (total / self.kept for total in self.total)
        return replace(
            segment, gain=segment.gain * np.exp(log_gain.numpy()), bias=segment.bias + bias.numpy()
        )
