"""Phase noise: the diffusion D of every oscillator, rad^2 a unit, the noise of the reads taken off.

The board is made quiet (trims null detuning, codes the offsets) and pairs of samples start alike, so that
what still moves them moves both. Model of a pair's difference between reads Delta apart: increments of
variance 4 D Delta + 4 r, neighbouring ones of covariance -2 r (a read error is in both), r being a read's
variance. Estimator: D = (mean square + 2 mean product of neighbours) / (4 Delta), r out of it whatever it
is. Uncertainty: from the scatter over pairs.
"""

from __future__ import annotations

import numpy as np

from labctl.devices import OscillatorBoard, UnsupportedFeature
from labctl_calibration.oscillators.fitted import KINDS
from labctl_calibration.oscillators.probing import probe_image, require_locked, seen_phases, wrapped
from labctl_calibration.oscillators.quiet import quiet_probe
from labctl_calibration.procedure import Devices, Measured, Plot, Procedure, Quantity, Tell, Upstream

KIND = "oscillator phase noise"
STEP_ID = 0x5C000005
PAIRS = 2048
SPACING_UNITS = 0.5
DIFFUSION_MEAN = "diffusion"
MAX_DIFFUSION = 0.1  # rad^2 a unit: beyond, programs of a few units blur


def measure_diffusion(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    """Let pairs run free and compare them. UnsupportedFeature on a board that reads fewer than 3 times."""
    board = devices.get(OscillatorBoard)
    spec, n = board.spec, board.spec.n
    reads = min(spec.max_reads, 16)
    if reads < 3:
        raise UnsupportedFeature(
            f"{reads} reads of a sample tell no diffusion; allowed: boards of 3 or more",
            device=board.name, operation="measure_diffusion",
        )  # fmt: skip
    tell("measuring phase noise", 0, 1)
    board.load(probe_image(board, quiet_probe(board, upstream, SPACING_UNITS * (reads + 1))))
    rng = np.random.Generator(np.random.Philox(key=STEP_ID))
    start = rng.integers(0, spec.max_start_code + 1, (PAIRS, n)).repeat(2, axis=0)
    times = SPACING_UNITS * (1 + np.arange(reads)) * spec.unit_us
    seen, good, phases = seen_phases(board, first_id=0, step_id=STEP_ID, start=start, read_at_us=times)
    require_locked(board, good, "measure_diffusion")
    both = good[::2] & good[1::2]
    apart = wrapped(seen[::2][both] - seen[1::2][both])
    steps = wrapped(np.diff(apart, axis=1))  # [P, T - 1, n]
    spacing = float(np.diff(phases.read_at_us).mean()) / spec.unit_us
    square, product = (steps**2).mean(axis=1), (steps[:, 1:] * steps[:, :-1]).mean(axis=1)
    each = (square + 2 * product) / (4 * spacing)
    count = len(each)
    diffusion, sd = each.mean(axis=0), each.std(axis=0, ddof=1) / np.sqrt(count)
    read = -product.mean(axis=0) / 2
    read_sd = product.std(axis=0, ddof=1) / np.sqrt(count) / 2
    mean, mean_sd = float(diffusion.mean()), float(np.sqrt((sd**2).mean() / n))
    noisy = np.flatnonzero(diffusion > MAX_DIFFUSION)
    return Measured(
        kind=KIND,
        arrays={
            "diffusion_rad2_per_unit": diffusion,
            "diffusion_rad2_per_unit_sd": sd,
            "read_variance_rad2": read,
            "read_variance_rad2_sd": read_sd,
        },
        quantities=(
            Quantity(
                DIFFUSION_MEAN, mean, mean_sd, "rad^2 a unit", None, MAX_DIFFUSION, "mean over oscillators"
            ),
            Quantity("read variance", float(read.mean()), float(np.sqrt((read_sd**2).mean() / n)), "rad^2"),
        ),
        residuals={"square_rad2": square.mean(axis=0)},
        settings={"pairs": PAIRS, "reads": reads, "temperature_c": phases.temperature_c},
        findings=tuple(f"oscillator {i} diffuses by {diffusion[i]:.2g} rad^2 a unit" for i in noisy[:8]),
        plots=(
            Plot("Phase noise", np.arange(n, dtype=np.float64), diffusion, "oscillator", "rad^2 a unit", sd),
        ),
    )


def _duration_s(devices: Devices) -> float:
    spec = devices.get(OscillatorBoard).spec
    reads = min(spec.max_reads, 16)
    return 2 * PAIRS * spec.queue_us(SPACING_UNITS * (reads + 1) * spec.unit_us, reads) * 1e-6


DIFFUSION = Procedure(
    name="phase-noise",
    kind=KIND,
    title="Phase noise",
    needs=KINDS,
    device=OscillatorBoard,
    roles=(OscillatorBoard,),
    validity_s=30 * 86_400.0,
    notices=("a noisy oscillator", "loss of lock"),
    duration_s=_duration_s,
    measure=measure_diffusion,
    essential=False,
)
