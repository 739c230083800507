"""A whole diffusion step as one equilibrium: oscillators are held by anchors at x, and come to rest at x'.

The machine that settles knows phases alone. This module is where the sampler's coordinates become them: x at
sigma is x_VP = alpha x (see `parametrisation.alpha_of`), a phase is RAD_PER_PIXEL x_VP, and the oscillators
that carry a picture are drawn to it by a first-harmonic injection of their level's strength.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError, ProgramError
from labctl.programs.pixel_maps import RAD_PER_PIXEL, pixels_of
from labctl.sampling.parametrisation import alpha_of
from labctl.sampling.sampler import Sampler, start_noise
from labctl.sampling.schedules import sigmas
from labctl.sampling.schemes import scheme

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
PIXEL_MAP = "linear"
_SAME = 1e-9  # relative: the same noise level, whoever computed it


@dataclass(frozen=True, eq=False)
class AnchoredChain:
    """K levels of settling: level k takes x at sigmas[k] to x at sigmas[k + 1]; the last one ends at 0.

    sigmas [K + 1] descend (x = x0 + sigma e). strength [K, m]: of the anchors of the m visible oscillators,
    units. visible [m] among n oscillators; the others are held by the program's own injection alone.
    segments [K]: which segment of the program plays at each level.
    """

    sigmas: FloatArray
    strength: FloatArray
    visible: IntArray
    n: int
    segments: IntArray

    def __post_init__(self) -> None:
        levels, m = len(self.segments), len(self.visible)
        if self.sigmas.shape != (levels + 1,) or self.sigmas[-1] != 0 or (np.diff(self.sigmas) >= 0).any():
            raise ProgramError(
                f"chain: sigmas are {self.sigmas}; allowed: {levels + 1} levels that descend to 0"
            )
        if self.strength.shape != (levels, m) or not (np.isfinite(self.strength) & (self.strength > 0)).all():
            raise ProgramError(
                f"chain: strength has shape {self.strength.shape}; allowed: ({levels}, {m}), above 0"
            )

    @property
    def levels(self) -> int:
        """K: equilibria of a sample."""
        return len(self.segments)

    def sampler(self) -> Sampler:
        """K - 1 implicit Euler steps, and the last level as the final denoise."""
        return Sampler(scheme("implicit-euler"), self.sigmas[:-1])

    def start(self, sample_id: IntArray, *, seed: int) -> FloatArray:
        """x [B, m] at sigmas[0], for `Sampler.run`."""
        return start_noise(sample_id, len(self.visible), seed=seed, sigma_max=float(self.sigmas[0]))

    def level(self, sigma: float, sigma_next: float) -> int:
        """Which level goes from sigma to sigma_next; ConfigError where none does."""
        near = np.isclose(self.sigmas[:-1], sigma, rtol=_SAME, atol=0)
        near &= np.isclose(self.sigmas[1:], sigma_next, rtol=_SAME, atol=0)
        if not near.any():
            raise ConfigError(
                f"no level goes from sigma {sigma:.6g} to {sigma_next:.6g}; allowed: neighbours of "
                f"{', '.join(f'{s:.4g}' for s in self.sigmas)}"
            )
        return int(near.argmax())

    def anchors(self, level: int, phase: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(a, b) [B, n], units, that draw the visible oscillators to `phase` [B, m] (rad)."""
        a, b = np.zeros((2, len(phase), self.n))
        a[:, self.visible] = self.strength[level] * np.sin(phase)
        b[:, self.visible] = self.strength[level] * np.cos(phase)
        return a, b

    def released(self, phase: FloatArray) -> FloatArray:
        """Start phases [B, n]: the visible ones at their anchors, the others at 0."""
        theta = np.zeros((len(phase), self.n))
        theta[:, self.visible] = phase
        return theta


def cosine_levels(levels: int, sigma_max: float) -> FloatArray:
    """sigmas [K + 1] from sigma_max to 0, uniform in the angle arctan sigma."""
    if levels < 2:
        raise ConfigError(f"levels is {levels}; allowed: 2 or more")
    last = float(np.tan(np.arctan(sigma_max) / levels))
    return np.append(sigmas("cosine", levels - 1, sigma_max, last), 0.0)


class Settler(Protocol):
    """Whatever lets oscillators come to rest: a board, or the law on the host."""

    def rest(
        self, level: int, segment: int, start: FloatArray, anchors: tuple[FloatArray, FloatArray]
    ) -> FloatArray:
        """Phases [B, n] (rad) where `segment` takes them from `start` [B, n], held by `anchors`."""
        ...


@dataclass(frozen=True, eq=False)
class RestSeen:
    """One equilibrium as it happened: its level, what held it [B, n] twice, the phases as read [B, n]."""

    level: int
    anchors: tuple[FloatArray, FloatArray]
    phases: FloatArray


class EquilibriumMachine:
    """A machine for `Sampler.run` whose settles are whole steps: there is no digital mixing of x and D."""

    def __init__(
        self, chain: AnchoredChain, settler: Settler, *, seen: Callable[[RestSeen], None] | None = None
    ) -> None:
        self._chain, self._settler, self._seen = chain, settler, seen

    def settle(self, c: FloatArray, g: float, sigma: float, start: FloatArray) -> FloatArray:
        """x at `sigma` of `start` at sigma / (1 - g): the board's own step, of implicit Euler's form.

        ConfigError where the scheme asks for any other injection than (1 - g) start.
        """
        if not np.allclose(c, (1 - g) * start, rtol=1e-9, atol=1e-9 * sigma):
            raise ConfigError(
                "the scheme injects something else than its last state; allowed on oscillators: "
                "implicit-euler"
            )
        return self._step(start, sigma / (1 - g), sigma)

    def denoise(self, x: FloatArray, sigma: float) -> FloatArray:
        """The last level: x at 0 of x at `sigma`."""
        return self._step(x, sigma, 0.0)

    def _step(self, x: FloatArray, sigma: float, sigma_next: float) -> FloatArray:
        chain = self._chain
        level = chain.level(sigma, sigma_next)
        phase = RAD_PER_PIXEL * alpha_of(sigma) * x
        anchors = chain.anchors(level, phase)
        rest = self._settler.rest(level, int(chain.segments[level]), chain.released(phase), anchors)
        if self._seen is not None:
            self._seen(RestSeen(level, anchors, rest))
        return pixels_of(PIXEL_MAP, rest[:, chain.visible]) / alpha_of(sigma_next)
