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
OPERATING = (STEPS, SIGMA_MAX, SIGMA_MIN, WAIT_TAU, PRIOR_WEIGHT, PRIOR_OFFSET)


@dataclass(frozen=True, eq=False)
class Operated:
    """Settles at rest: states z [B, n], light y [B, n] that they imply (a full-scale weight's), and how much
    each says of it, in inverse standard deviations up to a factor [B, n] (0: nothing).
    """

    z: FloatArray
    y: FloatArray
    weight: FloatArray


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
    seen, state = [], program.placement.state
    for k, segment in enumerate(program.segments):
        _, batch = rooted(program, k, teacher, source, np.arange(share), rng)
        inject, labels = batch.inject, batch.labels
        result = engine.solve(segment, batch, wait_us=WAIT_TAU * engine.electronics.spec.tau_us)
        gain, leak = np.asarray(result.applied.gain), np.asarray(result.applied.leak)
        if len(gain) > 1:
            gain = gain[labels]
        gain = gain * program.matrix_of(segment).scale_out
        bias = segment.bias_of(inject, labels, state)
        limit = CLEAR_OF_RANGE * engine.electronics.spec.adc.range_units
        counts = (gain > 1e-6) & (np.abs(result.z) < limit)
        counts &= (result.outcome != Outcome.SATURATED)[:, None]  # what was injected is not what acted
        y = np.where(counts, (leak * result.z - bias) / np.where(counts, gain, 1.0), 0.0)
        seen.append((result.z, y, np.where(counts, gain, 0.0)))
    z, y, weight = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    return Operated(z, y, weight)


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
    """A map, and what is still uncertain of its first powers and offsets after all that was seen.

    root [n, n + 1, n + 1]: row by row, a matrix L with L L' the covariance of (its first powers, its offset).
    """

    light: FittedMap
    root: FloatArray

    def drawn(self, rng: np.random.Generator, wider: float = 1.0) -> FittedMap:
        """One map that might be it; `wider` times the standard deviations."""
        n = len(self.root)
        change = wider * np.einsum("rij,rj->ri", self.root, rng.standard_normal((n, n + 1)))
        powers = self.light.powers.clone()
        powers[0] += torch.from_numpy(change[:, :n])
        return replace(self.light, powers=powers, offset=self.light.offset + torch.from_numpy(change[:, n]))


def corrected(light: FittedMap, seen: Operated) -> FittedMap:
    """The map with first powers and offsets moved to what was seen: `known`'s mean."""
    return known(light, seen).light


def known(light: FittedMap, seen: Operated) -> Known:
    """The map with first powers and offsets moved to what was seen, and how well that knows them.

    Ridge regression, row by row: changes of about PRIOR_WEIGHT and PRIOR_OFFSET are taken for likely, and the
    residuals' own size weighs what was seen against that. The uncertainty is the posterior's; rows of which
    nothing was seen keep the prior's.
    """
    phi = light.curve(torch.from_numpy(seen.z)).numpy()
    design = np.concatenate([phi, np.ones((len(phi), 1))], axis=1)
    prior = np.append(np.full(phi.shape[1], PRIOR_WEIGHT), PRIOR_OFFSET)
    missed = seen.y - light(torch.from_numpy(seen.z)).numpy()
    powers, offset = light.powers.clone(), light.offset.clone()
    root = np.repeat(np.diag(prior)[None], phi.shape[1], axis=0)
    for row in range(phi.shape[1]):
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
        powers[0, row] += torch.from_numpy(change[:-1])
        offset[row] += float(change[-1])
        # precision = R' R, so that R^-1 R^-T sqrt(variance)^2 is the covariance
        root[row] = np.sqrt(variance) * np.linalg.inv(np.linalg.cholesky(precision)).T
    return Known(replace(light, powers=powers, offset=offset), root)


def _denoised(
    network: RowTableNetwork, x: FloatArray, sigma: float, labels: NDArray[np.int64] | None
) -> FloatArray:
    of = None if labels is None else torch.from_numpy(labels)
    with torch.no_grad():
        return network.denoise(torch.from_numpy(x), sigma, of).numpy()
