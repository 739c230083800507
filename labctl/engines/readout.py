"""Reading states from a camera: the 2n spots give y = W phi(z), and the law gives z where it rests.

At rest leak z = gain y + bias. The camera sees each path's light before subtraction and electronics, so y is
their difference in units of light, less what the pedestal alone gives. A loop that still moves while the
shutter is open is in the frame: how much of that is left is measured on the audit share and reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labctl.devices import (
    CalibrationMissing,
    CalibrationRecord,
    Camera,
    ConfigError,
    Hold,
    LinkSpec,
    LoopElectronics,
    LoopReadout,
    LoopSpec,
    ProgramError,
    Scalar,
    SettleCodes,
    UnsupportedFeature,
)
from labctl.engines.spots import Spots, film, hold_of, spots_of

FloatArray = NDArray[np.float64]
TRANSIENT_BAR = 0.005  # of full scale, p95 over audited samples (conventions, section 4)


@dataclass(frozen=True, eq=False)
class NoiseBudget:
    """Variances of y (units of a full-scale weight at phi = 1, squared) from the data sheet and the light.

    shot (with dark current), read, rounding [B, n]: of one frame. flat [B, n] and zero [n]: what calibration
    left of the pixels' response and of the pedestal; common to all samples, so no averaging takes it away.
    """

    shot: FloatArray
    read: FloatArray
    rounding: FloatArray
    flat: FloatArray
    zero: FloatArray

    @property
    def random(self) -> FloatArray:
        """Of one frame [B, n]."""
        return self.shot + self.read + self.rounding

    @property
    def common(self) -> FloatArray:
        """Left by calibration [B, n]."""
        return self.flat + self.zero

    def shares(self) -> dict[str, float]:
        """Root mean square of each term, units of y."""
        terms = {"shot": self.shot, "read": self.read, "rounding": self.rounding, "flat": self.flat,
                 "zero": self.zero}  # fmt: skip
        return {name: float(np.sqrt(np.mean(values))) for name, values in terms.items()}


def camera_budget(camera: Camera, record: CalibrationRecord, pitch: int, light: FloatArray) -> NoiseBudget:
    """The budget of `light` [B, 2, n] (units) by the data sheet (EMVA 1288's terms) and the spots' record
    (`spot_gain_counts`, `gain_error` [2, n], `zero_error_units` [n]); a spot is a square of `pitch` pixels.
    """
    spec, settings, gains = camera.spec, camera.settings, record.array("spot_gain_counts")
    e_per_code = spec.e_per_code(settings.gain_db, settings.black_level_codes)
    pixels = pitch**2
    per_unit = gains * e_per_code  # electrons of one unit of light
    dark = pixels * spec.dark_e_per_s * settings.exposure_us * 1e-6

    def summed(electrons: FloatArray | float) -> FloatArray:
        return np.asarray((electrons / per_unit**2 * np.ones_like(light)).sum(axis=1))

    return NoiseBudget(
        shot=summed(np.maximum(light * per_unit, 0) + dark),
        read=summed(pixels * spec.read_noise_e**2),
        rounding=summed(pixels * e_per_code**2 / 12),
        flat=np.asarray(((light * record.array("gain_error")) ** 2).sum(axis=1)),
        zero=record.array("zero_error_units") ** 2,
    )


@dataclass(frozen=True, eq=False)
class CameraRead:
    """What the camera says of a batch: states z [B, n], network units, and where pixels saturated [B].

    `scale` [B or 1, n] = gain / leak turns a deviation of y into one of z.
    """

    z: FloatArray
    saturated: NDArray[np.bool_]
    budget: NoiseBudget
    scale: FloatArray

    @property
    def random_sd(self) -> FloatArray:
        """Predicted standard deviation of one read-out [B, n], units of z."""
        return np.asarray(np.sqrt(self.budget.random) * self.scale)

    @property
    def common_sd(self) -> FloatArray:
        """Predicted standard deviation of what every read-out shares [B, n], units of z."""
        return np.asarray(np.sqrt(self.budget.common) * self.scale)


@dataclass
class _Seen:
    """What a run's report says of the read-out: the worst since load."""

    transient_share: float = 0.0
    transient: float = 0.0
    allowed: float = 0.0
    saturated: int = 0
    squares: float = 0.0
    samples: int = 0
    shares: dict[str, float] = field(default_factory=dict)


class CameraReadout:
    """Reads states through a camera; `exposure_us` 0 fills the sensor's wells as far as is safe.

    `calibrate` measures gains, dark and pedestal of the spots for the frame on display. Raises
    UnsupportedFeature for a rolling shutter: its rows would see different parts of the settle.
    """

    def __init__(
        self,
        camera: Camera,
        spots: CalibrationRecord,
        calibrate: Callable[[LoopElectronics, Camera, float], CalibrationRecord],
        *,
        exposure_us: float = 0.0,
    ) -> None:
        if camera.spec.shutter != "global":
            raise UnsupportedFeature(
                f"the shutter is {camera.spec.shutter}: its rows see different times of a settle; "
                "allowed for read-out: global",
                device=camera.name, operation="build CameraReadout",
            )  # fmt: skip
        self._camera, self._calibrate, self._asked_us = camera, calibrate, exposure_us
        self._pitch = int(spots.array("spot_pitch_px")[0])
        self._record: CalibrationRecord | None = None
        self._seen = _Seen()

    @property
    def max_queue(self) -> int:
        """Frames that the camera holds."""
        return self._camera.spec.max_frames

    @property
    def link(self) -> LinkSpec:
        """The camera's own cable."""
        return self._camera.spec.link

    @property
    def frame_bytes(self) -> int:
        """What one frame, as the camera is set, is on that cable."""
        settings = self._camera.settings
        return self._camera.spec.frame_bytes(settings.width_px, settings.height_px)

    @property
    def record(self) -> CalibrationRecord:
        """The calibration in use; CalibrationMissing before `load`."""
        if self._record is None:
            raise CalibrationMissing(f"{self._camera.name}: spots not calibrated; load a program first")
        return self._record

    @property
    def hold(self) -> Hold:
        """What a settle must give the camera."""
        return hold_of(self._camera)

    def load(self, electronics: LoopElectronics) -> None:
        """Calibrate for the frame on display and choose or check the exposure."""
        self._record = self._calibrate(electronics, self._camera, self._asked_us)
        self._seen = _Seen()

    def require_leak(self, leak_codes: NDArray[np.int64]) -> None:
        """ProgramError where a row [.., n] has no leak: light does not tell a state that runs away."""
        rows = np.atleast_2d(leak_codes).min(axis=0)
        if rows.min() < 1:
            raise ProgramError(
                f"{self._camera.name}: read-out: row {int(np.argmin(rows))} has leak 0: light does not tell "
                "its state; allowed: leak above 0 on every row"
            )

    def settle(
        self, electronics: LoopElectronics, codes: SettleCodes, wait_us: float | None
    ) -> tuple[LoopReadout, Spots]:
        """Settle a queue with the loop held for each exposure; the electronics' own window beside it."""
        frames, readout = film(
            self._camera,
            len(codes.bias),
            lambda hold: electronics.settle(codes, wait_us=wait_us, hold=hold),
        )
        return readout, spots_of(frames, self._pitch)

    def period_us(self, wait_us: float, window_us: float) -> float:
        """Time from one settle of a queue to the next: the sensor's read-out takes most of it."""
        hold = self.hold
        return max(wait_us + max(window_us, hold.hold_us), hold.period_us)

    def states(self, filmed: list[Spots], codes: SettleCodes, spec: LoopSpec) -> CameraRead:
        """States at rest from the spots of a batch's queues, with the knobs as applied."""
        leak = codes.leak / spec.max_leak_code
        self.require_leak(codes.leak)
        record = self.record
        gains, dark = record.array("spot_gain_counts"), record.array("spot_dark_counts")
        light = (np.concatenate([spots.sums for spots in filmed]) - dark) / gains  # [B, 2, n], units
        saturated = np.concatenate([spots.saturated for spots in filmed])
        y = light[:, 0] - light[:, 1] - record.array("zero_units")
        gain = spec.gain_value(codes.gain, codes.gain_range)
        z = (gain * y + codes.bias * spec.dac.units_per_code) / leak
        read = CameraRead(z, saturated, camera_budget(self._camera, record, self._pitch, light), gain / leak)
        self._note(read)
        return read

    def transient(
        self,
        time_us: FloatArray,
        seen: FloatArray,
        final: FloatArray,
        settled_us: FloatArray,
        leak: FloatArray,
        spec: LoopSpec,
    ) -> FloatArray:
        """What the transient leaves in the camera's states [A]; traces `seen` [S, A, r], their end [A, r].

        gain y + bias = leak z + tau dz/dt, so that light runs ahead of the state by tau / leak dz/dt.
        """
        settings, timing = self._camera.settings, self._camera.spec
        begin_us = spec.wait_us + settings.trigger_delay_us + timing.delay_us
        end_us = begin_us + settings.exposure_us
        first, last, mean = _averaged(time_us, seen, begin_us, end_us)
        ahead = (last - first) * spec.tau_us / (leak * settings.exposure_us)
        left = np.abs(mean + ahead - final).max(axis=1)
        late = np.where(np.isnan(settled_us), end_us, settled_us) - begin_us
        share = np.clip(late / settings.exposure_us, 0.0, 1.0)
        self._seen.transient_share = max(self._seen.transient_share, float(np.quantile(share, 0.95)))
        worst = float(np.quantile(left, 0.95))
        self._seen.transient = max(self._seen.transient, worst)
        self._seen.allowed = TRANSIENT_BAR * spec.adc.range_units
        return np.asarray(left)

    def refuse_transient(self, left: FloatArray, spec: LoopSpec) -> None:
        """ConfigError where a transient leaves [A] more than 0.5% of full scale at the 95th percentile."""
        worst, exposure_us = float(np.quantile(left, 0.95)), self._camera.settings.exposure_us
        percent = 100 * worst / spec.adc.range_units
        if percent > 100 * TRANSIENT_BAR:
            begin_us = spec.wait_us + self.hold.hold_us - exposure_us
            raise ConfigError(
                f"{self._camera.name}: an exposure of {exposure_us:.4g} us, begun {begin_us:.4g} us after "
                f"release, holds a transient of {percent:.2g}% of full scale (95th percentile of {len(left)} "
                f"settles); allowed: {100 * TRANSIENT_BAR:g}%, with a longer exposure or a longer wait"
            )

    def summary(self) -> dict[str, Scalar]:
        """For the run's record: exposure, the transient's part in it, the noise budget (rms, units of y)."""
        seen = self._seen
        if self._record is None:
            return {}
        out: dict[str, Scalar] = {
            "camera_exposure_us": float(self._camera.settings.exposure_us),
            "camera_transient_share_p95": seen.transient_share,
            "camera_transient_p95_units": seen.transient,
            "camera_transient_allowed": seen.transient <= seen.allowed,
            "camera_saturated_samples": seen.saturated,
        }
        if seen.samples:
            out["camera_state_noise_rms_units"] = float(np.sqrt(seen.squares / seen.samples))
        return {**out, **{f"camera_{name}_noise_rms_units": value for name, value in seen.shares.items()}}

    def _note(self, read: CameraRead) -> None:
        seen = self._seen
        seen.saturated += int(np.count_nonzero(read.saturated))
        seen.squares += float((read.random_sd**2).mean(axis=1).sum())
        seen.samples += len(read.z)
        for name, value in read.budget.shares().items():
            seen.shares[name] = max(seen.shares.get(name, 0.0), value)


def _averaged(
    time_us: FloatArray, seen: FloatArray, begin_us: float, end_us: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Traces [S, ...] at both ends of a span and their mean over it, linear between the samples."""
    inside = (time_us > begin_us) & (time_us < end_us)
    ends = []
    for at_us in (begin_us, end_us):
        k = int(np.clip(np.searchsorted(time_us, at_us), 1, len(time_us) - 1))
        share = (at_us - time_us[k - 1]) / (time_us[k] - time_us[k - 1])
        ends.append(seen[k - 1] + share * (seen[k] - seen[k - 1]))
    nodes = np.concatenate([[begin_us], time_us[inside], [end_us]])
    values = np.concatenate([ends[0][None], seen[inside], ends[1][None]])
    width = np.diff(nodes).reshape(-1, *[1] * (seen.ndim - 1))
    mean = (width * (values[1:] + values[:-1]) / 2).sum(axis=0) / (end_us - begin_us)
    return ends[0], ends[1], mean
