"""The panel's half of a bring-up: from a bench that nobody has measured to a record that frames are made
by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labctl.devices import CalibrationRecord, LoopElectronics, WeightModulator
from labctl_calibration.darks import Darks, measure_darks
from labctl_calibration.emitters import Emitters, measure_emitters
from labctl_calibration.levels import Levels, measure_levels
from labctl_calibration.light_check import check_light
from labctl_calibration.linearity import Linearity, measure_linearity
from labctl_calibration.panel_record import measured_panel_record
from labctl_calibration.probing import DeviceTime, Probing
from labctl_calibration.registration import Registration, register

Tell = Callable[[str, int, int], None]
STEPS = ("dark levels", "light", "linearity", "emitters", "registration", "levels")


@dataclass(frozen=True, eq=False)
class PanelBringUp:
    """What was measured, the record of it, findings in words, and the devices' time that it took."""

    darks: Darks
    linearity: Linearity
    emitters: Emitters
    registration: Registration
    levels: Levels
    record: CalibrationRecord
    findings: tuple[str, ...]
    used: DeviceTime


def bring_up_panel(
    modulator: WeightModulator, electronics: LoopElectronics, *, tell: Tell | None = None
) -> PanelBringUp:
    """Measure a bench through its interfaces alone; the panel is dark again at the end.

    `tell(what, done, total)` is called before each step and after the last. Raises DeviceFault, naming the
    device and what is allowed, for: no light, a blank panel, too little light, too many dead channels, cells
    that no map fits. Mirrored and swapped planes are found and corrected, not refused.
    """

    def say(done: int) -> None:
        if tell is not None:
            tell(STEPS[done] if done < len(STEPS) else "done", done, len(STEPS))

    probing = Probing(modulator, electronics)
    say(0)
    darks = measure_darks(probing)
    say(1)
    light = check_light(probing, darks)
    say(2)
    linearity = measure_linearity(probing, light.sides)
    say(3)
    emitters = measure_emitters(probing, linearity, light.sides)
    say(4)
    registration = register(probing)
    say(5)
    levels = measure_levels(probing, darks, emitters, registration)
    probing.show_half(0, 0)
    say(6)
    return PanelBringUp(
        darks=darks,
        linearity=linearity,
        emitters=emitters,
        registration=registration,
        levels=levels,
        record=measured_panel_record(modulator.open(), darks, linearity, emitters, registration, levels),
        findings=(
            darks.found,
            light.found,
            linearity.found,
            emitters.found,
            *registration.found,
            levels.found,
        ),
        used=probing.used,
    )
