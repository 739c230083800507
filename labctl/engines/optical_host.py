"""The host closes the loop: light through the panel, spots on a camera, everything else in the host.

z <- z + delta (F(z) - z) from the preset, with y = W phi(z) seen by the camera: small delta follows the
loop's own flow, so that of several roots it takes the loop's. Gain, leak and bias are the host's numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import (
    CalibrationRecord,
    Camera,
    InputDrive,
    Outcome,
    ProgramError,
    UnsupportedFeature,
    WeightModulator,
)
from labctl.engines.result import AppliedKnobs, Batch, FixedPointResult, Ledger
from labctl.engines.spots import Spots, spots_of
from labctl.programs import LoopProgram, LoopSegment, encode_frame

FloatArray = NDArray[np.float64]
DELTA = 0.4
ITERATIONS = 100  # (1 - 0.4 (1 - kappa))^80: 2% is left at kappa = 0.88 when averaging begins
AVERAGED = 20  # iterates in the mean that is returned
NOISE_SIGMAS = 5.0  # its halves may differ by so many of their own standard deviations
Codes = Callable[[FloatArray], NDArray[np.int64]]
Calibrate = Callable[[WeightModulator, InputDrive, Camera, Codes], CalibrationRecord]


@dataclass(frozen=True)
class EmitterScale:
    """mA of a unit of phi and the pedestal (units of phi) that keeps light positive."""

    ma_per_unit: float
    pedestal_units: float


class OpticalHostLoopEngine:
    """A fixed-point engine for benches with emitters, modulator and camera only.

    Every iterate of every sample is one free-running frame: batches are small. `tell` hears the expected
    duration before each solve. Raises UnsupportedFeature for a rolling shutter.
    """

    def __init__(
        self,
        modulator: WeightModulator,
        drive: InputDrive,
        camera: Camera,
        panel_record: CalibrationRecord,
        spots: CalibrationRecord,
        calibrate: Calibrate,
        *,
        pedestal_units: float = 1.1,
        iterations: int = ITERATIONS,
        tell: Callable[[str], None] = print,
        name: str = "optical-host-loop",
    ) -> None:
        if camera.spec.shutter != "global":
            raise UnsupportedFeature(
                f"the shutter is {camera.spec.shutter}; allowed: global",
                device=camera.name, operation="build OpticalHostLoopEngine",
            )  # fmt: skip
        self._modulator, self._drive, self._camera = modulator, drive, camera
        self._panel_record, self._calibrate = panel_record, calibrate
        self._pitch = int(spots.array("spot_pitch_px")[0])
        spec = drive.spec
        most_ma = min(spec.max_channel_ma, spec.max_total_ma / spec.n_channels)
        self._scale = EmitterScale(most_ma / (1 + pedestal_units), pedestal_units)
        self._iterations, self._tell, self._name = iterations, tell, name
        self._program: LoopProgram | None = None
        self._record: CalibrationRecord | None = None

    @property
    def name(self) -> str:
        """For messages and the log."""
        return self._name

    @property
    def n_channels(self) -> int:
        """Variables of the loop."""
        return self._drive.spec.n_channels

    def codes_of(self, phi: FloatArray) -> NDArray[np.int64]:
        """Emitter codes [B, n] of phi in -1 .. 1, pedestal added."""
        ma = (phi + self._scale.pedestal_units) * self._scale.ma_per_unit
        return np.rint(ma / self._drive.spec.ma_per_code).astype(np.int64)

    def load(self, program: LoopProgram) -> None:
        """Show W, choose the exposure, measure spots, pedestal and weights. One matrix only."""
        if program.placement.n_channels != self.n_channels:
            raise ProgramError(
                f"{self._name}: the program is for {program.placement.n_channels} channels; "
                f"allowed: {self.n_channels}"
            )
        if len(program.matrices) > 1:
            raise ProgramError(f"{self._name}: the program has {len(program.matrices)} matrices; allowed: 1")
        frame = encode_frame(program.matrices[0].fractions, self._modulator.spec, self._panel_record)
        self._modulator.show(frame.levels)
        self._record = self._calibrate(self._modulator, self._drive, self._camera, self.codes_of)
        self._program = program

    def measured_weights(self) -> FloatArray:
        """W [n, n], network units, as the camera sees it."""
        program, record = self._loaded()
        return np.asarray(
            record.array("effective_fractions") * program.matrices[0].scale_out[:, None], dtype=np.float64
        )

    @property
    def period_us(self) -> float:
        """Modelled time of one iterate of one sample."""
        settings = self._camera.settings
        return self._camera.spec.period_us(settings.exposure_us, settings.height_px)

    def solve(self, segment: LoopSegment, batch: Batch, *, audit: int = 0) -> FixedPointResult:
        """Fixed points of one segment; `audit` is ignored: a host-closed loop has no settle time.

        z is the mean of the last iterates; step_norm compares the halves of that mean.
        """
        program, _ = self._loaded()
        started = time.perf_counter()
        state, rows = program.placement.state, program.watched(segment)
        size = len(batch.inject)
        period_us = self.period_us
        self._tell(
            f"{self._name}: {size} samples x {self._iterations} iterations x {period_us / 1e3:.3g} ms "
            f"a frame: {size * self._iterations * period_us * 1e-6:.3g} s on the bench"
        )
        bias = segment.bias_of(batch.inject, batch.labels, state)
        gain = segment.gain if batch.labels is None else segment.gain[batch.labels]
        scale = program.matrices[0].scale_out
        z = np.array(batch.start, dtype=np.float64)
        halves = np.zeros((2, *z.shape))
        saturated = np.zeros(size, np.bool_)
        slope = np.zeros_like(z)
        for k in range(self._iterations):
            y, full = self._seen(np.tanh(z))
            saturated |= full
            slope = gain * scale * y + bias - segment.leak * z
            z = z + DELTA * slope
            left = self._iterations - k
            if left <= AVERAGED:
                halves[0 if left > AVERAGED // 2 else 1] += z / (AVERAGED // 2)
        mean = halves.mean(axis=0)
        step_norm = np.abs(halves[1] - halves[0])[:, rows].max(axis=1)
        noise = (gain * scale * self._loaded()[1].array("noise_units"))[:, rows].max(axis=1)
        allowed = np.maximum(segment.end.tolerance, NOISE_SIGMAS * noise * math.sqrt(4 / AVERAGED))
        outcome = np.where(step_norm <= allowed, Outcome.CONVERGED, Outcome.MAX_TIME)
        outcome[saturated] = Outcome.SATURATED
        outcome[~np.isfinite(step_norm)] = Outcome.DIVERGED
        return FixedPointResult(
            z=mean,
            outcome=outcome.astype(np.uint8),
            step_norm=step_norm,
            residual_norm=np.abs(slope[:, rows]).max(axis=1),
            applied=AppliedKnobs(segment.gain, segment.leak, None, None, None),
            ledger=Ledger(
                window_us=size * self._iterations * period_us,
                host_s=time.perf_counter() - started,
                settles=size,
            ),
            iterations=np.full(size, self._iterations, np.int64),
        )

    def _seen(self, phi: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """y [B, n] in full-scale weights and where pixels saturated [B]: one frame a sample."""
        _, record = self._loaded()
        filmed: list[Spots] = []
        for codes in self.codes_of(phi):
            self._drive.drive(codes[None])
            filmed.append(spots_of(self._camera.acquire(1), self._pitch))
        sums = np.concatenate([spots.sums for spots in filmed])
        light = (sums - record.array("spot_dark_counts")) / record.array("spot_gain_counts")
        y = light[:, 0] - light[:, 1] - record.array("zero_units")
        return y, np.concatenate([spots.saturated for spots in filmed])

    def _loaded(self) -> tuple[LoopProgram, CalibrationRecord]:
        if self._program is None or self._record is None:
            raise ProgramError(f"{self._name}: no program is loaded; call load(program) first")
        return self._program, self._record
