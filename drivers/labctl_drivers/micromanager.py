"""A camera through a Micro-Manager device adapter, by pymmcore-plus (BSD-3).

https://github.com/pymmcore-plus/pymmcore-plus (tried: 0.17.3 with pymmcore 12.5.1.75.0, device interface 75).
Adapters have properties, not standard features: the rig file says which
property is which feature, where there is one; exposure and region are Micro-Manager's own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Literal, cast

import numpy as np

from labctl.devices import ConfigError, DeviceUnavailable
from labctl_drivers.genicam.camera import CameraLinkSettings, SfncCamera
from labctl_drivers.genicam.features import Arrived, FeatureWire, Refused, Value
from labctl_drivers.genicam.plain import PlainFeatures, Region, exposure_range
from labctl_drivers.link import Deadline, LinkSettings, WireLog, WireLost

EXTRA = "Micro-Manager's core is not installed; pip install 'analog-labctl[micromanager]'"
ADDRESS = re.compile(r"(?P<config>.+\.cfg)(?:#(?P<label>.+))?|(?P<adapter>[^/#]+)/(?P<device>[^/#]+)")
LABEL = "camera"  # of a device that is loaded without a configuration
POLL_S = 0.001
BUFFER_MB = 2**20
SIMULATORS = ("DemoCamera", "SequenceTester")  # adapters without hardware
FLOAT, INTEGER = 2, 3  # MM::PropertyType
Mapped = Literal[
    "Gain", "BlackLevel", "TriggerMode", "TriggerSource", "TriggerDelay", "DeviceTemperature",
    "DeviceVendorName", "DeviceSerialNumber", "DeviceFirmwareVersion",
]  # fmt: skip


class MicroManagerSettings(CameraLinkSettings):
    """adapter_paths: folders of Micro-Manager's adapters (none: pymmcore-plus's own search, as `mmcore list`
    prints it). properties: of the adapter, set at open, before initialising where it wants that. features:
    the adapter's property for a standard feature, where it has its meaning and unit (dB, us, codes, C).
    exposure_range_us: where the adapter gives no limits.
    """

    adapter_paths: tuple[str, ...] = ()
    properties: Mapping[str, str] = {}
    features: Mapping[Mapped, str] = {}
    exposure_range_us: tuple[float, float] | None = None
    open_timeout_s: float = 30.0


class MicroManagerDevice(SfncCamera):
    """A camera at `FILE.cfg` (its Core camera), `FILE.cfg#LABEL`, or `ADAPTER/DEVICE` without a file.

    Triggers are refused unless `features` names the properties for them.
    """

    Settings: ClassVar[type[LinkSettings]] = MicroManagerSettings

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        super().__init__(name, address, **settings)
        parts = ADDRESS.fullmatch(address)
        if parts is None:
            raise ConfigError(
                f"device {name!r}: address is {address!r}; allowed: FILE.cfg, FILE.cfg#LABEL, ADAPTER/DEVICE"
            )
        self._parts = parts

    @property
    def _sheet(self) -> MicroManagerSettings:
        return cast(MicroManagerSettings, self._settings)

    def _connect(self, deadline: Deadline) -> FeatureWire:
        try:
            import pymmcore_plus
        except ImportError as error:
            raise DeviceUnavailable(EXTRA, device=self.name, operation="open") from error
        core = pymmcore_plus.CMMCorePlus()
        try:
            label = self._load(core)
            return MicroManagerWire(pymmcore_plus, core, label, self._sheet, self.wire_log)
        except (Refused, RuntimeError, FileNotFoundError, WireLost) as error:
            with suppress(RuntimeError):
                core.reset()
            if isinstance(error, Refused):
                raise self._fault("open", str(error)) from error
            raise WireLost(_words(error)) from error

    def _load(self, core: Any) -> str:
        sheet, parts = self._sheet, self._parts
        if sheet.adapter_paths:
            core.setDeviceAdapterSearchPaths(list(sheet.adapter_paths))
        label = str(parts["label"] or LABEL)
        late = dict(sheet.properties)
        if parts["config"]:
            core.loadSystemConfiguration(parts["config"])
            label = str(parts["label"] or core.getCameraDevice())
            if label not in core.getLoadedDevices():
                raise WireLost(
                    f"{parts['config']} has no camera {label!r}; it has: {', '.join(core.getLoadedDevices())}"
                )
        else:
            core.loadDevice(label, parts["adapter"], parts["device"])
            there = set(core.getDevicePropertyNames(label))  # the others come with initialising
            for name in [name for name in late if name in there and core.isPropertyPreInit(label, name)]:
                core.setProperty(label, name, late.pop(name))
            core.initializeDevice(label)
        core.setCameraDevice(label)
        for name, value in late.items():
            core.setProperty(label, name, value)
        return label


class MicroManagerWire(PlainFeatures):
    """A core with one camera. The library's errors are all RuntimeError: they are mapped here, once."""

    def __init__(
        self, library: Any, core: Any, label: str, sheet: MicroManagerSettings, log: WireLog
    ) -> None:
        self._library, self._core, self._label = library, core, label
        self._features = {str(feature): name for feature, name in sheet.features.items()}
        self._block = 0
        for feature, name in self._features.items():
            if not core.hasProperty(label, name):
                raise Refused(f"features: {feature} is {name!r}, which the adapter does not have")
        core.clearROI()
        if core.getNumberOfComponents() != 1 or core.getBytesPerPixel() > 2:
            raise Refused("images are in colour or of more than 16 bits (settings: properties, PixelType)")
        known_us = None
        if core.hasProperty(label, "Exposure") and core.hasPropertyLimits(label, "Exposure"):
            known_us = (1e3 * core.getPropertyLowerLimit(label, "Exposure"),
                        1e3 * core.getPropertyUpperLimit(label, "Exposure"))  # fmt: skip
        facts: dict[str, Value] = {
            "SensorWidth": core.getImageWidth(), "SensorHeight": core.getImageHeight(),
            "PixelFormat": f"Mono{core.getImageBitDepth()}", "DeviceVendorName": core.getDeviceLibrary(label),
            "DeviceModelName": core.getDeviceName(label), "DeviceSerialNumber": label,
            "DeviceManufacturerInfo": "simulated" if core.getDeviceLibrary(label) in SIMULATORS else "",
            "DeviceFirmwareVersion": core.getVersionInfo(),
        }  # fmt: skip
        super().__init__(facts, exposure_range(known_us, sheet.exposure_range_us), log)

    def has(self, name: str) -> bool:
        return name in self._features or super().has(name)

    def get(self, name: str) -> Value:
        if name not in self._features:
            return super().get(name)
        with _mapped(name):
            text = str(self._core.getProperty(self._label, self._features[name]))
            kind = self._core.getPropertyType(self._label, self._features[name])
        return float(text) if kind == FLOAT else int(text) if kind == INTEGER else text

    def put(self, name: str, value: Value) -> None:
        if name not in self._features:
            return super().put(name, value)
        self._log.sent(f"{self._features[name]}={value}".encode())
        with _mapped(name):
            self._core.setProperty(self._label, self._features[name], str(value))

    def limits(self, name: str) -> tuple[float, float]:
        if name not in self._features:
            return super().limits(name)
        told = self._features[name]
        if not self._core.hasPropertyLimits(self._label, told):
            raise Refused(f"{name}: the adapter gives no limits of {told!r}")
        low = self._core.getPropertyLowerLimit(self._label, told)
        return float(low), float(self._core.getPropertyUpperLimit(self._label, told))

    def entries(self, name: str) -> tuple[str, ...]:
        if name not in self._features:
            return super().entries(name)
        return tuple(self._core.getAllowedPropertyValues(self._label, self._features[name]))

    def start(self, n: int) -> None:
        core, self._block = self._core, 0
        with _mapped("AcquisitionStart"):
            image_bytes = core.getImageWidth() * core.getImageHeight() * core.getBytesPerPixel()
            needed_mb = (
                2 * n * image_bytes // BUFFER_MB + 1
            )  # what comes while nobody fetches stays in the core
            if core.getCircularBufferMemoryFootprint() < needed_mb:
                core.setCircularBufferMemoryFootprint(needed_mb)
            self._log.sent(f"startSequenceAcquisition {n}".encode())
            core.startSequenceAcquisition(self._label, n, 0.0, True)

    def next(self, wait_s: float) -> Arrived | None:
        core, until_s = self._core, time.monotonic() + wait_s
        with _mapped("the images"):
            while core.getRemainingImageCount() == 0:
                if core.isBufferOverflowed():
                    raise Refused("the images: the core's buffer is full (settings: max_frames)")
                if time.monotonic() > until_s:
                    return None
                time.sleep(POLL_S)
            tags = self._library.Metadata()
            image = np.array(core.popNextImageMD(tags), dtype=np.uint16)
        known = {key: tags.GetSingleTag(key).GetValue() for key in tags.GetKeys()}
        number = int(known.get("ImageNumber", self._block))  # gaps are images that were lost
        self._block = number + 1
        return Arrived(image, number, 1e3 * float(known.get("ElapsedTime-ms", "nan")))

    def stop(self) -> None:
        with _mapped("AcquisitionStop"):
            if self._core.isSequenceRunning(self._label):
                self._log.sent(b"stopSequenceAcquisition")
                self._core.stopSequenceAcquisition(self._label)

    def close(self) -> None:
        self._core.reset()

    def _region(self) -> Region:
        with _mapped("getROI"):
            x, y, width, height = self._core.getROI(self._label)
        return int(x), int(y), int(width), int(height)

    def _set_region(self, region: Region) -> None:
        with _mapped("setROI"):
            self._core.setROI(self._label, *region)

    def _exposure_us(self) -> float:
        with _mapped("getExposure"):
            return 1e3 * float(self._core.getExposure(self._label))

    def _set_exposure_us(self, exposure_us: float) -> None:
        with _mapped("setExposure"):
            self._core.setExposure(self._label, 1e-3 * exposure_us)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise Refused(f"{what}: {_words(error)}") from error
