"""A map corrected where a program works: what its own settles say of every row.

Open-loop probes know the frame under random light. In a run the emitters carry what the program has them
carry, heat accordingly, and errors of many weights add up along the few directions that its states take. At
rest each row obeys leak z = gain y + bias, so that every settle of the program measures y of all rows there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import Outcome
from labctl.engines import Batch, OpticalLoopEngine
from labctl.models.datasets import DataSource
from labctl.models.network import RowTableNetwork
from labctl.physics import FittedMap
from labctl.programs import LoopProgram, LoopSegment
from labctl.sampling import Sampler, compile_program, scheme, sigmas
from labctl_calibration.closed_loop import CLEAR_OF_RANGE

FloatArray = NDArray[np.float64]
STEPS, SIGMA_MAX, SIGMA_MIN = 8, 10.0, 0.06  # of the chain whose settles are looked at
WAIT_TAU = 40.0
PRIOR_WEIGHT, PRIOR_OFFSET = 0.01, 0.03  # of full scale: by how much a probed map may be wrong
PRIOR_CURVED = 0.01  # the same of second and higher powers
PRIOR_WAVE = 0.1  # the same of what flicker moves a row by
OPERATING = (STEPS, SIGMA_MAX, SIGMA_MIN, WAIT_TAU, PRIOR_WEIGHT, PRIOR_OFFSET)


@dataclass(frozen=True, eq=False)
class Operated:
    """Settles at rest: states z [B, n], light y [B, n] that they imply (a full-scale weight's), and how much
    each says of it, in inverse standard deviations up to a factor [B, n] (0: nothing). queue [B]: in which of
    the queues it was; time_us [B]: when, from that one's beginning.
    """

    z: FloatArray
    y: FloatArray
    weight: FloatArray
    queue: NDArray[np.int64]
    time_us: FloatArray

    def lines(self, frequency_hz: NDArray[np.floating]) -> FloatArray:
        """Cosine and sine of every line, for each queue apart [B, 2 L queues]: nobody knows their phases."""
        phase = 2e-6 * np.pi * np.outer(self.time_us, frequency_hz)
        waves = np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
        return np.concatenate([waves * (self.queue == k)[:, None] for k in np.unique(self.queue)], axis=1)


def operated(
    engine: OpticalLoopEngine,
    network: RowTableNetwork,
    teacher: RowTableNetwork,
    source: DataSource,
    *,
    settles: int,
) -> Operated:
    """Load the network's own chain and settle noised data, an equal share of `settles` at each of its levels.

    Steps are injected what would put their roots at the data if the network computed the teacher's F. The
    engine is left with that program loaded.
    """
    how = Sampler(scheme("implicit-midpoint"), sigmas("flow", STEPS, SIGMA_MAX, SIGMA_MIN))
    program = compile_program(network, how, engine.n_channels)
    engine.load(program)
    share = max(1, settles // len(program.segments))
    rng = np.random.Generator(np.random.Philox(key=404))
    spec, seen, state = engine.electronics.spec, [], program.placement.state
    wait_us = WAIT_TAU * spec.tau_us
    time_us = (wait_us + spec.window_us) * np.arange(share)
    for k, segment in enumerate(program.segments):
        _, batch = rooted(program, k, teacher, source, np.arange(share), rng)
        inject, labels = batch.inject, batch.labels
        result = engine.solve(segment, batch, wait_us=wait_us)
        gain, leak = np.asarray(result.applied.gain), np.asarray(result.applied.leak)
        if len(gain) > 1:
            gain = gain[labels]
        gain = gain * program.matrix_of(segment).scale_out
        bias = segment.bias_of(inject, labels, state)
        limit = CLEAR_OF_RANGE * spec.adc.range_units
        counts = (gain > 1e-6) & (np.abs(result.z) < limit)
        counts &= (result.outcome != Outcome.SATURATED)[:, None]  # what was injected is not what acted
        y = np.where(counts, (leak * result.z - bias) / np.where(counts, gain, 1.0), 0.0)
        seen.append((result.z, y, np.where(counts, gain, 0.0), np.full(share, k), time_us))
    z, y, weight, queue, times = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    return Operated(z, y, weight, queue, times)


def rooted(
    program: LoopProgram,
    k: int,
    teacher: RowTableNetwork,
    source: DataSource,
    sample_id: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[FloatArray, Batch]:
    """Noised data x [B, d] at the level of segment k, and the batch that poses them: a step is injected what
    would put its root at x if the machine computed the teacher's F.
    """
    segment, state = program.segments[k], program.placement.state
    points, labels = source.draw(len(sample_id), rng)
    x = points + segment.sigma * rng.standard_normal(points.shape)
    inject = x
    if segment.kind == "implicit":
        inject = x - step_share(segment, teacher, state) * _denoised(teacher, x, segment.sigma, labels)
    start = np.zeros((len(x), program.placement.n_channels))
    start[:, state] = segment.inject_scale * x
    return x, Batch(inject, start, labels, sample_id, k)


def step_share(segment: LoopSegment, network: RowTableNetwork, state: slice) -> float:
    """g of an implicit segment: rows u of a step have leak 1 - g c_skip."""
    c_skip = network.preconditioning.coefficients(segment.sigma)[0]
    return float((1 - segment.leak[state][0]) / c_skip)


@dataclass(frozen=True, eq=False)
class Known:
    """A map, and what is still uncertain of its powers, up to the k-th, and offsets after all that was seen.

    root [n, k n + 1, k n + 1]: row by row, a matrix L with L L' the covariance of (its first powers, its
    second ones and so on, its offset).
    """

    light: FittedMap
    root: FloatArray

    def drawn(self, rng: np.random.Generator, wider: float = 1.0) -> FittedMap:
        """One map that might be it; `wider` times the standard deviations."""
        drawn = rng.standard_normal(self.root.shape[:2])
        return _moved(self.light, wider * np.einsum("rij,rj->ri", self.root, drawn))


def corrected(light: FittedMap, seen: Operated) -> FittedMap:
    """The map with first powers and offsets moved to what was seen: `known`'s mean."""
    return known(light, seen).light


