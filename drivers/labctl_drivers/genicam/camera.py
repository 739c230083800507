"""A camera by its standard feature names (SFNC), whatever carries them: tables first, logic last.

Images of a trigger or a free run are asked for as AcquisitionMode MultiFrame, where there is one. A camera
with SFNC's transfer control keeps them until they are asked for (UserControlled), a few at a time, so that
neither a cable nor a busy host can lose what a settle has left; others send as they expose. Incomplete images
are counted, never used.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, TypeVar, cast

import numpy as np
from pydantic import Field

from labctl.devices import (
    Camera,
    CameraSettings,
    CameraSpec,
    DeviceError,
    DeviceStateError,
    DeviceValueError,
    Frames,
    Identity,
    LinkSpec,
    Scalar,
)
from labctl.devices.camera import FEATURES
from labctl_drivers.genicam.features import Arrived, FeatureWire, Refused, Value
from labctl_drivers.link import Deadline, LinkSettings, Wired, WireGarbled, WrongBox
from labctl_drivers.link.recovery import Condition

T = TypeVar("T")
NO_SENSE = (ValueError, TypeError, OverflowError)  # of a feature that is no number, or none that can be
# the camera's identity: features in the order in which they are believed
VENDOR, MODEL = ("DeviceVendorName",), ("DeviceModelName",)
SERIAL, FIRMWARE = ("DeviceSerialNumber", "DeviceID"), ("DeviceFirmwareVersion", "DeviceVersion")
# words that only a simulated camera has in its names
SIMULATED = re.compile(r"simulat|emu|fake|viky", re.IGNORECASE)
# after the user set: what this driver relies on, where the camera has it
PREPARED = (("TriggerSelector", "FrameStart"), ("TriggerMode", "Off"), ("ExposureMode", "Timed"))
# offsets first to where any size fits, sizes before offsets
ORDER = ("PixelFormat", "Width", "Height", "OffsetX", "OffsetY", "TriggerSource", "TriggerMode")
# values that travel with an image, where the camera offers them; the last two are our own camera's
CHUNKS = ("FrameID", "Timestamp", "TriggerTime", "ExposureStart")
# counters that say what became of the triggers
PULSES, TAKEN = "FrameTrigger", "FrameEnd"
REFUSALS = 3  # of an order to send images, until they are given up
SLICE_S = 0.2  # silence after which the camera is asked what it still has
FORMATS = {f"Mono{bits}": bits for bits in (8, 10, 12, 14, 16)}


class CameraLinkSettings(LinkSettings):
    """What the standard's features do not say, from the camera's data sheet, and how to wait for it.

    The first group goes into the camera's spec (electrons, shares, us; see CameraSpec). trigger_wait_s: for
    triggers that have not come when frames are acquired. frame_wait_s: silence after which a frame counts as
    lost. transfer_blocks: how many images are asked for at once. user_set: loaded at open, so that a camera
    starts the same every time ("": left as it is). pixel_format: "" keeps the camera's. shutter: for cameras
    that do not say. first_frame_id: what the camera's FrameID chunk starts with. serial: of the camera that
    is meant; "" takes whichever answers at the address.
    """

    full_well_e: float = Field(gt=0)
    quantum_efficiency: float = Field(gt=0, le=1)
    read_noise_e: float = Field(ge=0)
    dark_e_per_s: float = Field(default=0.0, ge=0)
    prnu: float = Field(default=0.0, ge=0, lt=1)
    delay_us: float = Field(default=0.0, ge=0)
    jitter_us: float = Field(default=0.0, ge=0)
    line_us: float = Field(gt=0)
    overhead_rows: int = Field(default=0, ge=0)
    max_frames: int = Field(default=512, ge=1)
    link_latency_us: float = Field(default=100.0, ge=0)
    link_mbyte_per_s: float = Field(default=115.0, gt=0)
    trigger_wait_s: float = Field(default=1.0, ge=0, le=3600)
    frame_wait_s: float = Field(default=2.0, gt=0, le=3600)
    transfer_blocks: int = Field(default=16, ge=1, le=65535)
    user_set: str = "Default"
    pixel_format: str = ""
    shutter: Literal["", "global", "rolling"] = ""
    first_frame_id: int = Field(default=0, ge=0)
    serial: str = ""
    attempts: int = Field(default=1, ge=1, le=10)


@dataclass
class _Running:
    """An acquisition under way: how many images it is for, how many arrived complete, and those that did."""

    n: int
    asked: int = 0  # images whose transfer was asked for
    lost: int = 0


class SfncCamera(Wired[FeatureWire], Camera):
    """The logic of every GenICam camera; a subclass says how to connect."""

    Settings: ClassVar[type[LinkSettings]] = CameraLinkSettings
    settings = Camera.settings

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        super().__init__(name, address, **settings)
        self._spec: CameraSpec | None = None
        self._wanted: CameraSettings | None = None
        self._running: _Running | None = None
        self._counters: dict[str, str] = {}
        self._set: dict[str, Value] = {}
        self._on_request = False
        self._mode = "MultiFrame"

    @property
    def spec(self) -> CameraSpec:
        """From the camera's features and the data sheet's numbers in the rig file; known once it is open."""
        if self._spec is None:
            raise DeviceStateError(
                "the device is not open; call open() first", device=self.name, operation="spec"
            )
        return self._spec

    @property
    def _sheet(self) -> CameraLinkSettings:
        return cast(CameraLinkSettings, self._settings)

    # how a camera is opened

    def _identify(self, wire: FeatureWire, deadline: Deadline) -> Identity:
        def first(names: tuple[str, ...]) -> str:
            for name in names:
                if wire.has(name) and (text := str(wire.get(name)).strip()):
                    return text
            return "unknown"

        try:
            words = (first(VENDOR), first(MODEL), first(("DeviceManufacturerInfo",)))
            serial, firmware = first(SERIAL), first(FIRMWARE)
        except Refused as error:
            raise WireGarbled(f"it does not say who it is: {error}") from error
        if (wanted := self._sheet.serial) and serial != wanted:
            raise WrongBox(f"serial number {serial} answers; the rig file says {wanted}")
        return Identity(words[0], words[1], serial, firmware, any(SIMULATED.search(word) for word in words))

    def _program(self, wire: FeatureWire, deadline: Deadline) -> None:
        self._running, self._set = None, {}
        try:
            if self._wanted is None and self._sheet.user_set and wire.has("UserSetLoad"):
                wire.put("UserSetSelector", self._sheet.user_set)
                wire.execute("UserSetLoad")
            for name, value in PREPARED:
                if wire.has(name) and value in wire.entries(name) and wire.get(name) != value:
                    wire.put(name, value)
            lines = _lines(wire)
            if lines and wire.get("TriggerSource") not in lines:
                wire.put("TriggerSource", lines[0])
            self._mode = "MultiFrame" if "MultiFrame" in wire.entries("AcquisitionMode") else "Continuous"
            if self._sheet.pixel_format:
                wire.put("PixelFormat", self._sheet.pixel_format)
            if wire.has("ChunkSelector"):
                offered = wire.entries("ChunkSelector")
                wire.enable_chunks(tuple(chunk for chunk in CHUNKS if chunk in offered))
            self._on_request = wire.has("TransferControlMode") and "UserControlled" in wire.entries(
                "TransferControlMode"
            )
            self._counters = _counters(wire)
            self._spec = self._read_spec(wire)
            if self._wanted is not None:
                self._write(wire, _read(wire), self._wanted)
        except Refused as error:
            raise self._fault("open", f"the camera refuses what this driver needs: {error}") from error
        except DeviceError:  # some are ValueErrors, too
            raise
        except NO_SENSE as error:
            raise WireGarbled(f"the camera's features make no sense: {error}") from error

    def _read_spec(self, wire: FeatureWire) -> CameraSpec:
        sheet = self._sheet
        form = str(wire.get("PixelFormat"))
        if form not in FORMATS:
            raise Refused(f"PixelFormat is {form}; allowed: {', '.join(FORMATS)} (settings: pixel_format)")
        shutter = sheet.shutter
        if wire.has("SensorShutterMode"):
            shutter = "rolling" if "Rolling" in str(wire.get("SensorShutterMode")) else "global"
        if shutter == "":
            raise Refused("the camera does not say which shutter it has (settings: shutter)")
        return CameraSpec(
            shape_px=(_size(wire, "Height"), _size(wire, "Width")),
            bit_depth=FORMATS[form],
            shutter=shutter,
            exposure_range_us=_range(wire, "ExposureTime"),
            gain_range_db=_range(wire, "Gain"),
            link=LinkSpec(sheet.link_latency_us, sheet.link_mbyte_per_s),
            trigger_sources=_lines(wire) or ("none",),
            max_trigger_delay_us=_range(wire, "TriggerDelay")[1],
            **{name: getattr(sheet, name) for name in _OF_SHEET},
        )

    def _make_safe(self, wire: FeatureWire, deadline: Deadline) -> None:
        self._running = None
        self._worded("close", lambda wire, _: wire.stop())(wire, deadline)

    def _do_close(self) -> None:
        try:
            if self.condition is Condition.LOST:  # out of reach: without its host a camera stops by itself
                self._let_go()
            else:
                super()._do_close()
        finally:
            self._wanted = self._running = None

    def _exchange(self, operation: str, work: Callable[[FeatureWire, Deadline], T], **how: Any) -> T:
        return super()._exchange(operation, self._worded(operation, work), **how)

    def _worded(
        self, operation: str, work: Callable[[FeatureWire, Deadline], T]
    ) -> Callable[[FeatureWire, Deadline], T]:
        """`work`, what the camera refuses and what makes no sense in the link layer's terms."""

        def worded(wire: FeatureWire, deadline: Deadline) -> T:
            try:
                return work(wire, deadline)
            except Refused as error:
                raise self._fault(operation, f"the camera refuses: {error}") from error
            except DeviceError:  # some are ValueErrors, too
                raise
            except NO_SENSE as error:
                raise WireGarbled(f"the camera's features make no sense: {error}") from error

        return worded

    # settings

    def _do_settings(self, operation: str) -> CameraSettings:
        return self._exchange(operation, lambda wire, _: _read(wire))

    def _do_configure(self, settings: CameraSettings) -> None:
        def work(wire: FeatureWire, _: Deadline) -> None:
            self._end(wire)
            before = _read(wire)
            try:
                self._write(wire, before, settings)
            except Refused as error:
                with suppress(Refused):
                    self._write(wire, _read(wire), before)
                raise DeviceValueError(
                    f"the camera refuses: {error}", device=self.name, operation="configure"
                ) from error

        self._exchange("configure", work)
        self._wanted = settings

    def _write(self, wire: FeatureWire, before: CameraSettings, wanted: CameraSettings) -> None:
        old, new = before.features(), wanted.features()
        for offset, size in (("OffsetX", "Width"), ("OffsetY", "Height")):
            if float(new[size]) > float(old[size]) and old[offset] != 0:
                wire.put(offset, 0)
                old[offset] = 0
        for name in sorted(new, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
            if new[name] != old[name]:
                wire.put(name, new[name])

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        def work(wire: FeatureWire, _: Deadline) -> Mapping[str, Scalar]:
            s = _read(wire)
            kept = {name: value for name, value in asdict(s).items() if name in _SNAPSHOT}
            return kept | _temperature(wire)

        return self._exchange("snapshot", work)

    def _do_temperature_c(self) -> float:
        found = self._exchange("temperature_c", lambda wire, _: _temperature(wire))
        if not found:
            raise self._fault("temperature_c", "the camera has no DeviceTemperature")
        return found["temperature_c"]

    # images

    def _do_arm(self, n: int) -> None:
        self._exchange("arm", lambda wire, _: self._start(wire, n))

    def _do_triggers_seen(self) -> int:
        def work(wire: FeatureWire, _: Deadline) -> int:
            return self._counted(wire, PULSES, 0)

        return self._exchange("triggers_seen", work)

    def _do_acquire(self, n: int) -> Frames:
        sheet = self._sheet

        def prepared(wire: FeatureWire, _: Deadline) -> CameraSettings:
            settings = _read(wire)
            if settings.trigger_mode == "Off":
                self._prepare(wire, n)
            return settings

        settings = self._exchange("acquire", prepared)

        def work(wire: FeatureWire, _: Deadline) -> Frames:
            if settings.trigger_mode == "Off":
                self._start(wire, n)
            if self._running is None:
                why = "the acquisition ended with the connection; call arm() again"
                raise self._fault("acquire", why, DeviceStateError)
            frames = self._collect(wire, n, settings)
            self._end(wire)
            return frames

        exposures_s = n * self.spec.exposure_range_us[1] * 1e-6
        patience_s = sheet.trigger_wait_s + (n + 1) * (sheet.frame_wait_s + SLICE_S) + exposures_s
        # a free run may begin anew, what triggers have left is gone
        once = settings.trigger_mode != "Off"
        return self._exchange("acquire", work, once=once, timeout_s=min(patience_s, 3600.0))

    def _prepare(self, wire: FeatureWire, n: int) -> None:
        """All that comes before an acquisition's start; as often as one likes."""
        self._end(wire)
        wanted: dict[str, Value] = {"AcquisitionMode": self._mode}
        if self._mode == "MultiFrame":
            wanted["AcquisitionFrameCount"] = n
        if self._on_request:
            wanted["TransferControlMode"] = "UserControlled"
            wanted["TransferOperationMode"] = "MultiBlock"
            wanted["TransferBlockCount"] = self._sheet.transfer_blocks
        for name, value in wanted.items():
            if self._set.get(name) != value:
                if wire.get(name) != value:
                    wire.put(name, value)
                self._set[name] = value

    def _start(self, wire: FeatureWire, n: int) -> None:
        self._prepare(wire, n)
        wire.start(n)
        self._running = _Running(n)

    def _end(self, wire: FeatureWire) -> None:
        """Whatever is under way is over."""
        if self._running is not None:
            self._running = None
            wire.stop()

    def _collect(self, wire: FeatureWire, n: int, settings: CameraSettings) -> Frames:
        triggered = settings.trigger_mode == "On"
        if self._on_request:
            if triggered:
                self._await_triggers(wire, n)
            came = self._requested(wire, n)
        else:
            came = self._as_they_come(wire, n)
        pulses = min(self._counted(wire, PULSES, _heard(came)), n)
        return self._frames([a for a in came if a.pixels is not None], pulses, settings)

    def _await_triggers(self, wire: FeatureWire, n: int) -> None:
        if PULSES not in self._counters:
            return
        deadline_s = time.monotonic() + self._sheet.trigger_wait_s
        while self._counted(wire, PULSES, n) < n and time.monotonic() < deadline_s:
            time.sleep(0.002)

    def _requested(self, wire: FeatureWire, n: int) -> list[Arrived]:
        """Images that the camera kept, in portions; what does not come of a portion is lost."""
        came: list[Arrived] = []
        given, refusals = 0, 0
        while given < n:
            told = self._told_to_send(wire)
            left = min(self._counted(wire, TAKEN, n), n) - given
            portion = min(self._sheet.transfer_blocks, left)
            if portion <= 0:
                break
            got = self._portion(wire, portion, left)
            if not (told or got) and refusals < REFUSALS and self._kept(wire) >= left:
                refusals += 1  # the answer that came damaged was a refusal: everything is still there
                continue
            came += got
            given += portion
        return came

    def _told_to_send(self, wire: FeatureWire) -> bool:
        """TransferStart; whether its answer came whole. A damaged one is one, too: the camera has heard it,
        and what it sends says whether it obeys.
        """
        try:
            wire.execute("TransferStart")
        except WireGarbled:
            return False
        return True

    def _kept(self, wire: FeatureWire) -> int:
        """Images that wait in the camera; 0 where it does not say."""
        name = "TransferQueueCurrentBlockCount"
        return int(wire.get(name)) if wire.has(name) else 0

    def _portion(self, wire: FeatureWire, portion: int, left: int) -> list[Arrived]:
        came: list[Arrived] = []
        quiet_s = time.monotonic() + self._sheet.frame_wait_s
        known = wire.has("TransferQueueCurrentBlockCount")
        while len(came) < portion:
            arrived = wire.next(SLICE_S)
            if arrived is not None:
                came.append(arrived)
                quiet_s = time.monotonic() + self._sheet.frame_wait_s
            elif known and self._kept(wire) <= left - portion:
                late = wire.next(SLICE_S)  # sent since the question
                if late is None:
                    break
                came.append(late)
            elif time.monotonic() > quiet_s:
                break
        return came

    def _as_they_come(self, wire: FeatureWire, n: int) -> list[Arrived]:
        """Images as the camera sends them; waits for triggers, then for what they brought."""
        came: list[Arrived] = []
        until_s = time.monotonic() + max(self._sheet.trigger_wait_s, self._sheet.frame_wait_s)
        while _heard(came) < n:
            arrived = wire.next(min(SLICE_S, max(until_s - time.monotonic(), 1e-3)))
            if arrived is not None:
                came.append(arrived)
                until_s = time.monotonic() + self._sheet.frame_wait_s
            elif time.monotonic() > until_s or self._nothing_more(wire, n, len(came)):
                break
        return came

    def _nothing_more(self, wire: FeatureWire, n: int, arrived: int) -> bool:
        if not {PULSES, TAKEN} <= set(self._counters):
            return False
        return self._counted(wire, PULSES, 0) >= n and self._counted(wire, TAKEN, n) <= arrived

    def _counted(self, wire: FeatureWire, event: str, otherwise: int) -> int:
        """What a counter of the camera says; `otherwise` where it has none for this."""
        if event not in self._counters:
            return otherwise
        wire.put("CounterSelector", self._counters[event])
        return int(wire.get("CounterValue"))

    def _frames(self, complete: list[Arrived], pulses: int, settings: CameraSettings) -> Frames:
        shape = (settings.height_px, settings.width_px)
        if min(shape) < 1:
            raise self._fault("acquire", f"the camera says that its images are {shape}; allowed: 1 or more")
        counts = np.empty((len(complete), *shape), np.uint16)
        for place, arrived in enumerate(complete):
            pixels = np.asarray(arrived.pixels)
            if pixels.shape != shape:
                raise self._fault("acquire", f"an image of {pixels.shape} came; allowed: {shape}")
            counts[place] = pixels
        begin_us = np.array([a.chunks.get("ChunkExposureStart", a.timestamp_us) for a in complete])
        before_us = settings.trigger_delay_us + self.spec.delay_us
        trigger_us = [
            a.chunks.get("ChunkTriggerTime", begin - before_us)
            for a, begin in zip(complete, begin_us, strict=True)
        ]
        first = self._sheet.first_frame_id
        ids = [int(a.chunks.get("ChunkFrameID", a.block + first)) - first for a in complete]
        return Frames(
            counts=counts,
            frame_id=np.array(ids, np.int64),
            trigger_us=np.array(trigger_us, np.float64),
            timestamp_us=begin_us.astype(np.float64),
            saturated_px=np.count_nonzero(counts >= self.spec.max_code, axis=(1, 2)).astype(np.int64),
            dropped=max(pulses - len(complete), 0),
            exposure_us=float(settings.exposure_us),
            gain_db=float(settings.gain_db),
            black_level_codes=settings.black_level_codes,
        )


_OF_SHEET = (
    "full_well_e", "quantum_efficiency", "read_noise_e", "dark_e_per_s", "prnu", "delay_us", "jitter_us",
    "line_us", "overhead_rows", "max_frames",
)  # fmt: skip
_LACKING: Mapping[str, Value] = {"TriggerMode": "Off", "TriggerSource": "none"}
_WORDS = ("PixelFormat", *_LACKING)  # the others are numbers
_SNAPSHOT = ("exposure_us", "gain_db", "black_level_codes", "width_px", "height_px")


def _read(wire: FeatureWire) -> CameraSettings:
    """The camera's settings; a feature that it lacks reads 0 (it has no offset, gain, delay), Off or none."""
    values: dict[str, Any] = {}
    for name, field in FEATURES.items():
        value = wire.get(name) if wire.has(name) else _LACKING.get(name, 0)
        whole = field.endswith(("_px", "_codes"))
        values[field] = str(value) if name in _WORDS else int(value) if whole else float(value)
    return CameraSettings(**values)


def _size(wire: FeatureWire, name: str) -> int:
    for known in (f"Sensor{name}", f"{name}Max"):
        if wire.has(known):
            return int(wire.get(known))
    return int(wire.limits(name)[1])


def _range(wire: FeatureWire, name: str) -> tuple[float, float]:
    return wire.limits(name) if wire.has(name) else (0.0, 0.0)


def _lines(wire: FeatureWire) -> tuple[str, ...]:
    """Trigger sources that are sockets of the camera."""
    offered = wire.entries("TriggerSource") if wire.has("TriggerSource") else ()
    return tuple(entry for entry in offered if entry.startswith("Line"))


def _temperature(wire: FeatureWire) -> dict[str, float]:
    if not wire.has("DeviceTemperature"):
        return {}
    return {"temperature_c": float(wire.get("DeviceTemperature"))}


def _counters(wire: FeatureWire) -> dict[str, str]:
    """Counters that are set to count what this driver asks for; a camera's own are left as they are."""
    if not (wire.has("CounterSelector") and wire.has("CounterEventSource")):
        return {}
    found: dict[str, str] = {}
    for counter in wire.entries("CounterSelector"):
        wire.put("CounterSelector", counter)
        source = str(wire.get("CounterEventSource"))
        if source in (PULSES, TAKEN):
            found[source] = counter
    return found


def _heard(came: list[Arrived]) -> int:
    """Images that were sent, as far as their numbers say."""
    return max((arrived.block + 1 for arrived in came), default=0)
