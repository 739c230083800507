"""The camera behind the registers: every feature's value, read from and written to the device it is given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from labctl.devices import Camera, DeviceError, DeviceUnavailable, DeviceValueError, Identity, Scalar
from labctl_sim_devices.wires.gige.acquisition import Acquisition, Plan
from labctl_sim_devices.wires.gige.channel import StreamChannel
from labctl_sim_devices.wires.gige.features import CHUNKS, FEATURES
from labctl_sim_devices.wires.gige.gvcp import Refusal, Status
from labctl_sim_devices.wires.gige.gvsp import PIXEL_FORMATS
from labctl_sim_devices.wires.seat import Seat

SOFTWARE = "Software"
# features that are the device's own settings, by the same name
OF_DEVICE = ("Width", "Height", "OffsetX", "OffsetY", "ExposureTime", "Gain", "BlackLevel", "TriggerDelay")
WHOLE = ("Width", "Height", "OffsetX", "OffsetY", "BlackLevel")


@dataclass
class Choices:
    """What a host has set that the device itself does not know."""

    pixel_format: str
    mode: str = "Continuous"
    frames: int = 1
    rate_hz: float = 20.0
    trigger: str = "Off"
    source: str = "Line0"
    chunks_active: bool = False
    chunk: str = CHUNKS[0].selector
    chunks: frozenset[str] = frozenset()
    counter: str = "Counter0"
    control: str = "Automatic"
    operation: str = "Continuous"
    blocks: int = 1


class CameraModel:
    """Features by name. A refused value raises Refusal; a device that is gone, DeviceUnavailable."""

    def __init__(
        self,
        seat: Seat[Camera],
        identity: Identity,
        world: AbstractContextManager[object],
        channel: StreamChannel,
        faulty: Callable[[DeviceError], None],
    ) -> None:
        self._seat, self._identity, self._world = seat, identity, world
        self._channel, self._faulty = channel, faulty
        spec = self._device.spec
        formats = [f for f in ("Mono8", spec.pixel_format, "Mono16") if f in PIXEL_FORMATS]
        self._default = Choices(pixel_format=spec.pixel_format, source=spec.trigger_sources[0])
        self._set = Choices(**vars(self._default))
        self._acquisition: Acquisition | None = None
        self.last_ns = 0
        channel.bytes_per_s = max(spec.link.mbyte_per_s * 1e6, 1e5)
        height, width = spec.shape_px
        self.entries: dict[str, dict[str, int]] = {
            f.name: {entry: number for number, entry in enumerate(f.entries)}
            for f in FEATURES
            if f.kind == "Enumeration"
        }
        self.entries["PixelFormat"] = {name: PIXEL_FORMATS[name][0] for name in dict.fromkeys(formats)}
        self.entries["TriggerSource"] = {
            name: number for number, name in enumerate((*spec.trigger_sources, SOFTWARE))
        }
        self.limits: dict[str, tuple[float, float]] = {
            "Width": (1, width),
            "Height": (1, height),
            "OffsetX": (0, width),
            "OffsetY": (0, height),
            "AcquisitionFrameCount": (1, spec.max_frames),
            "ExposureTime": spec.exposure_range_us,
            "Gain": spec.gain_range_db,
            "BlackLevel": (0, spec.max_code // 4),
            "TriggerDelay": (0.0, spec.max_trigger_delay_us),
        }

    def read(self, name: str) -> Scalar:
        """Value of a feature now."""
        if name in OF_DEVICE:
            with self._world:
                return self._device.settings.features()[name]
        return self._readers()[name]()

    def write(self, name: str, value: Scalar) -> None:
        """Set a feature."""
        feature = next(f for f in FEATURES if f.name == name)
        if feature.locked and self.running:
            raise Refusal(Status.ACCESS_DENIED)
        if name in OF_DEVICE:
            if name in WHOLE and value != int(value):
                raise Refusal(Status.INVALID_PARAMETER)
            self._configure({name: int(value) if name in WHOLE else value})
            return
        low, high = self.limits.get(name, (feature.low, feature.high))
        if low is not None and high is not None and not low <= float(value) <= high:
            raise Refusal(Status.INVALID_PARAMETER)
        writer = self._writers().get(name)
        if writer is not None:
            writer(value)

    def become(self, identity: Identity) -> None:
        """From now on this camera answers."""
        self._identity = identity

    @property
    def _device(self) -> Camera:
        return self._seat.device

    @property
    def running(self) -> bool:
        """Whether the camera takes frames or waits for triggers."""
        return self._acquisition is not None and (self._acquisition.running or self._acquisition.queued() > 0)

    def stop(self) -> None:
        """AcquisitionStop: break off, wait for no trigger, forget what was not sent."""
        if self._acquisition is not None:
            try:
                self._acquisition.stop()
            finally:
                self.last_ns = self._acquisition.last_ns
                self._acquisition = None
                self._channel.forget()

    def execute(self, name: str) -> Callable[[float], bool] | None:
        """Do a command. What comes back, if anything, waits (s) for it to be done and says whether it is."""
        if name == "AcquisitionStart":
            return self._start()
        if name == "AcquisitionStop":
            self.stop()
        elif name == "TriggerSoftware":
            if self._acquisition is not None and self._set.source == SOFTWARE:
                self._acquisition.pulse()
        elif name == "TransferStart":
            if self._acquisition is None or self._set.control != "UserControlled":
                raise Refusal(Status.ACCESS_DENIED)
            most = self._set.blocks if self._set.operation == "MultiBlock" else None
            return self._acquisition.transfer(most).wait
        elif name == "UserSetLoad":
            self._load_defaults()
        return None

    def payload_bytes(self) -> int:
        """Of a frame as set now: pixels, and chunks with their heads."""
        with self._world:
            s = self._device.settings
        size = s.width_px * s.height_px * (1 if self._set.pixel_format == "Mono8" else 2)
        if self._set.chunks_active:
            size += 8 + 16 * len(self._set.chunks)
        return size

    def _start(self) -> Callable[[float], bool] | None:
        if self.running:
            raise Refusal(Status.BUSY)
        self.stop()
        s = self._set
        on = s.trigger == "On"
        plan = Plan(
            trigger="free" if not on else "software" if s.source == SOFTWARE else "hardware",
            frames={"Continuous": None, "SingleFrame": 1, "MultiFrame": s.frames}[s.mode],
            on_request=s.control == "UserControlled",
            rate_hz=s.rate_hz,
            pixel_format=s.pixel_format,
            chunks=tuple(sorted(s.chunks)) if s.chunks_active else None,
        )
        if plan.on_request and plan.trigger != "hardware" and plan.frames is None:
            raise Refusal(Status.INVALID_PARAMETER)  # nobody says how many to keep
        made = Acquisition(self._seat, self._world, self._channel, plan, self._faulty)
        made.start()
        self._acquisition = made
        return made.taken.wait if plan.on_request and plan.trigger == "free" else None

    def _load_defaults(self) -> None:
        """As after power-up: the device opens anew."""
        with self._world:
            self._device.close()
            self._device.open()
        self._set = Choices(**vars(self._default))

    def _configure(self, features: dict[str, Scalar]) -> None:
        waits = self._set.trigger == "On" and self._set.source != SOFTWARE
        if self.running and waits:
            raise Refusal(Status.ACCESS_DENIED)  # a changed camera would wait no more
        try:
            with self._world:
                self._device.configure(features)
        except DeviceValueError:
            raise Refusal(Status.INVALID_PARAMETER) from None
        except DeviceUnavailable:
            raise
        except DeviceError:
            raise Refusal(Status.ERROR) from None

    def _trigger(self) -> None:
        """Tell the device what it waits for: a software trigger is the face's own business."""
        hardware = self._set.trigger == "On" and self._set.source != SOFTWARE
        features: dict[str, Scalar] = {"TriggerMode": "On" if hardware else "Off"}
        if self._set.source != SOFTWARE:
            features["TriggerSource"] = self._set.source
        self._configure(features)

    def _temperature(self) -> float:
        with self._world:
            return self._device.temperature_c()

    def _counter(self) -> int:
        if self._acquisition is None:
            return 0
        first = self._set.counter == "Counter0"
        return self._acquisition.triggers() if first else self._acquisition.frames_ended()

    def _readers(self) -> dict[str, Callable[[], Scalar]]:
        who, spec, s = self._identity, self._device.spec, self._set
        height, width = spec.shape_px
        return {
            "DeviceVendorName": lambda: who.vendor,
            "DeviceModelName": lambda: who.model,
            "DeviceManufacturerInfo": lambda: "simulated" if who.simulated else "",
            "DeviceVersion": lambda: who.firmware,
            "DeviceFirmwareVersion": lambda: who.firmware,
            "DeviceSerialNumber": lambda: who.serial,
            "DeviceTemperature": self._temperature,
            "DeviceLinkThroughputLimit": lambda: int(self._channel.bytes_per_s),
            "SensorWidth": lambda: width,
            "SensorHeight": lambda: height,
            "WidthMax": lambda: width,
            "HeightMax": lambda: height,
            "SensorShutterMode": lambda: spec.shutter.capitalize(),
            "PixelFormat": lambda: s.pixel_format,
            "AcquisitionMode": lambda: s.mode,
            "AcquisitionFrameCount": lambda: s.frames,
            "AcquisitionFrameRate": lambda: s.rate_hz,
            "AcquisitionStatus": lambda: self.running,
            "ExposureMode": lambda: "Timed",
            "TriggerSelector": lambda: "FrameStart",
            "TriggerMode": lambda: s.trigger,
            "TriggerSource": lambda: s.source,
            "TriggerActivation": lambda: "RisingEdge",
            "GainSelector": lambda: "All",
            "BlackLevelSelector": lambda: "All",
            "ChunkModeActive": lambda: s.chunks_active,
            "ChunkSelector": lambda: s.chunk,
            "ChunkEnable": lambda: s.chunk in s.chunks,
            "CounterSelector": lambda: s.counter,
            "CounterEventSource": lambda: {"Counter0": "FrameTrigger", "Counter1": "FrameEnd"}[s.counter],
            "CounterValue": self._counter,
            "TransferControlMode": lambda: s.control,
            "TransferOperationMode": lambda: s.operation,
            "TransferBlockCount": lambda: s.blocks,
            "TransferQueueCurrentBlockCount": lambda: (
                0 if self._acquisition is None else self._acquisition.queued()
            ),
            "UserSetSelector": lambda: "Default",
            "PayloadSize": self.payload_bytes,
        }

    def _writers(self) -> dict[str, Callable[[Scalar], None]]:
        def into(field: str, *, then: Callable[[], None] | None = None) -> Callable[[Scalar], None]:
            def write(value: Scalar) -> None:
                before = getattr(self._set, field)
                setattr(self._set, field, value)
                if then is None:
                    return
                try:
                    then()
                except Refusal:
                    setattr(self._set, field, before)
                    raise

            return write

        def enable(value: Scalar) -> None:
            kept = self._set.chunks - {self._set.chunk}
            self._set.chunks = kept | {self._set.chunk} if value else kept

        def limit(value: Scalar) -> None:
            self._channel.bytes_per_s = float(value)

        return {
            "DeviceLinkThroughputLimit": limit,
            "PixelFormat": into("pixel_format"),
            "AcquisitionMode": into("mode"),
            "AcquisitionFrameCount": into("frames"),
            "AcquisitionFrameRate": into("rate_hz"),
            "TriggerMode": into("trigger", then=self._trigger),
            "TriggerSource": into("source", then=self._trigger),
            "ChunkModeActive": into("chunks_active"),
            "ChunkSelector": into("chunk"),
            "ChunkEnable": enable,
            "CounterSelector": into("counter"),
            "TransferControlMode": into("control"),
            "TransferOperationMode": into("operation"),
            "TransferBlockCount": into("blocks"),
        }
