"""Before a run: within which interval its quality will lie, from the fitted twin of its bench.

The quality is the run's own E (conventions, section 7): of its own start noise, against its own reference, so
that the sampling error of both is in the forecast and not in its width. The run's program is computed on many
machines that the bench might be: the map of its frame as compensation left it known, moved by what that is
uncertain by (its posterior), with a draw of the noise budget and of the frame's own flicker each. The
interval is that of the draws' E.

What no record of the bench states was found on other benches than those that the intervals were scored on
(`benchmarks/forecast.py`): how much wider than stated weights and offsets scatter, which every machine draws
anew from what those benches leave open of it, and what showing the frame anew does to the offsets in front
of the gain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.models.metrics import EnergyReference
from labctl.models.network import RowTableNetwork
from labctl.physics import FittedMap
from labctl.programs import CodedTables, LoopProgram
from labctl.sampling import LoopMachine, Sampler
from labctl_calibration.frame_flicker import WINDOWS
from labctl_calibration.operating import Known
from labctl_calibration.optical.twin_noise import TwinNoise
from labctl_calibration.program_twin import Machine, ProgramTwin

FloatArray = NDArray[np.float64]
SHARE = 0.90  # of runs whose quality is to lie within the interval
DRAWS = 39  # machines; with so many the second from either end bounds 90%
MOST = 4000  # samples, and reference points, that are computed; of more, the first
WIDER, WIDER_SD = 5.1, 0.11  # middle, and standard deviation of the logarithm
SHOWN_ANEW = 0.0
METHOD = (SHARE, DRAWS, MOST, WIDER, WIDER_SD, SHOWN_ANEW, WINDOWS)


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be run. program and tables: as the machine gets them. x_start [B, d]; reference [m, d]:
    what the samples are scored against. labels [B]: classes, None without.
    """

    network: RowTableNetwork
    program: LoopProgram
    tables: tuple[CodedTables, ...]
    sampler: Sampler
    x_start: FloatArray
    labels: NDArray[np.int64] | None
    reference: FloatArray
    seed: int


@dataclass(frozen=True, eq=False)
class BenchTwin:
    """The fitted twin of the task's frame, in the program's rows: its map as `known`; `probed`, the map that
    the host measures at every load; noise of a settle; what the converter reads, units.
    """

    known: Known
    probed: FittedMap
    noise: TwinNoise
    range_units: float


@dataclass(frozen=True)
class Interval:
    """low to high: where E of the run is expected with probability SHARE; middle: half lie below it. draws:
    machines, samples: of each.
    """

    low: float
    middle: float
    high: float
    draws: int
    samples: int

    def holds(self, value: float) -> bool:
        """Whether a measured E lies within."""
        return self.low <= value <= self.high


def forecast(
    task: Task, bench: BenchTwin, tell: Callable[[str, int, int], None] = lambda *_: None
) -> Interval:
    """The interval; deterministic. `tell` reports its progress."""
    energies = energies_of(task, bench, tell=tell)
    low, middle, high = np.quantile(energies, [(1 - SHARE) / 2, 0.5, (1 + SHARE) / 2], method="weibull")
    return Interval(float(low), float(middle), float(high), len(energies), min(len(task.x_start), MOST))


def energies_of(
    task: Task,
    bench: BenchTwin,
    *,
    draws: int = DRAWS,
    wider: float = WIDER,
    wider_sd: float = WIDER_SD,
    shown_anew: float = SHOWN_ANEW,
    tell: Callable[[str, int, int], None] = lambda *_: None,
) -> FloatArray:
    """E of the task on `draws` machines that the bench might be [draws]. wider_sd: of wider's logarithm."""
    reference = EnergyReference.of(task.reference[:MOST])
    rng = np.random.Generator(np.random.Philox(key=task.seed + 1717))
    scales = np.random.Generator(np.random.Philox(key=task.seed + 1718))
    widths = wider * np.exp(wider_sd * scales.standard_normal(draws))
    twin = ProgramTwin(task.program, task.tables, Machine(bench.known.light, bench.probed), bench.range_units)
    _run(task, twin)
    found = np.zeros(draws)
    for k in range(draws):
        tell("forecast", k, draws)
        twin.become(_drawn(bench, rng, widths[k], shown_anew, k))
        found[k] = reference.distance(_run(task, twin))
    return found


def _drawn(bench: BenchTwin, rng: np.random.Generator, wider: float, shown_anew: float, draw: int) -> Machine:
    light = bench.known.drawn(rng, wider)
    moved = torch.from_numpy(shown_anew * rng.standard_normal(len(light.offset)))
    # the host measures the offsets of every load, and knows this one's
    return Machine(
        replace(light, offset=light.offset + moved),
        replace(bench.probed, offset=bench.probed.offset + moved),
        bench.noise,
        draw,
    )


def _run(task: Task, twin: ProgramTwin) -> FloatArray:
    x = task.x_start[:MOST]
    ids = np.arange(len(x))
    labels = None if task.labels is None else task.labels[:MOST]
    machine = LoopMachine(twin, task.network, task.program, labels=labels, sample_id=ids)
    with torch.no_grad():
        return task.sampler.run(machine, x, sample_id=ids, seed=task.seed)
