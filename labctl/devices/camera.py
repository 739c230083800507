"""A camera on the output plane: settings by GenICam (SFNC) names, hardware trigger, frames of counts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from labctl.devices.device import Device
from labctl.devices.errors import DeviceStateError, DeviceTimeout, DeviceValueError
from labctl.devices.specs import CameraSpec
from labctl.devices.values import Frames, Scalar

TRIGGER_MODES = ("Off", "On")


@dataclass(frozen=True)
class CameraSettings:
    """What a camera is set to. `FEATURES` gives the SFNC name of each field.

    A black level in codes is added to every pixel, so that noise around zero light is not cut off.
    """

    width_px: int
    height_px: int
    offset_x_px: int
    offset_y_px: int
    pixel_format: str
    exposure_us: float
    gain_db: float
    black_level_codes: int
    trigger_mode: str
    trigger_source: str
    trigger_delay_us: float

    def features(self) -> dict[str, Scalar]:
        """By SFNC name, units as the standard has them (us, dB, pixels)."""
        values = asdict(self)
        return {name: values[field] for name, field in FEATURES.items()}


FEATURES = {
    "Width": "width_px",
    "Height": "height_px",
    "OffsetX": "offset_x_px",
    "OffsetY": "offset_y_px",
    "PixelFormat": "pixel_format",
    "ExposureTime": "exposure_us",
    "Gain": "gain_db",
    "BlackLevel": "black_level_codes",
    "TriggerMode": "trigger_mode",
    "TriggerSource": "trigger_source",
    "TriggerDelay": "trigger_delay_us",
}


class Camera(Device):
    """Takes frames [height, width] of counts, free-running (TriggerMode Off) or on a hardware trigger.

    With TriggerMode On: `arm`, let the trigger's source do its work, `acquire` what came.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._armed = False

    @property
    @abstractmethod
    def spec(self) -> CameraSpec:
        """Sensor, ranges of the settings, timing, noise as the data sheet has it."""

    @property
    def settings(self) -> CameraSettings:
        """Settings as read back from the device."""
        self._require_open("settings")
        return self._do_settings("settings")

    def configure(self, features: Mapping[str, Scalar]) -> CameraSettings:
        """Change settings by SFNC name, all or none; returns them as read back.

        Raises DeviceValueError naming feature, value and what is allowed; nothing has changed then.
        """
        self._require_open("configure")
        changes: dict[str, Any] = {}
        for name, value in features.items():
            if name not in FEATURES:
                raise self._refused("feature", name, f"allowed: {', '.join(FEATURES)}")
            changes[FEATURES[name]] = value
        wanted = replace(self._do_settings("configure"), **changes)
        self._check(wanted)
        self._armed = False  # a changed camera starts a new acquisition
        self._do_configure(wanted)
        return self._do_settings("configure")

    def arm(self, n: int) -> None:
        """Wait for n hardware triggers (AcquisitionStart); frames of an earlier acquisition are dropped."""
        self._require_open("arm")
        self._require_count("arm", n)
        if self._do_settings("arm").trigger_mode != "On":
            raise DeviceStateError("TriggerMode is 'Off'; allowed: 'On'", device=self.name, operation="arm")
        self._do_arm(n)
        self._armed = True

    def acquire(self, n: int) -> Frames:
        """n frames: taken now (TriggerMode Off), or those of the n triggers since `arm`.

        Frames lost on the way are counted, not made up. Raises DeviceTimeout where fewer triggers came.
        """
        self._require_open("acquire")
        self._require_count("acquire", n)
        triggered = self._do_settings("acquire").trigger_mode == "On"
        if triggered and not self._armed:
            raise DeviceStateError(
                "the camera waits for no trigger; call arm() first", device=self.name, operation="acquire"
            )
        frames = self._do_acquire(n)
        self._armed = False
        came = len(frames.counts) + frames.dropped
        if came < n:
            raise DeviceTimeout(
                f"{n} frames were asked for, {came} triggers came", device=self.name, operation="acquire"
            )
        return frames

    def triggers_seen(self) -> int:
        """Hardware triggers since `arm`, those of lost frames included; 0 where the camera waits for none."""
        self._require_open("triggers_seen")
        return self._do_triggers_seen() if self._armed else 0

    def temperature_c(self) -> float:
        """Sensor temperature in degrees Celsius."""
        self._require_open("temperature_c")
        return self._do_temperature_c()

    def _require_count(self, operation: str, n: int) -> None:
        if not 1 <= n <= self.spec.max_frames:
            raise DeviceValueError(
                f"{n} frames; allowed: 1 to {self.spec.max_frames}", device=self.name, operation=operation
            )

    def _check(self, wanted: CameraSettings) -> None:
        spec, names = self.spec, {field: name for name, field in FEATURES.items()}
        height, width = spec.shape_px
        ranges: dict[str, tuple[float, float]] = {
            "width_px": (1, width),
            "height_px": (1, height),
            "offset_x_px": (0, width),
            "offset_y_px": (0, height),
            "exposure_us": spec.exposure_range_us,
            "gain_db": spec.gain_range_db,
            "black_level_codes": (0, spec.max_code // 4),
            "trigger_delay_us": (0.0, spec.max_trigger_delay_us),
        }
        words = {
            "pixel_format": (spec.pixel_format,),
            "trigger_mode": TRIGGER_MODES,
            "trigger_source": spec.trigger_sources,
        }
        for field, value in asdict(wanted).items():
            if field in words:
                if value not in words[field]:
                    raise self._refused(names[field], value, f"allowed: {', '.join(words[field])}")
                continue
            low, high = ranges[field]
            whole = field.endswith(("_px", "_codes"))
            kind = int if whole else int | float
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                unit = {"exposure_us": " us", "gain_db": " dB", "trigger_delay_us": " us"}.get(field, "")
                kept = "whole numbers from " if whole else ""
                raise self._refused(names[field], value, f"allowed: {kept}{low:g} to {high:g}{unit}")
        for size, offset, limit in (
            ("width_px", "offset_x_px", width),
            ("height_px", "offset_y_px", height),
        ):
            end = getattr(wanted, size) + getattr(wanted, offset)
            if end > limit:
                raise self._refused(f"{names[size]} + {names[offset]}", end, f"allowed: at most {limit}")

    def _refused(self, feature: str, value: object, allowed: str) -> DeviceValueError:
        return DeviceValueError(f"{feature} is {value!r}; {allowed}", device=self.name, operation="configure")

    @abstractmethod
    def _do_settings(self, operation: str) -> CameraSettings: ...

    @abstractmethod
    def _do_configure(self, settings: CameraSettings) -> None: ...

    @abstractmethod
    def _do_arm(self, n: int) -> None: ...

    @abstractmethod
    def _do_acquire(self, n: int) -> Frames: ...

    @abstractmethod
    def _do_triggers_seen(self) -> int: ...

    @abstractmethod
    def _do_temperature_c(self) -> float: ...
