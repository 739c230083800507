"""Noise-credited sampling: what a settle adds to the state is noise the sampler knows about, so it counts it.

A step that aims at sigma' and is read with noise of covariance C (x units, after window and extrapolation)
leaves the state at the level sqrt(sigma'^2 + s^2), s^2 the mean variance of an axis: independent Gaussian
noise is what a diffusion model is made to remove, so the next step starts from there. This is the stochastic
step (Song et al. 2020, equation 16; Karras et al. 2022, algorithm 2) with sigma_down = sigma', sigma_up = s
and no noise from the host. Read noise does not shrink with sigma, so settles cannot end below it. An
evaluation's noise does shrink (c_out stands in front of it): where settles would end in their own noise, the
last levels are evaluations, with what noise inside the loop does to their mean measured and taken out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError
from labctl.sampling.sampler import IntArray, Listening, Observer, Sampler, StepSeen
from labctl.sampling.schedules import Schedule, sigmas
from labctl.sampling.schemes import SCHEMES, Machine, Memory, Scheme

FloatArray = NDArray[np.float64]
CREDITED_SCHEMES = ("implicit-midpoint", "implicit-euler")
CREDITED_STEPS = 8  # fewest that pay: with 4 the coarse finish costs more than the noise did
REST = 1.4  # settles end where the level is so many times their own noise
EVALUATED = 0.5  # share of steps that are evaluations, where the noise asks for any
STOP_ROUNDS = 3  # noise depends weakly on where the settles end


@dataclass(frozen=True)
class EvaluationError:
    """Mean of the machine's D over its noise: D + on_denoised D + on_residual (x - D)."""

    on_denoised: float = 0.0
    on_residual: float = 0.0

    def corrected(self, seen: FloatArray, x: FloatArray) -> FloatArray:
        """D [B, d] from what the machine gave for x."""
        return np.asarray((seen - self.on_residual * x) / (1 + self.on_denoised - self.on_residual))


class NoiseProbe(Protocol):
    """What credit must know of a machine; measured before the run, at typical points."""

    def state_noise(self, scheme: Scheme, sigma: float, sigma_next: float) -> FloatArray:
        """Covariance [d, d] of x' after one step of `scheme` over repeats (x units squared)."""
        ...

    def evaluation_error(self, sigma: float) -> EvaluationError:
        """How an evaluation at `sigma` is off on average."""
        ...


def axis_noise(covariance: FloatArray) -> float:
    """Standard deviation, an axis: the root mean square over all directions."""
    return math.sqrt(float(np.trace(covariance)) / len(covariance))


@dataclass(frozen=True, eq=False)
class CreditedSampler(Sampler):
    """`scheme` down to sigmas[settled], evaluations (DPM-Solver++(2M)) below, a final denoise.

    sigmas are the levels aimed at; noise[k] [d, d] is the covariance of what settled step k adds. errors: one
    for each evaluation, the final one last.
    """

    noise: tuple[FloatArray, ...] = ()
    errors: tuple[EvaluationError, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eta > 0 or self.ending != "denoise" or self.scheme.name not in CREDITED_SCHEMES:
            raise ConfigError(
                f"noise credit with eta {self.eta:g}, ending {self.ending!r}, scheme {self.scheme.name!r}; "
                f"allowed: 0, 'denoise', {' or '.join(CREDITED_SCHEMES)}"
            )
        if len(self.errors) != self.steps - self.settled + 1:
            raise ConfigError(
                f"noise credit has {len(self.errors)} evaluation errors; "
                f"allowed: {self.steps - self.settled + 1}, one an evaluation"
            )

    @property
    def settled(self) -> int:
        """Steps that settle."""
        return len(self.noise)

    def level(self, k: int) -> float:
        """The noise level that x really has before step k (k = N: before the final denoise)."""
        added = axis_noise(self.noise[k - 1]) if 0 < k <= self.settled else 0.0
        return math.hypot(float(self.sigmas[k]), added)

    def run(
        self,
        machine: Machine,
        x: FloatArray,
        *,
        sample_id: IntArray,
        seed: int,
        observe: Observer | None = None,
    ) -> FloatArray:
        """Samples [B, d] at sigma 0 from x [B, d] at sigmas[0]; observers see the credited levels."""
        heard = Listening(_Corrected(machine, self.errors), x)
        memory = Memory()
        for k in range(self.steps):
            how = self.scheme if k < self.settled else SCHEMES["dpm-solver++2m"]
            x = how.step(heard, x, self.level(k), float(self.sigmas[k + 1]), memory)
            if observe is not None:
                observe(StepSeen(k, self.level(k), self.level(k + 1), x, heard.denoised))
        last = self.level(self.steps)
        out = heard.denoise(x, last)
        if observe is not None:
            observe(StepSeen(self.steps, last, 0.0, out, out))
        return out


class _Corrected:
    """A machine whose evaluations have their mean error taken out, one after another."""

    def __init__(self, machine: Machine, errors: tuple[EvaluationError, ...]) -> None:
        self._machine, self._errors = machine, iter(errors)

    def settle(self, c: FloatArray, g: float, sigma: float, start: FloatArray) -> FloatArray:
        return self._machine.settle(c, g, sigma, start)

    def denoise(self, x: FloatArray, sigma: float) -> FloatArray:
        return next(self._errors).corrected(self._machine.denoise(x, sigma), x)


def credited_sampler(
    probe: NoiseProbe, scheme: Scheme, schedule: Schedule, steps: int, sigma_max: float, sigma_min: float
) -> CreditedSampler:
    """N steps and a final denoise, with levels that credit the noise `probe` measures.

    Settles go down to REST times their own noise, and half of the steps are evaluations from there to
    sigma_min, even in ln sigma; where sigma_min is above that, every step settles. ConfigError for N = 1, and
    for noise that leaves no room below sigma_max. Fewer than CREDITED_STEPS are for comparisons alone.
    """
    if steps < 2:
        raise ConfigError(f"steps is {steps}; allowed with noise credit: 2 or more")
    settled = steps - max(1, round(steps * EVALUATED))
    stop = sigma_min
    for _ in range(STOP_ROUNDS):
        levels = sigmas(schedule, settled, sigma_max, stop)
        own = axis_noise(probe.state_noise(scheme, float(levels[-2]), stop))
        stop = max(sigma_min, REST * own)
        if stop >= sigma_max:
            raise ConfigError(
                f"noise credit: the machine adds {own:.3g} at the last settle; "
                f"allowed: below {sigma_max / REST:.3g}, sigma_max / {REST:g}"
            )
    if stop <= sigma_min:
        settled = steps
    levels = sigmas(schedule, settled, sigma_max, stop)
    level, added = sigma_max, []
    for aim in levels[1:]:
        added.append(probe.state_noise(scheme, level, float(aim)))
        level = math.hypot(float(aim), axis_noise(added[-1]))
    evaluated = steps - settled
    tail = level * (sigma_min / level) ** (np.arange(1, evaluated + 1) / max(1, evaluated))
    errors = tuple(probe.evaluation_error(float(sigma)) for sigma in (level, *tail))
    return CreditedSampler(scheme, np.concatenate([levels, tail]), noise=tuple(added), errors=errors)
