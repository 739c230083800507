"""Phase noise: a Wiener increment for every oscillator and step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices.errors import ProgramError
from labctl.physics.philox import Stream


@dataclass(frozen=True, eq=False)
class PhaseNoise:
    """Wiener noise of every phase: variance 2 D t after t units without any force.

    diffusion: D, rad^2 per unit time. Drawn once a step for sample_id [B] and held as a force through all its
    stages: exact for free phases; variances about an equilibrium then err in the second order of the step
    (Heun, RK4), where an increment at the step's end would err in the first. first_step: the counter of the
    first step, so that a run in two parts draws what one run would.
    """

    diffusion: float
    stream: Stream
    sample_id: NDArray[np.int64]
    first_step: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.diffusion) and self.diffusion >= 0):
            raise ProgramError(
                f"phase noise: diffusion is {self.diffusion}; allowed: 0 or more, rad^2 per unit time"
            )

    def force(self, step: float) -> float:
        """Standard deviation (rad per unit time) of the force held through a step of this length (units)."""
        return math.sqrt(2 * self.diffusion / step)

    def draw(self, step_number: int, theta: Tensor) -> Tensor:
        """Standard normals like theta [B, n] for one step."""
        return self.stream.normal(
            self.sample_id, theta.shape[1], step=self.first_step + step_number, dtype=theta.dtype
        ).to(theta.device)
