"""Every procedure there is, one line each (or each bench); which of them a rig can run follows from its
devices.
"""

from __future__ import annotations

from labctl_calibration.optical import OPTICAL
from labctl_calibration.oscillators import OSCILLATOR_PROCEDURES
from labctl_calibration.procedure import Devices, Procedure

PROCEDURES: tuple[Procedure, ...] = (
    *OPTICAL,
    *OSCILLATOR_PROCEDURES,
)  # fmt: skip


def procedures_for(devices: Devices, procedures: tuple[Procedure, ...] = PROCEDURES) -> tuple[Procedure, ...]:
    """Those whose roles the devices fill."""
    return tuple(procedure for procedure in procedures if devices.has(*procedure.roles))
