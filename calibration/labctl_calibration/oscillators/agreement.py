"""The fitted twin of a board against the board, on random programs that no record has seen.

Random couplings, trims, anchors and starts, of one segment as generators have them. Model: where the twin
ends, in the mean over its own phase noise, which moves the mean of those that start near a watershed.
Estimator: see `labctl_calibration.agreement`, of cosines and sines of the phases, less what the
same oscillators would do uncoupled: what anchors do by themselves would make any share look good. Settling
rates are those that the settling procedure measured, which the twin is not made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, OscillatorBoard
from labctl.physics.oscillators import Inject, LaggedLaw, OscillatorLaw, evolve
from labctl_calibration.agreement import GATE, SETTLE_WITHIN, agreement
from labctl_calibration.oscillators.anchors import anchor_range, random_trims
from labctl_calibration.oscillators.frequency import KIND as FREQUENCY_KIND
from labctl_calibration.oscillators.probing import Codes, Probe, probe_image, require_locked, seen_phases
from labctl_calibration.oscillators.settling import KIND as SETTLING_KIND
from labctl_calibration.oscillators.twin import KINDS, FittedBoardTwin
from labctl_calibration.procedure import (
    Devices,
    FloatArray,
    Measured,
    Plot,
    Procedure,
    Quantity,
    Tell,
    Upstream,
    require,
)

KIND = "fitted board (agreement)"
SHARE, RATE_RATIO = "variance predicted", "settling rate, of predicted"
STEP_ID = 0x5C000009
SEGMENTS, PER_SEGMENT = 8, 128
DURATION_UNITS, STEPS = 3.0, 120
DRAWS = 4  # of the twin's noise, twice
PULL_UNITS, TRIM_UNITS, ANCHOR_UNITS = (
    1.5,
    0.45,
    (0.3, 1.5),
)  # rms of a row's couplings, largest trim, anchors


@dataclass(frozen=True, eq=False)
class Posed:
    """Samples of one segment of what is loaded: the law that its codes ask for, full_units at full scale,
    starts [B, n] (rad) and anchors (a, b) [B, n], as values and as codes.
    """

    segment: int
    asked: OscillatorLaw
    full_units: float
    start: torch.Tensor
    inject: Inject
    start_codes: Codes
    anchor_codes: tuple[Codes, Codes]


def measure_agreement(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    """Run, predict, compare. DeviceFault where the board loses its lock in most samples."""
    board = devices.get(OscillatorBoard)
    tell("comparing with the fitted twin", 0, 1)
    twin = FittedBoardTwin(board.spec, upstream)
    posed = pose_programs(board, twin, require(upstream, FREQUENCY_KIND))
    length = board.run_us([0]) / board.spec.unit_us
    first, second, good = run_twice(board, twin, posed, length)
    with torch.no_grad():
        alone = np.concatenate([uncoupled(twin, one, length).numpy() for one in posed])
    free = vectors(alone)
    one, other = ((vectors(theta) - free)[good] for theta in (first, second))
    predicted, again = ((expected(twin, posed, length, seed=k) - free)[good] for k in (0, 1))
    found = agreement(one, other, predicted, again)
    settling = require(upstream, SETTLING_KIND)
    foreseen = settling.array("expected_rate_per_unit")
    ratios, errors = (settling.array(name) / foreseen for name in ("rate_per_unit", "rate_per_unit_sd"))
    at = np.arange(len(one)), np.arange(len(one)) % one.shape[1]
    return Measured(
        kind=KIND,
        arrays={"share": found.channels.reshape(2, -1)},
        quantities=(
            Quantity(SHARE, 100 * found.share, 100 * found.sd, "%", low=100 * GATE,
                     words="of what couplings do, held-out programs, noise subtracted"),
            Quantity(RATE_RATIO, float(ratios.mean()), float(np.sqrt((errors**2).mean() / len(ratios))), "",
                     1 - SETTLE_WITHIN, 1 + SETTLE_WITHIN, "mean over oscillators"),
        ),
        settings={"programs": SEGMENTS, "samples": len(first), "draws": 2 * DRAWS},
        findings=(f"the fitted twin predicts {100 * found.share:.2f}% of what random couplings do",),
        plots=(Plot("Held-out programs", predicted[at], one[at], "predicted", "measured"),),
    )  # fmt: skip


def pose_programs(
    board: OscillatorBoard, twin: FittedBoardTwin, frequency: CalibrationRecord, *, seed: int = STEP_ID
) -> list[Posed]:
    """Load SEGMENTS random programs, and say what PER_SEGMENT samples of each are to start from."""
    spec, wiring, n = board.spec, board.spec.topology, board.spec.n
    rng = np.random.Generator(np.random.Philox(key=seed))
    top = spec.max_coupling_code
    codes = rng.integers(-top, top + 1, (SEGMENTS, wiring.n_edges)) * (spec.usable & ~twin.fitted.dead)
    heard = np.bincount(wiring.target, minlength=n).max(initial=1)
    most = min(PULL_UNITS / np.sqrt(heard / 3), spec.max_scale_units)
    scale = np.full(SEGMENTS, max(1, round(most / spec.scale_units_per_code)))
    trims = random_trims(board, frequency, SEGMENTS, TRIM_UNITS, seed)
    board.load(probe_image(board, Probe(DURATION_UNITS, codes, scale, trims)))
    units = spec.coupling_units(codes, scale)
    detuning = np.float64(spec.detuning.units_per_code) * trims
    zeros = torch.zeros(1, n, dtype=torch.float64)
    step = spec.injection.units_per_code
    posed = []
    for k in range(SEGMENTS):
        start = rng.integers(0, spec.max_start_code + 1, (PER_SEGMENT, n))
        strength = rng.uniform(*anchor_range(board, ANCHOR_UNITS), (PER_SEGMENT, n)) / step
        angle = rng.uniform(-np.pi, np.pi, (PER_SEGMENT, n))
        a, b = (np.rint(strength * f(angle)).astype(np.int64) for f in (np.sin, np.cos))
        asked = OscillatorLaw(
            torch.from_numpy(units[[k]]), zeros, zeros, zeros, torch.from_numpy(detuning[[k]])
        )
        posed.append(
            Posed(
                k,
                asked,
                float(scale[k] * spec.scale_units_per_code),
                torch.from_numpy(spec.start_rad(start)),
                (torch.from_numpy(a * step), torch.from_numpy(b * step)),
                start,
                (a, b),
            )
        )
    return posed


def run_twice(
    board: OscillatorBoard, twin: FittedBoardTwin, posed: Sequence[Posed], length: float
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Phases [P, n] after `length` units of all samples, of all of them once more, and which kept their lock
    both times [P].
    """
    runs: tuple[list[FloatArray], list[FloatArray]] = ([], [])
    locked = []
    for one in posed:
        count, both = len(one.start_codes), []
        for run in (0, 1):
            seen, good, _ = seen_phases(
                board, first_id=(2 * one.segment + run) * count, step_id=STEP_ID, start=one.start_codes,
                read_at_us=[length * board.spec.unit_us], segment=one.segment, anchors=one.anchor_codes,
            )  # fmt: skip
            require_locked(board, good, "measure_agreement")
            runs[run].append(twin.fitted.paths.phases(seen[:, 0]))
            both.append(good)
        locked.append(both[0] & both[1])
    return np.concatenate(runs[0]), np.concatenate(runs[1]), np.concatenate(locked)