def known(
    light: FittedMap, seen: Operated, *, powers: int = 1, lines_hz: NDArray[np.floating] | None = None
) -> Known:
    """The map with so many powers and the offsets moved to what was seen, and how well that knows them.

    Ridge regression, row by row: changes of about PRIOR_WEIGHT, PRIOR_CURVED and PRIOR_OFFSET are taken for
    likely, and the residuals' own size weighs what was seen against that. The uncertainty is the posterior's;
    rows of which nothing was seen keep the prior's.

    lines_hz: what flickers. The states follow the light that they are taken to explain, so that flicker would
    pass for weights; every row's own waves are fitted beside them.
    """
    phi = light.curve(torch.from_numpy(seen.z)).numpy()
    n = phi.shape[1]
    design = np.concatenate([*(phi**k for k in range(1, powers + 1)), np.ones((len(phi), 1))], axis=1)
    prior = np.repeat([PRIOR_WEIGHT, PRIOR_CURVED, PRIOR_OFFSET], [n, (powers - 1) * n, 1])
    size = len(prior)
    if lines_hz is not None and len(lines_hz):
        waves = seen.lines(lines_hz)
        design = np.concatenate([design, waves], axis=1)
        prior = np.concatenate([prior, np.full(waves.shape[1], PRIOR_WAVE)])
    missed = seen.y - light(torch.from_numpy(seen.z)).numpy()
    changes, root = np.zeros((n, size)), np.repeat(np.diag(prior[:size])[None], n, axis=0)
    for row in range(n):
        weight = seen.weight[:, row]
        counts = weight > 0
        if counts.sum() < 2:
            continue
        a, b = design[counts] * weight[counts, None], missed[counts, row] * weight[counts]
        change, variance = np.zeros(design.shape[1]), float((b**2).mean())
        for _ in range(3):
            precision = a.T @ a + np.diag(variance / prior**2)
            change = np.linalg.solve(precision, a.T @ b)
            variance = float(((b - a @ change) ** 2).mean())
        changes[row] = change[:size]
        # of all that was fitted, how powers and offset scatter, whatever the waves
        root[row] = np.linalg.cholesky(variance * np.linalg.inv(precision)[:size, :size])
    return Known(_moved(light, changes), root)


def _moved(light: FittedMap, change: FloatArray) -> FittedMap:
    """change [n, k n + 1] of its rows' first k powers and offsets."""
    n = len(change)
    powers = light.powers.clone()
    for k in range(change.shape[1] // n):
        powers[k] += torch.from_numpy(change[:, k * n : (k + 1) * n])
    return replace(light, powers=powers, offset=light.offset + torch.from_numpy(change[:, -1]))


def _denoised(
    network: RowTableNetwork, x: FloatArray, sigma: float, labels: NDArray[np.int64] | None
) -> FloatArray:
    of = None if labels is None else torch.from_numpy(labels)
    with torch.no_grad():
        return network.denoise(torch.from_numpy(x), sigma, of).numpy()
