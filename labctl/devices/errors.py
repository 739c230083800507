"""The error tree. A caller's mistake is a UserError; a device's fault is a DeviceError.

Not converging is data, never an exception. Every message names the device, file or field, the
value, and what is allowed.
"""

from __future__ import annotations


class LabctlError(Exception):
    """Anything labctl raises on purpose."""

    exit_code = 1


class UserError(LabctlError, ValueError):
    """A value, file or name that the person who typed it can correct."""

    exit_code = 2


class ConfigError(UserError):
    """A recipe, rig file or command-line setting that does not make sense."""


class DataError(UserError):
    """A data file that is truncated, malformed, or not what its checksum says."""


class ProgramError(UserError):
    """A network or program that the machine cannot hold."""


class CheckpointError(DataError):
    """A checkpoint whose hash, shape or card does not match."""


class DeviceError(LabctlError):
    """A fault of one device during one operation.

    `wire` keeps the bytes exchanged, where there was a wire.
    """

    exit_code = 3

    def __init__(self, message: str, *, device: str, operation: str, wire: bytes | None = None) -> None:
        super().__init__(f"{device}: {operation}: {message}")
        self.device = device
        self.operation = operation
        self.wire = wire


class DeviceValueError(DeviceError, ValueError):
    """An argument of wrong shape, type or range; raised before anything reaches the hardware."""

    exit_code = 2


class LimitExceeded(DeviceValueError):
    """A command beyond a limit of the rig file; it was not sent."""


class DeviceStateError(DeviceError):
    """The device is not open, or not in a state in which the operation makes sense."""


class DeviceUnavailable(DeviceError):
    """The device cannot be opened, or has disappeared."""


class DeviceTimeout(DeviceError):
    """The device did not answer in time."""


class DeviceFault(DeviceError):
    """The device itself reports a fault; its own code and text are in the message."""


class UnsupportedFeature(DeviceError):
    """The device does not have this ability."""


class InterlockTripped(LabctlError):
    """A reading that must be good is bad, missing or frozen; the bench is brought to its safe state."""

    exit_code = 3


class CalibrationMissing(LabctlError):
    """A value was needed that no calibration record holds."""

    exit_code = 5


class RunLogError(LabctlError):
    """The run file cannot be written or read (exists already, no permission, disk full, not a run)."""

    exit_code = 4


class ReplayDiffers(LabctlError):
    """A run that was made again did not come out the same."""


class Aborted(LabctlError):
    """A person stopped the run; the rig is safe and the file is whole."""

    exit_code = 130


class DriftStop(Aborted):
    """A watch on drift stopped the run, as its policy says; the rig is safe and the file is whole."""

    exit_code = 3
