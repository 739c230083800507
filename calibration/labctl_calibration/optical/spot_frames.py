"""Frames of the camera's spots with the whole panel bright: exposure, light and dark, each spot by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, Camera, DeviceFault, LoopElectronics, WeightModulator
from labctl.engines.spots import frame_features
from labctl_calibration.flat_fields import FILLED, TRIAL_LEVEL, require_light
from labctl_calibration.lamps import Lamps
from labctl_calibration.optical.camera_part import require_whole
from labctl_calibration.procedure import Devices, FloatArray

FULL_IN = 20.0  # shortest exposures, for the brightest pixel: so that there are shorter ones
BEARABLE = 0.95  # of the range: a brighter pixel may be full
DIMMED = 8  # times, from one trial to the next


class SpotFrames:
    """Frames of the spots, every emitter alike at `code`; `full_us` fills the brightest pixel as allowed.

    Raises DeviceFault in the dark and where the dimmest light saturates. `close` leaves the panel dark.
    """

    def __init__(self, devices: Devices, spots: CalibrationRecord, operation: str) -> None:
        self._operation = operation
        self.camera, self._lamps = devices.get(Camera), Lamps(devices.get(LoopElectronics))
        self._modulator = devices.get(WeightModulator)
        self.pitch = int(spots.array("spot_pitch_px")[0])
        self.camera.configure({**frame_features(spots), "TriggerMode": "On", "Gain": 0.0})
        self._show(self._modulator.spec.n_levels - 1)
        self.full_us, self.code = self._filling()

    def take(self, count: int, *, exposure_us: float, lit: bool) -> tuple[FloatArray, float]:
        """`count` frames as spots [count, 2 n, pitch * pitch], and the exposure as read back.

        Raises DeviceFault for frames that were lost or came twice.
        """
        exposure_us = float(self.camera.configure({"ExposureTime": exposure_us}).exposure_us)
        codes = np.full((count, self._lamps.n_channels), self.code if lit else 0, np.int64)
        frames = self._lamps.film(self.camera, codes)
        require_whole(self.camera, frames, count, self._operation)
        return squares(frames.counts, self.pitch), exposure_us

    def close(self) -> None:
        """Panel dark."""
        self._show(0)

    def _show(self, level: int) -> None:
        self._modulator.show(np.full(self._modulator.spec.shape_px, level, np.uint16))

    def _filling(self) -> tuple[float, int]:
        camera, n = self.camera, self._lamps.n_channels
        room = camera.spec.max_code - camera.settings.black_level_codes
        full_us, code = FULL_IN * camera.spec.exposure_range_us[0], round(TRIAL_LEVEL * self._lamps.top)
        camera.configure({"ExposureTime": full_us})
        for _ in range(2):
            frames = self._lamps.film(camera, np.full((2, n), code, np.int64))
            peak = float(frames.counts.max()) - frames.black_level_codes
            require_light(camera, peak, self._operation)
            if peak < BEARABLE * room:
                return full_us * FILLED * room / peak, code
            code = max(1, code // DIMMED)
        raise DeviceFault(
            f"saturated: emitter code {code} of {self._lamps.top} fills the brightest pixel in {full_us:.4g} "
            f"us; allowed: {100 * BEARABLE:.0f}% of its range; dim the spots",
            device=camera.name, operation=self._operation,
        )  # fmt: skip


def squares(frames: NDArray[np.uint16], pitch: int) -> FloatArray:
    """Frames as spots: [L, 2 n, pitch * pitch]."""
    count, height, width = frames.shape
    parts = frames.astype(np.float64).reshape(count, height // pitch, pitch, width // pitch, pitch)
    return parts.transpose(0, 1, 3, 2, 4).reshape(count, -1, pitch * pitch)
