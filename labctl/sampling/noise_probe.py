"""What a loop adds to states and evaluations, measured through its engine alone, at typical points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.engines import FixedPointEngine
from labctl.physics import Stream
from labctl.programs import LoopProgram
from labctl.sampling.compile import Ask, segment_of
from labctl.sampling.credit import EvaluationError
from labctl.sampling.machines import HostMachine, LoopMachine
from labctl.sampling.network import LoopNetwork
from labctl.sampling.sampler import start_noise
from labctl.sampling.schemes import Memory, Scheme

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
NOISE_POINTS, NOISE_REPEATS = 64, 32
ERROR_POINTS = 2048
FIRST_ID = 2**30  # sample ids, and so draws, that no run's samples have


@dataclass(frozen=True, eq=False)
class LoopProbe:
    """Measures on an engine that has loaded `program`: any chain of `network`, on one matrix."""

    engine: FixedPointEngine
    network: LoopNetwork
    program: LoopProgram
    tolerance: float

    def state_noise(self, scheme: Scheme, sigma: float, sigma_next: float) -> FloatArray:
        """Covariance [d, d] of x' over repeats: the median over points, element by element (a point on a
        ridge between modes shows jumps, not noise). Standard deviations are good to about 3%.
        """
        x, labels = self._typical(sigma, NOISE_POINTS)
        repeated = np.repeat(x, NOISE_REPEATS, axis=0)
        own = None if labels is None else np.repeat(labels, NOISE_REPEATS)
        ended = scheme.step(self._machine(own, len(repeated)), repeated, sigma, sigma_next, Memory())
        around = ended.reshape(NOISE_POINTS, NOISE_REPEATS, -1)
        around = around - around.mean(axis=1, keepdims=True)
        each = np.einsum("pri,prj->pij", around, around) / (NOISE_REPEATS - 1)
        values, axes = np.linalg.eigh(np.median(each, axis=0))
        return np.asarray(axes * np.maximum(values, 0.0) @ axes.T)  # medians alone need not be a covariance

    def evaluation_error(self, sigma: float) -> EvaluationError:
        """Least squares of the machine's D minus the network's own on D and x - D, over points and axes."""
        x, labels = self._typical(sigma, ERROR_POINTS)
        seen = self._machine(labels, len(x)).denoise(x, sigma)
        true = HostMachine(self.network, labels=labels).denoise(x, sigma)
        columns = np.stack([true.ravel(), (x - true).ravel()], axis=1)
        found = np.linalg.lstsq(columns, (seen - true).ravel(), rcond=None)[0]
        return EvaluationError(float(found[0]), float(found[1]))

    def _typical(self, sigma: float, points: int) -> tuple[FloatArray, IntArray | None]:
        """x [points, d] at `sigma` around points the network makes, and their classes."""
        ids = FIRST_ID + np.arange(points)
        classes = self.network.n_classes
        labels = np.arange(points) % classes if classes else None
        d = self.network.sizes[0]
        drawn = start_noise(ids, d, seed=0, sigma_max=sigma)
        clean = HostMachine(self.network, labels=labels).denoise(drawn, sigma)
        normal = Stream(0, "host", "noise credit").normal(ids, d).numpy().astype(np.float64)
        return clean + sigma * normal, labels

    def _machine(self, labels: IntArray | None, batch: int) -> _Asked:
        return _Asked(self, labels, FIRST_ID + np.arange(batch))


@dataclass(frozen=True, eq=False)
class _Asked:
    """A machine for single asks: each is a program of its own on the matrix on display."""

    probe: LoopProbe
    labels: IntArray | None
    sample_id: IntArray

    def settle(self, c: FloatArray, g: float, sigma: float, start: FloatArray) -> FloatArray:
        return self._loop(Ask("implicit", g, sigma)).settle(c, g, sigma, start)

    def denoise(self, x: FloatArray, sigma: float) -> FloatArray:
        return self._loop(Ask("evaluate", 0.0, sigma)).denoise(x, sigma)

    def _loop(self, ask: Ask) -> LoopMachine:
        probe = self.probe
        placement = probe.program.placement
        segment = segment_of(probe.network, placement, ask, tolerance=probe.tolerance)
        alone = LoopProgram(probe.program.matrices, (segment,))
        return LoopMachine(probe.engine, probe.network, alone, labels=self.labels, sample_id=self.sample_id)
