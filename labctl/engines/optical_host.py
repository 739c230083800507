"""The host closes the loop: light through the panel, spots on a camera, everything else in the host.

z <- z + delta (F(z) - z) from the preset, with y = W phi(z) seen by the camera: small delta follows the
loop's own flow, so that of several roots it takes the loop's. Gain, leak and bias are the host's numbers.
How many iterates a sample needs is planned before the first one, on the host's own model of the loop
(measured weights), so that the time it takes is known; whether it was enough, what the camera saw says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import (
    CalibrationRecord,
    Camera,
    Coercion,
    Hold,
    InputDrive,
    Outcome,
    ProgramError,
    Scalar,
    UnsupportedFeature,
)
from labctl.engines.emitter_scale import EmitterScale
from labctl.engines.picard_noise import RelaxedLoop, StateNoise
from labctl.engines.readout import NoiseBudget, camera_budget
from labctl.engines.result import AppliedKnobs, Batch, FixedPointResult, Ledger
from labctl.engines.spots import Spots, film, spots_of
from labctl.engines.weight_panel import WeightPanel
from labctl.physics import cycling, row_peaks
from labctl.programs import LoopProgram, LoopSegment, PlacedWeights

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
DELTA = 0.4
MOST = 400  # iterates of a sample
AVERAGED = 20  # iterates in the mean that is returned
LEFT = 0.1  # of the noise of that mean: what the model lets be left of the way to the root when it begins
FURTHER = 40  # iterates more where the halves of the mean still differ
NOISE_SIGMAS = 5.0  # its halves may differ by so many of their own standard deviations
NOISE_AMPLIFICATION = 4.0  # 1 / (1 - kappa) at kappa = 0.75: what a step that is any good makes of noise
STEPS = 1024  # draws of a solve's iterates are numbered within so many
Calibrate = Callable[[WeightPanel, FloatArray, InputDrive, Camera, EmitterScale], CalibrationRecord]


@dataclass(frozen=True, eq=False)
class Exposures:
    """What a solve is expected to take: exposures of each sample [B], time from one to the next."""

    each: IntArray
    period_us: float
    exposure_us: float

    @property
    def duration_us(self) -> float:
        """Of the whole batch, one exposure after the other."""
        return float(self.each.sum() * self.period_us)

    def __str__(self) -> str:
        return (
            f"{len(self.each)} samples, {self.each.min()} to {self.each.max()} exposures each of "
            f"{self.exposure_us:.4g} us, one every {self.period_us:.4g} us: "
            f"{self.duration_us * 1e-6:.3g} s on the bench"
        )


@dataclass(frozen=True, eq=False)
class _Shown:
    """One matrix as it was shown and measured."""

    matrix: PlacedWeights
    coercions: tuple[Coercion, ...]
    checksum: str
    record: CalibrationRecord
    upload_us: float

    @property
    def scale(self) -> EmitterScale:
        """How bright the emitters are for it."""
        settings = self.record.settings
        return EmitterScale(int(settings["unit_codes"]), int(settings["pedestal_codes"]))

    @property
    def weights(self) -> FloatArray:
        """W [n, n] as the camera sees it, network units."""
        return np.asarray(self.record.array("effective_fractions") * self.matrix.scale_out[:, None])


@dataclass(eq=False)
class _Iterates:
    """A batch on its way: states z [B, n], mean and squares over the last iterates, what was flagged."""

    z: FloatArray
    halves: FloatArray  # [2, B, n] sums
    squares: FloatArray
    saturated: NDArray[np.bool_]
    done: IntArray  # iterates so far [B]


class OpticalHostLoopEngine:
    """A fixed-point engine for benches with emitters, modulator and camera only.

    Every iterate of every sample is one exposure: batches are small. `calibrate(panel, fractions, ...)`
    chooses the exposure and measures spots, pedestal and weights of the matrix on display. `tell` hears the
    expected duration before each solve. Raises UnsupportedFeature for a rolling shutter.
    """

    def __init__(
        self,
        panel: WeightPanel,
        drive: InputDrive,
        camera: Camera,
        calibrate: Calibrate,
        *,
        pedestal_units: float = 1.1,
        tell: Callable[[str], None] | None = None,
        name: str = "optical-host-loop",
    ) -> None:
        if camera.spec.shutter != "global":
            raise UnsupportedFeature(
                f"the shutter is {camera.spec.shutter}; allowed: global",
                device=camera.name, operation="build OpticalHostLoopEngine",
            )  # fmt: skip
        self._panel, self._drive, self._camera, self._calibrate = panel, drive, camera, calibrate
        self._brightest = EmitterScale.of(drive.spec, pedestal_units)
        self._name = name
        self.tell = tell
        self._program: LoopProgram | None = None
        self._matrices: list[_Shown] = []
        self._on_display = 0
        self._upload_us = 0.0
        self._saturated = 0

    @property
    def name(self) -> str:
        """For messages and the log."""
        return self._name

    @property
    def n_channels(self) -> int:
        """Variables of the loop."""
        return self._drive.spec.n_channels

    @property
    def frame_checksum(self) -> str:
        """Checksums of the program's frames as the panel gave them, one a matrix."""
        return " ".join(shown.checksum for shown in self._matrices)

    def load(self, program: LoopProgram) -> None:
        """Show each matrix; choose the exposure, measure spots, pedestal and weights of it."""
        if program.placement.n_channels != self.n_channels:
            raise ProgramError(
                f"{self._name}: the program is for {program.placement.n_channels} channels; "
                f"allowed: {self.n_channels}"
            )
        self._program, self._matrices, self._saturated = None, [], 0
        shown = []
        for matrix in program.matrices:
            receipt, coercions = self._panel.show(matrix.fractions)
            record = self._calibrate(
                self._panel, matrix.fractions, self._drive, self._camera, self._brightest
            )
            shown.append(_Shown(matrix, coercions, receipt.checksum, record, receipt.duration_us))
        self._program, self._matrices, self._on_display = program, shown, len(shown) - 1
        self._upload_us = shown[-1].upload_us
        self._show(program.segments[0].matrix)

    def measured_weights(self) -> FloatArray:
        """W [n, n], network units, as the camera sees it; of several matrices that on display."""
        self._loaded()
        return self._now.weights

    def light(self, z: FloatArray, rows: slice, columns: slice) -> FloatArray:
        """y [B, r] of rows: measured W over tanh of `columns`."""
        return np.asarray(np.tanh(z[:, columns]) @ self.measured_weights()[rows, columns].T)

    @property
    def _now(self) -> _Shown:
        """The matrix on display."""
        return self._matrices[self._on_display]

    @property
    def period_us(self) -> float:
        """From one exposure to the next."""
        settings = self._camera.settings
        return self._camera.spec.period_us(settings.exposure_us, settings.height_px)

    def expected(self, segment: LoopSegment, batch: Batch) -> Exposures:
        """What `solve` would take, by the host's model of the loop; nothing is exposed."""
        program = self._loaded()
        self._show(segment.matrix)
        bias = segment.bias_of(batch.inject, batch.labels, program.placement.state)
        gain = segment.gain if batch.labels is None else segment.gain[batch.labels]
        each = self._planned(np.array(batch.start, dtype=np.float64), gain, segment.leak, bias)
        return Exposures(each + AVERAGED, self.period_us, self._camera.settings.exposure_us)

    def solve(self, segment: LoopSegment, batch: Batch, *, audit: int = 0) -> FixedPointResult:
        """Fixed points of one segment; `audit` is ignored: a host-closed loop has no settle time.

        z is the mean of the last iterates; step_norm compares the halves of that mean.
        """
        program = self._loaded()
        started = time.perf_counter()
        expected = self.expected(segment, batch)
        if self.tell is not None:
            self.tell(f"{self._name}: {expected}")
        rows, size = program.watched(segment), len(batch.inject)
        bias = segment.bias_of(batch.inject, batch.labels, program.placement.state)
        gain = segment.gain if batch.labels is None else segment.gain[batch.labels]
        z = np.array(batch.start, dtype=np.float64)
        run = _Iterates(
            z, np.zeros((2, *z.shape)), np.zeros_like(z), np.zeros(size, np.bool_), np.zeros(size, np.int64)
        )  # fmt: skip
        until, left = expected.each, np.arange(size)
        busy, acquisitions = 0, 0
        while len(left):
            exposures, queues = self._iterate(run, left, until, segment, gain, bias, batch)
            busy, acquisitions = busy + exposures, acquisitions + queues
            noise = self._noise(run.halves.mean(axis=0), gain, segment.leak)
            random, single = self._bounded(noise, gain, segment.leak, rows)
            step_norm = row_peaks((run.halves[1] - run.halves[0])[:, rows])
            # halves of a mean of white noise differ by twice the mean's own standard deviation
            allowed = np.maximum(segment.end.tolerance, 2 * NOISE_SIGMAS * random)
            moving = ~(step_norm <= allowed)
            left = np.flatnonzero(moving & (until < MOST) & np.isfinite(step_norm))
            until = np.where(moving, np.minimum(until + FURTHER, MOST), until)
        mean = run.halves.mean(axis=0)
        spread = np.sqrt(np.maximum(run.squares - mean**2, 0.0))[:, rows]
        outcome = np.where(moving, np.uint8(Outcome.MAX_TIME), np.uint8(Outcome.CONVERGED))
        outcome[~moving & cycling(spread, single, segment.end.tolerance)] = Outcome.LIMIT_CYCLE
        outcome[run.saturated] = Outcome.SATURATED
        outcome[~np.isfinite(step_norm)] = Outcome.DIVERGED
        self._saturated += int(np.count_nonzero(run.saturated))
        return FixedPointResult(
            z=mean,
            outcome=outcome,
            step_norm=step_norm,
            residual_norm=row_peaks(self._slope(mean, gain, segment.leak, bias)[:, rows]),
            applied=AppliedKnobs(segment.gain, segment.leak, None, None, None),
            ledger=self._ledger(started, busy, acquisitions, size),
            iterations=run.done.copy(),
            noise=noise,
            coercions=self._now.coercions,
        )

    def summary(self) -> dict[str, Scalar]:
        """For the run's record: exposure, how full it makes the brightest pixel, saturated samples."""
        if not self._matrices:
            return {}
        settings = self._now.record.settings
        return {
            "camera_exposure_us": settings["exposure_us"],
            "camera_brightest_pixel_share": settings["brightest_pixel_share"],
            "camera_saturated_samples": self._saturated,
        }

    def _planned(self, start: FloatArray, gain: FloatArray, leak: FloatArray, bias: FloatArray) -> IntArray:
        """Iterates [B] after which the model's state is within `LEFT` of the mean's noise of its root."""
        longest = MOST - AVERAGED
        root = start
        for _ in range(longest):
            root = root + DELTA * self._slope(root, gain, leak, bias)
        noise = self._noise(root, gain, leak)
        near = LEFT * np.maximum(np.minimum(noise.random, 1.0), self._now.scale.rounding_units)
        z, last = start, np.zeros(len(start), np.int64)
        for k in range(longest):
            last[(np.abs(z - root) > near).any(axis=1)] = k + 1
            z = z + DELTA * self._slope(z, gain, leak, bias)
        return last

    def _slope(self, z: FloatArray, gain: FloatArray, leak: FloatArray, bias: FloatArray) -> FloatArray:
        """F(z) - z [B, n] by the host's model."""
        weights = self._now.weights
        return np.asarray(gain * (np.tanh(z) @ weights.T) + bias - leak * z)

    def _noise(self, z: FloatArray, gain: FloatArray, leak: FloatArray) -> StateNoise:
        """Predicted noise of states that come to rest at z [B, n]."""
        shown = self._now
        fractions, scale = shown.record.array("effective_fractions"), shown.matrix.scale_out
        loop = RelaxedLoop(fractions, gain * scale, leak, DELTA)
        return loop.noise(z, self._seen_var(z), self.budget(z).common, AVERAGED)

    def _bounded(
        self, noise: StateNoise, gain: FloatArray, leak: FloatArray, rows: slice
    ) -> tuple[FloatArray, FloatArray]:
        """Noise of the mean and of one iterate [B], worst of the watched rows, as far as it is believed: a
        loop that cycles would pass its swing off as noise.
        """
        shown = self._now
        opened = RelaxedLoop(np.zeros_like(shown.weights), gain * shown.matrix.scale_out, leak, DELTA)
        z = np.zeros_like(noise.random)
        quiet = opened.noise(z, self._seen_var(z), np.zeros_like(z), AVERAGED)
        worst = [
            np.minimum(closed, NOISE_AMPLIFICATION * alone)[:, rows].max(axis=1)
            for closed, alone in ((noise.random, quiet.random), (noise.single, quiet.single))
        ]
        return worst[0], worst[1]

    def _seen_var(self, z: FloatArray) -> FloatArray:
        """Variance of y in one frame [B, n]: the camera's, and the rounding of the emitters' codes."""
        fractions = self._now.record.array("effective_fractions")
        rounding = (fractions**2).sum(axis=1) * self._now.scale.rounding_units**2
        return np.asarray(self.budget(z).random + rounding)

    def budget(self, z: FloatArray) -> NoiseBudget:
        """The camera's noise of y at states z [B, n]: units of a full-scale weight at phi = 1, squared."""
        self._loaded()
        record = self._now.record
        paths, rest = record.array("path_fractions"), record.array("pedestal_units")
        light = np.einsum("poi,bi->bpo", paths, np.tanh(z)) + rest
        return camera_budget(self._camera, record, _pitch(record), light)

    def _iterate(
        self,
        run: _Iterates,
        left: IntArray,
        until: IntArray,
        segment: LoopSegment,
        gain: FloatArray,
        bias: FloatArray,
        batch: Batch,
    ) -> tuple[int, int]:
        """Take the samples `left` to `until` [B] iterates: exposures and acquisitions that took."""
        scale = self._now.matrix.scale_out
        run.halves[:, left], run.squares[left] = 0.0, 0.0
        exposures, queues = 0, 0
        while len(left := left[run.done[left] < until[left]]):
            k = int(run.done[left].min())
            now = left[run.done[left] == k]  # the k-th iterate of all that have it to come: draws of its own
            knobs = gain if len(gain) == 1 else gain[now]
            step_id = batch.step_id * STEPS + k
            y, full, acquired = self._seen(np.tanh(run.z[now]), step_id, batch.sample_id[now])
            exposures, queues = exposures + len(now), queues + acquired
            run.z[now] += DELTA * (knobs * scale * y + bias[now] - segment.leak * run.z[now])
            run.saturated[now] |= full
            run.done[now] += 1
            ahead = until[now] - run.done[now]
            for half, (first, last) in enumerate(((AVERAGED // 2, AVERAGED), (0, AVERAGED // 2))):
                use = now[(ahead >= first) & (ahead < last)]
                run.halves[half, use] += run.z[use] / (AVERAGED // 2)
                run.squares[use] += run.z[use] ** 2 / AVERAGED
        return exposures, queues

    def _seen(
        self, phi: FloatArray, step_id: int, sample_id: IntArray
    ) -> tuple[FloatArray, NDArray[np.bool_], int]:
        """y [B, n] in full-scale weights, where pixels saturated [B], how many queues: one frame a sample."""
        shown = self._now
        record, codes, most = shown.record, shown.scale.codes(phi), self._camera.spec.max_frames
        parts = [slice(first, first + most) for first in range(0, len(codes), most)]
        filmed = [self._filmed(codes[part], step_id, sample_id[part]) for part in parts]
        sums = np.concatenate([spots.sums for spots in filmed])
        light = (sums - record.array("spot_dark_counts")) / record.array("spot_gain_counts")
        y = light[:, 0] - light[:, 1] - record.array("zero_units")
        return y, np.concatenate([spots.saturated for spots in filmed]), len(filmed)

    def _filmed(self, codes: IntArray, step_id: int, sample_id: IntArray) -> Spots:
        def light(hold: Hold) -> None:
            self._drive.drive(codes, hold=hold, step_id=step_id, sample_id=sample_id)

        frames, _ = film(self._camera, len(codes), light)
        return spots_of(frames, _pitch(self._now.record))

    def _ledger(self, started: float, exposures: int, queues: int, settles: int) -> Ledger:
        """Exposures one after the other; their frames come over the camera's cable meanwhile."""
        settings, link = self._camera.settings, self._camera.spec.link
        busy_us = exposures * self.period_us
        n_bytes = exposures * self._camera.spec.frame_bytes(settings.width_px, settings.height_px)
        upload_us, self._upload_us = self._upload_us, 0.0
        return Ledger(
            upload_us=upload_us,
            window_us=busy_us,
            read_us=queues * link.beside_us(n_bytes / queues, busy_us / queues),
            host_s=time.perf_counter() - started,
            settles=settles,
        )

    def _show(self, matrix: int) -> None:
        """Put another of the program's matrices on display."""
        if matrix != self._on_display:
            receipt, _ = self._panel.show(self._matrices[matrix].matrix.fractions)
            self._upload_us += receipt.duration_us
            self._on_display = matrix
            exposure_us = self._matrices[matrix].record.settings["exposure_us"]
            self._camera.configure({"ExposureTime": exposure_us})

    def _loaded(self) -> LoopProgram:
        if self._program is None:
            raise ProgramError(f"{self._name}: no program is loaded; call load(program) first")
        return self._program


def _pitch(record: CalibrationRecord) -> int:
    return int(record.array("spot_pitch_px")[0])
