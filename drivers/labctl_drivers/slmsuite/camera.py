"""A camera through slmsuite: any of its camera classes, one image after the other."""

from __future__ import annotations

import time
from typing import Any, ClassVar, cast

import numpy as np
from pydantic import Field

from labctl_drivers.genicam.camera import CameraLinkSettings, SfncCamera
from labctl_drivers.genicam.features import Arrived, FeatureWire, Refused, Value
from labctl_drivers.genicam.plain import PlainFeatures, Region, exposure_range
from labctl_drivers.link import Deadline, LinkSettings, WireLog
from labctl_drivers.slmsuite import finding
from labctl_drivers.slmsuite.finding import Found

NEEDS = ("sensor_shape", "bitdepth", "get_image", "set_exposure", "set_woi", "flush", "close")


class SlmsuiteCameraSettings(CameraLinkSettings):
    """arguments: of the class's constructor, in slmsuite's own words. exposure_range_us: where its object has
    no exposure_bounds_s.
    """

    arguments: dict[str, Any] = Field(default_factory=dict)
    exposure_range_us: tuple[float, float] | None = None
    open_timeout_s: float = 60.0


class SlmsuiteCamera(SfncCamera):
    """A camera at `module:Class`, constructed with the settings' arguments, or at `FILE.py#name`.

    slmsuite has neither triggers nor gain: both are refused. Images are taken one by one; their times are
    this computer's, of the call, no exposure's. Averaging and HDR of the object are switched off.
    """

    Settings: ClassVar[type[LinkSettings]] = SlmsuiteCameraSettings

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        super().__init__(name, address, **settings)
        finding.checked(name, address, self._sheet.arguments)

    @property
    def _sheet(self) -> SlmsuiteCameraSettings:
        return cast(SlmsuiteCameraSettings, self._settings)

    def _connect(self, deadline: Deadline) -> FeatureWire:
        found = finding.find(self.name, self.address, self._sheet.arguments, NEEDS)
        try:
            return SlmsuiteWire(found, self._sheet, self.wire_log)
        except Refused as error:
            found.close()
            raise self._fault("open", str(error)) from error


class SlmsuiteWire(PlainFeatures):
    """An slmsuite camera object."""

    def __init__(self, found: Found, sheet: SlmsuiteCameraSettings, log: WireLog) -> None:
        self._found, self._camera = found, found.thing
        self._block, self._wait_s = 0, sheet.frame_wait_s
        camera, kind = self._camera, type(self._camera)
        if tuple(getattr(camera, "binning", (1, 1))) != (1, 1):
            raise Refused(f"the camera's binning is {camera.binning}; allowed: 1")
        height, width = camera.sensor_shape
        bounds_s = getattr(camera, "exposure_bounds_s", None)
        known_us = None if bounds_s is None else (1e6 * float(bounds_s[0]), 1e6 * float(bounds_s[1]))
        facts: dict[str, Value] = {
            "SensorWidth": int(width), "SensorHeight": int(height), "PixelFormat": f"Mono{camera.bitdepth}",
            "DeviceVendorName": "slmsuite", "DeviceModelName": kind.__name__,
            "DeviceManufacturerInfo": kind.__module__, "DeviceSerialNumber": str(camera.name),
            "DeviceFirmwareVersion": finding.version(),
        }  # fmt: skip
        super().__init__(facts, exposure_range(known_us, sheet.exposure_range_us), log)

    def start(self, n: int) -> None:
        self._block = 0
        with finding.refusals("flush"):
            self._camera.flush()  # an image of before may be in the buffer

    def next(self, wait_s: float) -> Arrived | None:
        begun_us = 1e6 * time.perf_counter()
        with finding.refusals("get_image"):
            # one that comes later is an error of slmsuite's, which adds the exposure to the wait
            taken = self._camera.get_image(timeout_s=max(wait_s, self._wait_s), averaging=False, hdr=False)
        image = np.asarray(taken)
        if not np.issubdtype(image.dtype, np.integer):
            raise Refused(f"get_image gives {image.dtype}; allowed: whole counts")
        self._block += 1
        return Arrived(image.astype(np.uint16), self._block - 1, begun_us)

    def stop(self) -> None:
        """Nothing runs between two images."""

    def close(self) -> None:
        self._found.close()

    def _region(self) -> Region:
        with finding.refusals("get_woi"):
            x, width, y, height = self._camera.get_woi()
        return int(x), int(y), int(width), int(height)

    def _set_region(self, region: Region) -> None:
        x, y, width, height = region
        with finding.refusals("set_woi"):
            self._camera.set_woi((x, width, y, height))

    def _exposure_us(self) -> float:
        with finding.refusals("get_exposure"):
            return 1e6 * float(self._camera.get_exposure())

    def _set_exposure_us(self, exposure_us: float) -> None:
        with finding.refusals("set_exposure"):
            self._camera.set_exposure(1e-6 * exposure_us)
