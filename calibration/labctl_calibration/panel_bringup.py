"""The panel's half of a bring-up: from a bench that nobody has measured to a record that frames are made
by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from labctl.devices import CalibrationRecord, LoopElectronics, WeightModulator
from labctl_calibration.darks import Darks
from labctl_calibration.emitters import Emitters
from labctl_calibration.levels import Levels
from labctl_calibration.linearity import Linearity
from labctl_calibration.optical.found import (
    darks_of,
    emitters_of,
    levels_of,
    linearity_of,
    registration_of,
)
from labctl_calibration.optical.panel_procedures import (
    DARKS,
    EMITTERS,
    LINEARITY,
    PANEL,
    REGISTRATION,
)
from labctl_calibration.panel_record import KIND
from labctl_calibration.probing import DeviceTime
from labctl_calibration.procedure import Devices, Tell
from labctl_calibration.registration import Registration
from labctl_calibration.taking import Taken, silent, take_all

STEPS = tuple(procedure.title for procedure in PANEL)


@dataclass(frozen=True, eq=False)
class PanelBringUp:
    """What was measured, the record of it, findings in words, and the devices' time that it took.

    The record's full scale is what nearly every cell reaches.
    """

    darks: Darks
    linearity: Linearity
    emitters: Emitters
    registration: Registration
    levels: Levels
    record: CalibrationRecord
    findings: tuple[str, ...]
    used: DeviceTime

    @classmethod
    def of(cls, found: Mapping[str, Taken]) -> PanelBringUp:
        """From what the panel's procedures left."""
        panel = found[KIND].record
        steps = [found[procedure.kind].measured for procedure in PANEL]
        reached = panel.array("reached_full_scale_units")
        return cls(
            darks=darks_of(found[DARKS].record),
            linearity=linearity_of(found[LINEARITY].record),
            emitters=emitters_of(found[EMITTERS].record),
            registration=registration_of(found[REGISTRATION].record),
            levels=levels_of(panel),
            record=replace(panel, arrays={**panel.arrays, "full_scale_units": reached}),
            findings=tuple(line for measured in steps for line in measured.findings),
            used=DeviceTime(
                frames=sum(int(measured.settings["frames"]) for measured in steps),
                probes=sum(int(measured.settings["probes"]) for measured in steps),
                modelled_s=sum(float(measured.settings["device_s"]) for measured in steps),
            ),
        )


def bring_up_panel(
    modulator: WeightModulator, electronics: LoopElectronics, *, tell: Tell | None = None
) -> PanelBringUp:
    """Measure a bench through its interfaces alone; the panel is dark again at the end.

    `tell(what, done, total)` is called before each step and after the last. Raises DeviceFault, naming the
    device and what is allowed, for: no light, a blank panel, too little light, too many dead channels, cells
    that no map fits. Mirrored and swapped planes are found and corrected, not refused.
    """
    devices = Devices({WeightModulator: modulator, LoopElectronics: electronics})
    return PanelBringUp.of(take_all(PANEL, devices, tell or silent)[0])
