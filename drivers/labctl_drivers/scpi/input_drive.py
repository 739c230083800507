"""Emitter drivers on SCPI: a queue of patterns is one block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DriveReceipt, DriveSpec, Hold, InputDrive
from labctl.devices.wire.scpi_records import DriveDescription, DriveQueue
from labctl_drivers.scpi.sealed import Sealed, as_block, hold_words


class ScpiInputDrive(Sealed, InputDrive):
    """Speaks `labctl.devices.wire.scpi_commands.DRIVE`."""

    KIND = "input-drive"
    DESCRIPTION = DriveDescription

    @property
    def spec(self) -> DriveSpec:
        """As the instrument says."""
        spec: DriveSpec = self._description().spec
        return spec

    def _do_drive(
        self, codes: NDArray[np.int64], hold: Hold | None, step_id: int, sample_id: NDArray[np.int64] | None
    ) -> DriveReceipt:
        queue = as_block(DriveQueue(codes, step_id, sample_id))
        units = (b"DRIV:HOLD " + hold_words(hold), b"PATT? " + queue)
        return self._record("drive", DriveReceipt, *units, batch=True)
