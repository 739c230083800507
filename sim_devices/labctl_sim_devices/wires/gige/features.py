"""The camera's features by their standard names (EMVA SFNC 2.7), as a table: what the XML and the memory say.

Two chunks are ours: the bench's clock at a frame's trigger and at the start of its exposure, in microseconds
and without rounding, so that times in a stepped world are the same over the wire as without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labctl_sim_devices.wires.gige.gvcp import Bootstrap

Kind = Literal["Integer", "Float", "Boolean", "Enumeration", "Command", "String"]
Access = Literal["RO", "RW", "WO"]
LENGTHS = {"Integer": 4, "Float": 8, "Boolean": 4, "Enumeration": 4, "Command": 4, "String": 64}


@dataclass(frozen=True)
class Feature:
    """One feature. `locked`: not while images are taken. `at`: a register of the bootstrap map.

    `selects` names the features that an enumeration chooses a copy of. Limits and an enumeration's entries
    are the camera's own where the table has none.
    """

    category: str
    name: str
    kind: Kind
    access: Access = "RW"
    about: str = ""
    unit: str = ""
    locked: bool = False
    low: float | None = None
    high: float | None = None
    entries: tuple[str, ...] = ()
    selects: tuple[str, ...] = ()
    length: int = 0
    at: int | None = None

    @property
    def size(self) -> int:
        """Bytes of its register."""
        return self.length or LENGTHS[self.kind]


@dataclass(frozen=True)
class Chunk:
    """One value that can travel with every frame; `selector` is its entry of ChunkSelector."""

    selector: str
    code: int
    kind: Literal["Integer", "Float"]
    about: str
    unit: str = ""

    @property
    def name(self) -> str:
        """Of the feature that reads it."""
        return "Chunk" + self.selector


CHUNKS = (
    Chunk("FrameID", 0x1001, "Integer", "Triggers or frames since AcquisitionStart, lost ones included."),
    Chunk("Timestamp", 0x1002, "Integer", "Start of the exposure.", "ns"),
    Chunk("ExposureTime", 0x1003, "Float", "Exposure of this frame.", "us"),
    Chunk("Gain", 0x1004, "Float", "Gain of this frame.", "dB"),
    Chunk("TriggerTime", 0x1101, "Float", "The bench's clock at the trigger, unrounded.", "us"),
    Chunk("ExposureStart", 0x1102, "Float", "The bench's clock at the start of exposure, unrounded.", "us"),
)

_DEVICE, _IMAGE, _TAKE = "DeviceControl", "ImageFormatControl", "AcquisitionControl"
_ANALOG, _CHUNK, _COUNTER = "AnalogControl", "ChunkDataControl", "CounterAndTimerControl"
_TRANSFER, _USER, _LINK = "TransferControl", "UserSetControl", "TransportLayerControl"
CATEGORIES = (_DEVICE, _IMAGE, _TAKE, _ANALOG, _CHUNK, _COUNTER, _TRANSFER, _USER, _LINK)

FEATURES = (
    Feature(_DEVICE, "DeviceVendorName", "String", "RO"),
    Feature(_DEVICE, "DeviceModelName", "String", "RO"),
    Feature(_DEVICE, "DeviceManufacturerInfo", "String", "RO"),
    Feature(_DEVICE, "DeviceVersion", "String", "RO"),
    Feature(_DEVICE, "DeviceFirmwareVersion", "String", "RO"),
    Feature(_DEVICE, "DeviceSerialNumber", "String", "RO", "In full; the bootstrap register has its end."),
    Feature(_DEVICE, "DeviceTemperature", "Float", "RO", unit="C"),
    Feature(_DEVICE, "DeviceLinkThroughputLimit", "Integer", unit="Bps", low=100_000, high=1_000_000_000),
    Feature(_IMAGE, "SensorWidth", "Integer", "RO"),
    Feature(_IMAGE, "SensorHeight", "Integer", "RO"),
    Feature(_IMAGE, "WidthMax", "Integer", "RO"),
    Feature(_IMAGE, "HeightMax", "Integer", "RO"),
    Feature(_IMAGE, "SensorShutterMode", "Enumeration", "RO", entries=("Global", "Rolling")),
    Feature(_IMAGE, "Width", "Integer", locked=True),
    Feature(_IMAGE, "Height", "Integer", locked=True),
    Feature(_IMAGE, "OffsetX", "Integer", locked=True),
    Feature(_IMAGE, "OffsetY", "Integer", locked=True),
    Feature(_IMAGE, "PixelFormat", "Enumeration", locked=True),
    Feature(
        _TAKE, "AcquisitionMode", "Enumeration", locked=True,
        entries=("Continuous", "SingleFrame", "MultiFrame"),
    ),
    Feature(_TAKE, "AcquisitionFrameCount", "Integer", locked=True),
    Feature(_TAKE, "AcquisitionStart", "Command", "WO"),
    Feature(_TAKE, "AcquisitionStop", "Command", "WO"),
    Feature(
        _TAKE, "AcquisitionFrameRate", "Float", about="Of a free-running camera, in wall time.", unit="Hz",
        low=0.1, high=1000.0,
    ),
    Feature(_TAKE, "AcquisitionStatus", "Boolean", "RO", "Whether frames are being taken."),
    Feature(_TAKE, "ExposureMode", "Enumeration", "RO", entries=("Timed",)),
    Feature(_TAKE, "ExposureTime", "Float", unit="us"),
    Feature(
        _TAKE, "TriggerSelector", "Enumeration", entries=("FrameStart",),
        selects=("TriggerMode", "TriggerSource", "TriggerActivation", "TriggerDelay", "TriggerSoftware"),
    ),
    Feature(_TAKE, "TriggerMode", "Enumeration", locked=True, entries=("Off", "On")),
    Feature(_TAKE, "TriggerSource", "Enumeration", locked=True),
    Feature(_TAKE, "TriggerActivation", "Enumeration", "RO", entries=("RisingEdge",)),
    Feature(_TAKE, "TriggerDelay", "Float", unit="us"),
    Feature(_TAKE, "TriggerSoftware", "Command", "WO"),
    Feature(_ANALOG, "GainSelector", "Enumeration", entries=("All",), selects=("Gain",)),
    Feature(_ANALOG, "Gain", "Float", unit="dB"),
    Feature(_ANALOG, "BlackLevelSelector", "Enumeration", entries=("All",), selects=("BlackLevel",)),
    Feature(_ANALOG, "BlackLevel", "Float", about="Whole codes only.", unit="DN"),
    Feature(_CHUNK, "ChunkModeActive", "Boolean", locked=True),
    Feature(
        _CHUNK, "ChunkSelector", "Enumeration", entries=tuple(c.selector for c in CHUNKS),
        selects=("ChunkEnable",),
    ),
    Feature(_CHUNK, "ChunkEnable", "Boolean", locked=True),
    Feature(
        _COUNTER, "CounterSelector", "Enumeration", entries=("Counter0", "Counter1"),
        selects=("CounterEventSource", "CounterValue"),
    ),
    Feature(
        _COUNTER, "CounterEventSource", "Enumeration", "RO", "Since AcquisitionStart.",
        entries=("FrameTrigger", "FrameEnd"),
    ),
    Feature(_COUNTER, "CounterValue", "Integer", "RO"),
    Feature(
        _TRANSFER, "TransferControlMode", "Enumeration", locked=True, entries=("Automatic", "UserControlled"),
        about="UserControlled: frames stay in the camera until TransferStart.",
    ),
    Feature(
        _TRANSFER, "TransferOperationMode", "Enumeration", locked=True, entries=("Continuous", "MultiBlock")
    ),
    Feature(_TRANSFER, "TransferBlockCount", "Integer", low=1, high=65535),
    Feature(_TRANSFER, "TransferStart", "Command", "WO"),
    Feature(_TRANSFER, "TransferQueueCurrentBlockCount", "Integer", "RO"),
    Feature(_USER, "UserSetSelector", "Enumeration", entries=("Default",), selects=("UserSetLoad",)),
    Feature(_USER, "UserSetLoad", "Command", "WO", locked=True),
    Feature(_LINK, "PayloadSize", "Integer", "RO", unit="B"),
    Feature(_LINK, "GevHeartbeatTimeout", "Integer", unit="ms", at=Bootstrap.HEARTBEAT_MS),
    Feature(_LINK, "GevTimestampTickFrequency", "Integer", "RO", "", "Hz", length=8, at=Bootstrap.TICKS_HIGH),
    Feature(_LINK, "GevTimestampControlLatch", "Command", "WO", at=Bootstrap.TIMESTAMP_CONTROL),
    Feature(
        _LINK, "GevTimestampValue", "Integer", "RO", "Of the last frame's exposure.", "ns", length=8,
        at=Bootstrap.TIMESTAMP_HIGH,
    ),
    Feature(_LINK, "GevCCP", "Integer", about="0 open, 1 exclusive, 2 control.", at=Bootstrap.PRIVILEGE),
    Feature(_LINK, "GevSCPHostPort", "Integer", at=Bootstrap.STREAM_PORT),
    Feature(_LINK, "GevSCPSPacketSize", "Integer", unit="B", at=Bootstrap.STREAM_PACKET_SIZE),
    Feature(_LINK, "GevSCPD", "Integer", unit="ns", at=Bootstrap.STREAM_PACKET_DELAY),
    Feature(_LINK, "GevSCDA", "Integer", at=Bootstrap.STREAM_ADDRESS),
)  # fmt: skip
