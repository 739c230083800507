"""The loop over steps: a scheme, a schedule, optional host noise, a final denoise; observers only look."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError
from labctl.physics import Stream
from labctl.sampling.schemes import Machine, Memory, Scheme

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class StepSeen:
    """What an observer sees after each step: x is at sigma_next. The final denoise has sigma_next = 0.

    denoised [B, d]: the last D that the step heard of, from an evaluation or as (z - c) / g of a settle.
    """

    step: int
    sigma: float
    sigma_next: float
    x: FloatArray
    denoised: FloatArray


Observer = Callable[[StepSeen], None]


Ending = Literal["denoise", "last-settle"]


class Listening:
    """A machine that remembers the last D: an evaluation's, or what a settle says of it, (z - c) / g."""

    def __init__(self, machine: Machine, x: FloatArray) -> None:
        self._machine = machine
        self.denoised = x

    def settle(self, c: FloatArray, g: float, sigma: float, start: FloatArray) -> FloatArray:
        z = self._machine.settle(c, g, sigma, start)
        self.denoised = (z - c) / g
        return z

    def denoise(self, x: FloatArray, sigma: float) -> FloatArray:
        self.denoised = self._machine.denoise(x, sigma)
        return self.denoised


@dataclass(frozen=True, eq=False)
class Sampler:
    """A scheme on a schedule. eta in 0 .. 1 adds fresh host noise after each step (0 = the ODE).

    ending "denoise" evaluates D once more at sigma_min; "last-settle" takes the D that the last settle found
    (at its own sigma), which costs nothing and is all a chain without the host can do.

    With eta > 0 each step goes to sigma_down and noise of sigma_up is added, sigma_down^2 + sigma_up^2 =
    sigma'^2, sigma_up = eta sigma' sqrt(1 - rho^2) (Song et al. 2020, equation 16, in EDM coordinates).
    """

    scheme: Scheme
    sigmas: FloatArray
    eta: float = 0.0
    ending: Ending = "denoise"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"eta is {self.eta}; allowed: 0 to 1")
        if self.eta > 0 and not self.scheme.one_step:
            raise ConfigError(f"eta is {self.eta}, but {self.scheme.name} reuses earlier slopes; allowed: 0")

        if self.ending == "last-settle" and not self.scheme.settles:
            raise ConfigError(
                f"ending is 'last-settle', but {self.scheme.name} never settles; allowed: 'denoise'"
            )

    @property
    def steps(self) -> int:
        """N, without the final denoise."""
        return len(self.sigmas) - 1

    def level(self, k: int) -> float:
        """The noise level of x before step k (k = N: before the final denoise)."""
        return float(self.sigmas[k])

    def split(self, k: int) -> tuple[float, float]:
        """(sigma_down, sigma_up) of step k."""
        sigma, sigma_next = float(self.sigmas[k]), float(self.sigmas[k + 1])
        up = self.eta * sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)
        return math.sqrt(sigma_next**2 - up**2), up

    def run(
        self,
        machine: Machine,
        x: FloatArray,
        *,
        sample_id: IntArray,
        seed: int,
        observe: Observer | None = None,
    ) -> FloatArray:
        """Samples [B, d] at sigma 0 from x [B, d] at sigmas[0]; the final denoise is counted as a step."""
        memory = Memory()
        heard = Listening(machine, x)
        for k in range(self.steps):
            sigma = float(self.sigmas[k])
            down, up = self.split(k)
            x = self.scheme.step(heard, x, sigma, down, memory)
            if up > 0:
                x = x + fresh_noise(sample_id, x.shape[1], seed=seed, step=k, sigma_up=up)
            if observe is not None:
                observe(StepSeen(k, sigma, float(self.sigmas[k + 1]), x, heard.denoised))
        last = float(self.sigmas[-1])
        out = machine.denoise(x, last) if self.ending == "denoise" else heard.denoised
        if observe is not None:
            observe(StepSeen(self.steps, last, 0.0, out, out))
        return out


def fresh_noise(sample_id: IntArray, dimension: int, *, seed: int, step: int, sigma_up: float) -> FloatArray:
    """What a stochastic sampler adds after a step [B, d]: of each sample's own, whoever steps it."""
    normal = Stream(seed, "host", "stochastic sampler").normal(sample_id, dimension, step=step)
    return np.asarray(sigma_up * normal.numpy().astype(np.float64))


def start_noise(
    sample_id: IntArray, dimension: int, *, seed: int, sigma_max: float, sigma_data: float = 1.0
) -> FloatArray:
    """x [B, d] at sigma_max: the Gaussian with the noised data's own variance, sigma_max^2 + sigma_data^2.

    Paired: the same sample id and seed give the same start whatever runs on it.
    """
    normal = Stream(seed, "host", "start noise").normal(sample_id, dimension).numpy().astype(np.float64)
    return np.asarray(normal * math.hypot(sigma_max, sigma_data))
