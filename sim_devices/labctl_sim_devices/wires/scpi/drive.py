"""Emitter drivers as an SCPI instrument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from labctl.devices import Identity, InputDrive
from labctl.devices.wire.scpi_commands import PROTOCOL
from labctl.devices.wire.scpi_records import DriveDescription, DriveQueue
from labctl_sim_devices.wires.scpi.arguments import Arguments
from labctl_sim_devices.wires.scpi.instrument import Handler
from labctl_sim_devices.wires.scpi.sealed_face import SealedFace


class ScpiDriveFace(SealedFace[InputDrive]):
    """`labctl.devices.wire.scpi_commands.DRIVE` in front of any input drive."""

    DRIVER: ClassVar[str] = "scpi.input-drive"

    def _description(self, identity: Identity) -> DriveDescription:
        return DriveDescription("input-drive", PROTOCOL, identity.simulated, self._device.spec)

    def _own_commands(self) -> Mapping[str, Handler]:
        return {
            "DRIVe:HOLD": self._set_hold,
            "DRIVe:HOLD?": self._get_hold,
            "DRIVe:PATTern?": self._pattern,
        }

    def _pattern(self, arguments: Arguments) -> bytes:
        arguments.expect(1)
        queue = arguments.record(0, DriveQueue)
        hold = self._hold
        return self._record(
            lambda: self._open().drive(
                queue.codes, hold=hold, step_id=queue.step_id, sample_id=queue.sample_id
            )
        )
