"""Read paths: the phase error of every oscillator's read, and the noise of a read.

All oscillators are seeded at phases known by design and read at release, before anything has moved them.
Model: seen - seeded = skew_i + s_i sin 2 theta + c_i cos 2 theta + noise, the noise being that of seeding
and of the read. Estimator: least squares over start phases all round the circle; uncertainty from the
residuals. Reads a tick apart tell the read's noise (own of each oscillator, and what all share: the
reference's edge) from the seeding's. What an injection's phase or a coupling's lag adds is not in it:
nothing pulls yet.
"""

from __future__ import annotations

import numpy as np

from labctl.devices import CalibrationRecord, DeviceFault, OscillatorBoard
from labctl_calibration.oscillators.probing import (
    FloatArray,
    Probe,
    probe_image,
    require_locked,
    seen_phases,
    wrapped,
)
from labctl_calibration.procedure import Devices, Measured, Plot, Procedure, Quantity, Tell, Upstream

KIND = "oscillator read paths"
SAMPLES = 4096
READS = 4  # a tick apart
STEP_ID = 0x5C000001
DEAF_RAD = 1.0  # rms of the residual: the read does not follow the seed
MAX_SKEW_RAD = 1.0


def measure_skew(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    """Seed, read, fit. DeviceFault where the board loses its lock in most samples."""
    del upstream
    board = devices.get(OscillatorBoard)
    spec, n = board.spec, board.spec.n
    tell("seeding and reading phases", 0, 1)
    rng = np.random.Generator(np.random.Philox(key=STEP_ID))
    # each oscillator its own order of start phases all round the circle
    every = (np.arange(SAMPLES) * (spec.max_start_code + 1) // SAMPLES)[:, None]
    start = rng.permuted(np.broadcast_to(every, (SAMPLES, n)).astype(np.int64), axis=0)
    board.load(probe_image(board, Probe(units=READS * spec.tick_us / spec.unit_us)))
    reads = min(READS, spec.max_reads)
    times = np.arange(reads) * spec.tick_us
    seen, good, phases = seen_phases(board, first_id=0, step_id=STEP_ID, start=start, read_at_us=times)
    require_locked(board, good, "measure_skew")
    theta, seen = spec.start_rad(start)[good], seen[good]
    away = wrapped(seen - theta[:, None, :])
    centre = np.angle(np.exp(1j * away[:, 0]).mean(axis=0))
    y = centre + wrapped(away[:, 0] - centre)
    design = np.stack([np.ones_like(theta), np.sin(2 * theta), np.cos(2 * theta)], axis=2).transpose(1, 0, 2)
    gram = design.transpose(0, 2, 1) @ design
    right = design.transpose(0, 2, 1) @ y.T[:, :, None]
    found = np.linalg.solve(gram, right)[:, :, 0]
    left = y.T - np.einsum("nbk,nk->nb", design, found)
    variance = (left**2).sum(axis=1) / (len(theta) - 3)
    sd = np.sqrt(np.linalg.inv(gram).diagonal(axis1=1, axis2=2) * variance[:, None])
    rms = np.sqrt(variance)
    deaf = rms > DEAF_RAD
    own, common, covered = _read_noise(wrapped(away - centre), spec.read_bits)
    findings = [f"oscillator {i} does not read what it was seeded with" for i in np.flatnonzero(deaf)[:8]]
    if not good.all():
        findings.append(f"{int((~good).sum())} of {good.size} samples lost their lock and were left out")
    if deaf.all():
        raise DeviceFault("no read follows its seed", device=board.name, operation="measure_skew")
    worst = float(np.abs(found[~deaf, 0]).max())
    return Measured(
        kind=KIND,
        arrays={
            "skew_rad": found[:, 0],
            "skew_rad_sd": sd[:, 0],
            "bow_sine_rad": found[:, 1],
            "bow_sine_rad_sd": sd[:, 1],
            "bow_cosine_rad": found[:, 2],
            "bow_cosine_rad_sd": sd[:, 2],
            "read_noise_rad": own,
            "read_noise_rad_sd": own * covered,
            "reference_noise_rad": np.asarray(common),
            "lock_loss_share": np.asarray(float((~good).mean())),
            "alive": (~deaf).astype(np.float64),
        },
        quantities=(
            Quantity("skew", worst, float(sd[:, 0].max()), "rad", 0.0, MAX_SKEW_RAD, "largest"),
            Quantity("read noise", float(own[~deaf].mean()), float(own.mean() * covered), "rad",
                     words="of one read, rms"),
            Quantity("lost lock", float((~good).mean()), 0.0, "", 0.0, 0.05, "share of samples"),
        ),
        residuals={"seed_and_read_rad": rms},
        settings={"samples": SAMPLES, "reads": reads, "temperature_c": phases.temperature_c},
        findings=tuple(findings),
        plots=(Plot("Read skew", np.arange(n, dtype=np.float64), found[:, 0], "oscillator", "rad",
                    sd[:, 0]),),
    )  # fmt: skip


def _read_noise(away: FloatArray, bits: int) -> tuple[FloatArray, float, float]:
    """(own noise [n], common noise, relative uncertainty) of a read, quantisation in the own part."""
    steps = np.diff(away, axis=1)  # [B, T - 1, n]
    steps = steps - steps.mean(axis=0)  # what detuning turns from tick to tick
    if steps.shape[1] == 0:
        quantum = 2 * np.pi / 2**bits / np.sqrt(12)
        return np.full(away.shape[2], quantum), 0.0, 1.0
    steps = steps[:, ::2]  # of separate pairs, so that they are independent
    shared = steps.mean(axis=2, keepdims=True)
    n = away.shape[2]
    own = ((steps - shared) ** 2).mean(axis=(0, 1)) / 2 * (n / max(n - 1, 1))
    common = max(float((shared**2).mean()) / 2 - float(own.mean()) / n, 0.0)
    count = steps.shape[0] * steps.shape[1]
    return np.sqrt(own), float(np.sqrt(common)), float(1 / np.sqrt(2 * count))


class ReadPaths:
    """Phases out of what was read, by a record of this procedure."""

    def __init__(self, record: CalibrationRecord) -> None:
        self.skew_rad = record.array("skew_rad")
        self.bow_rad = np.stack([record.array("bow_sine_rad"), record.array("bow_cosine_rad")])
        self.skew_sd_rad = record.array("skew_rad_sd")
        self.noise_rad = record.array("read_noise_rad")
        self.common_rad = float(record.array("reference_noise_rad"))

    def phases(self, seen: FloatArray) -> FloatArray:
        """True phases [..., n] of phases as they were read."""
        turned = seen - self.skew_rad
        theta = turned
        for _ in range(3):  # contracts by twice the bow: 3 rounds leave less than 1e-4 of it
            theta = turned - self.bow_rad[0] * np.sin(2 * theta) - self.bow_rad[1] * np.cos(2 * theta)
        return np.asarray(theta)


def _duration_s(devices: Devices) -> float:
    spec = devices.get(OscillatorBoard).spec
    return SAMPLES * spec.queue_us(READS * spec.tick_us, READS) * 1e-6


READ_PATHS = Procedure(
    name="read-paths",
    kind=KIND,
    title="Read skew",
    needs=(),
    device=OscillatorBoard,
    roles=(OscillatorBoard,),
    validity_s=7 * 86_400.0,
    notices=("dead read path", "loss of lock"),
    duration_s=_duration_s,
    measure=measure_skew,
)
