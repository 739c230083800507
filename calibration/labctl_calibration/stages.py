"""The trainings that fit a network to a machine: what they have in common, and how long each is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.models.datasets import DataSource
from labctl.models.measured import MeasuredNetwork
from labctl.models.mismatched import Mismatch, MismatchedNetwork
from labctl.models.network import RowTableNetwork
from labctl.models.training import TrainSettings, optimise
from labctl.physics import FittedMap
from labctl.programs import PlacedWeights

FloatArray = NDArray[np.float64]
Tell = Callable[[str, int, int], None]
SAMPLES_PER_LEVEL = 8
SIGMA_RANGE = (0.05, 12.0)  # uniform in ln sigma: low levels, where gains are highest, count like others
FREE_BITS = 9  # of weights that move far: the rounding of the codes to come would drown the gradient


@dataclass(frozen=True)
class Stage:
    """One of the trainings: its length and learning rate."""

    what: str
    iterations: int
    rate: float


@dataclass(frozen=True, eq=False)
class Fitting:
    """What the trainings of a network have in common; gain_limit [n] is the machine's, with row scales.

    mismatch: what the machine is uncertain by, drawn anew for every batch; None: as it was measured.
    """

    data: DataSource
    teacher: RowTableNetwork
    gain_limit: FloatArray
    tell: Tell
    mismatch: Mismatch | None = None

    def through(
        self, network: RowTableNetwork, weights: PlacedWeights, light: FittedMap, bits: int = FREE_BITS
    ) -> MeasuredNetwork:
        """The network as the machine would compute it."""
        if self.mismatch is None:
            return MeasuredNetwork(network, weights, light, bits=bits, gain_limit=self.gain_limit)
        return MismatchedNetwork(
            network, weights, light, self.mismatch, bits=bits, gain_limit=self.gain_limit
        )

    def trained(
        self,
        stage: Stage,
        network: RowTableNetwork,
        weights: PlacedWeights,
        light: FittedMap,
        bits: int = FREE_BITS,
    ) -> MeasuredNetwork:
        """The same, trained."""
        through = self.through(network, weights, light, bits)
        self.improve(stage, through)
        return through

    def improve(self, stage: Stage, through: MeasuredNetwork) -> float:
        """Train a network in place; the mean loss of its last iterations."""
        settings = TrainSettings(
            objective=self.teacher.preconditioning.kind, iterations=stage.iterations,
            samples_per_level=SAMPLES_PER_LEVEL, sigma_law="loguniform", sigma_low=SIGMA_RANGE[0],
            sigma_high=SIGMA_RANGE[1], learning_rate=stage.rate, warmup=min(100, stage.iterations // 2),
        )  # fmt: skip
        losses = optimise(
            through, self.data, settings, seeds=(0,), teacher=self.teacher,
            progress=lambda event: self.tell(stage.what, event.done, event.total),
        )  # fmt: skip
        return float(losses[-1, 0])
