"""What the frame on display does to light: y = sum_k P_k phi^k, from probes with the loop open.

Probes drive the nonlinearity's output directly, so neither the electronics' curve nor the loop is in them.
Values are drawn from what settled states show: half of the channels at the ends, the others in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError, DeviceFault, LoopElectronics

FloatArray = NDArray[np.float64]
POWERS = 3
LEAST_PROBES = 300  # twice the unknowns of an output: below that their errors say nothing
QUEUE = 2048


@dataclass(frozen=True, eq=False)
class EffectiveMap:
    """powers [K, n, n] with standard errors [K, n, n], constant and rms residual of every output [n].

    Units: photocurrent of a full-scale weight at phi = 1. probes: how many patterns were driven.
    """

    powers: FloatArray
    error: FloatArray
    constant: FloatArray
    residual: FloatArray
    probes: int


def measure_map(
    electronics: LoopElectronics, *, probes: int, seed: int = 0, powers: int = POWERS
) -> EffectiveMap:
    """Drive `probes` patterns at phi and solve for every output's coefficients by least squares.

    Offsets must have been nulled for this frame. Raises ConfigError for too few probes (naming the least
    number), DeviceFault where the detectors clip.
    """
    spec = electronics.spec
    n, top = spec.n_channels, spec.probe_dac.max_code
    least = max(LEAST_PROBES, 2 * powers * n + 2)
    if probes < least:
        raise ConfigError(
            f"probes is {probes}; {electronics.name} has {powers * n + 1} unknowns an output: allowed: "
            f"{least} or more (with fewer, every weight is uncertain by more than its own step)"
        )
    rng = np.random.Generator(np.random.Philox(key=seed + 101))
    codes = np.rint(patterns(rng, probes, n) * top).astype(np.int64)
    unit = spec.offset_dac.units_per_code
    seen = []
    for first in range(0, probes, QUEUE):
        read = electronics.probe(codes[first : first + QUEUE])
        if read.clipped.any():
            rows = np.flatnonzero(read.clipped.any(axis=0))
            raise DeviceFault(
                f"the detectors of rows {', '.join(map(str, rows[:8]))} clip; allowed: "
                f"{spec.offset_dac.range_units:g} full-scale weights",
                device=electronics.name, operation="measure_map",
            )  # fmt: skip
        seen.append(read.counts * unit)
    y = np.concatenate(seen)
    phi = codes / top
    design = np.concatenate([*(phi**k for k in range(1, powers + 1)), np.ones((probes, 1))], axis=1)
    gram = np.linalg.inv(design.T @ design)
    found = gram @ (design.T @ y)
    left = y - design @ found
    spare = probes - design.shape[1]
    residual = np.sqrt((left**2).sum(axis=0) / spare)
    # White's: what the detectors' compression leaves is largest where the light is, and so is the error
    error = np.sqrt((((design @ gram) ** 2).T @ left**2)[: powers * n] * probes / spare)
    shape = (powers, n, n)
    return EffectiveMap(
        powers=found[:-1].reshape(shape).transpose(0, 2, 1).copy(),
        error=error.reshape(shape).transpose(0, 2, 1).copy(),
        constant=found[-1],
        residual=residual,
        probes=probes,
    )


def moments(powers: int) -> FloatArray:
    """Means of phi^(j + k) over the patterns that `measure_map` drives [K, K]."""
    order = np.add.outer(np.arange(1, powers + 1), np.arange(1, powers + 1))
    return np.where(order % 2, 0.0, 0.5 + 0.5 / (order + 1))


def patterns(rng: np.random.Generator, probes: int, n: int) -> FloatArray:
    """Drives phi [probes, n]."""
    inside = rng.uniform(-1, 1, (probes, n))
    ends = np.where(rng.random((probes, n)) < 0.5, -1.0, 1.0)
    return np.where(rng.random((probes, n)) < 0.5, ends, inside)
