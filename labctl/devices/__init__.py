"""Interfaces, specs, value types, errors and the calibration record. This room knows nobody."""

from labctl.devices.camera import Camera, CameraSettings
from labctl.devices.device import Device
from labctl.devices.errors import (
    Aborted,
    CalibrationMissing,
    CheckpointError,
    ConfigError,
    DataError,
    DeviceError,
    DeviceFault,
    DeviceStateError,
    DeviceTimeout,
    DeviceUnavailable,
    DeviceValueError,
    LabctlError,
    ProgramError,
    RunLogError,
    UnsupportedFeature,
    UserError,
)
from labctl.devices.input_drive import InputDrive
from labctl.devices.loop_electronics import LoopElectronics, SettleCodes
from labctl.devices.outcome import Outcome
from labctl.devices.specs import CameraSpec, Converter, DriveSpec, GainScale, LoopSpec, ModulatorSpec
from labctl.devices.values import (
    CalibrationRecord,
    Coercion,
    DriveReceipt,
    Frames,
    Hold,
    Identity,
    LoopReadout,
    ProbeReadout,
    Scalar,
    ShowReceipt,
)
from labctl.devices.weight_modulator import WeightModulator, frame_checksum

__all__ = [
    "Aborted",
    "CalibrationMissing",
    "CalibrationRecord",
    "Camera",
    "CameraSettings",
    "CameraSpec",
    "CheckpointError",
    "Coercion",
    "ConfigError",
    "Converter",
    "DataError",
    "Device",
    "DeviceError",
    "DeviceFault",
    "DeviceStateError",
    "DeviceTimeout",
    "DeviceUnavailable",
    "DeviceValueError",
    "DriveReceipt",
    "DriveSpec",
    "Frames",
    "GainScale",
    "Hold",
    "Identity",
    "InputDrive",
    "LabctlError",
    "LoopElectronics",
    "LoopReadout",
    "LoopSpec",
    "ModulatorSpec",
    "Outcome",
    "ProbeReadout",
    "ProgramError",
    "RunLogError",
    "Scalar",
    "SettleCodes",
    "ShowReceipt",
    "UnsupportedFeature",
    "UserError",
    "WeightModulator",
    "frame_checksum",
]