def ended(twin: FittedBoardTwin, posed: Posed, length: float, *, seed: int = 0) -> torch.Tensor:
    """Phases [B, n] that the twin ends at."""
    first = posed.segment * len(posed.start)
    return torch.as_tensor(
        twin(
            posed.asked, (posed.full_units,), posed.start, duration=length, steps=STEPS, inject=posed.inject,
            sample_id=np.arange(first, first + len(posed.start)), seed=seed,
        )
    )  # fmt: skip


def expected(twin: FittedBoardTwin, posed: Sequence[Posed], length: float, *, seed: int) -> FloatArray:
    """Mean cosines and sines [P, 2 n] of where the twin ends with its noise, over `DRAWS` draws of `seed`."""
    was, twin.noisy = twin.noisy, True
    try:
        with torch.no_grad():
            drawn = [
                np.concatenate([ended(twin, one, length, seed=seed * DRAWS + k).numpy() for one in posed])
                for k in range(DRAWS)
            ]
    finally:
        twin.noisy = was
    return np.asarray(np.mean([vectors(theta) for theta in drawn], axis=0))


def uncoupled(twin: FittedBoardTwin, posed: Posed, length: float) -> torch.Tensor:
    """Phases [B, n] that the twin's oscillators would end at without any coupling."""
    law = twin.on_board(posed.asked, (posed.full_units,))
    none = torch.zeros_like(law.late)
    return evolve(
        twin.edges, LaggedLaw(replace(law.prompt, coupling=none), none), posed.start, duration=length,
        steps=STEPS, inject=twin.injected(posed.inject),
    )  # fmt: skip


def vectors(theta: FloatArray) -> FloatArray:
    """Cosines and sines [B, 2 n]: phases without turns."""
    return np.concatenate([np.cos(theta), np.sin(theta)], axis=1)


def _duration_s(devices: Devices) -> float:
    spec = devices.get(OscillatorBoard).spec
    return 2 * SEGMENTS * PER_SEGMENT * spec.queue_us(DURATION_UNITS * spec.unit_us, 1) * 1e-6


AGREEMENT = Procedure(
    name="twin",
    kind=KIND,
    title="the fitted twin",
    needs=KINDS,
    device=OscillatorBoard,
    roles=(OscillatorBoard,),
    validity_s=7 * 86_400.0,
    notices=("records that predict something else than this board does",),
    duration_s=_duration_s,
    measure=measure_agreement,
    essential=False,
)
