"""The camera's part of a bring-up: where it has the spots, and how far that is from the design, in words."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.devices import (
    CalibrationRecord,
    Camera,
    ConfigError,
    DeviceFault,
    LoopElectronics,
    WeightModulator,
)
from labctl_calibration.nominal import nominal_spot_record
from labctl_calibration.spots import find_spots


@dataclass(frozen=True, eq=False)
class CameraBringUp:
    """The record of the spots, None where they cannot be had; what was found, or what stands in the way."""

    record: CalibrationRecord | None
    finding: str


def bring_up_camera(
    modulator: WeightModulator,
    electronics: LoopElectronics,
    camera: Camera,
    panel_record: CalibrationRecord,
) -> CameraBringUp:
    """Register the spots by the measured panel. A camera that sees none, too much, or them in another order
    is a finding: the bench works without it, and a read-out through it would be refused.
    """
    try:
        found = find_spots(modulator, electronics, camera, panel_record)
    except (DeviceFault, ConfigError) as error:
        return CameraBringUp(None, f"the camera's spots are not registered: {error}")
    down, right = found.shift_px(nominal_spot_record(camera.spec, electronics.spec.n_channels, "design"))
    words = (
        f"{camera.name}: {found.found}; places are good to {found.error_px:.3f} px; the image lies "
        f"{down:+.2f} px down and {right:+.2f} px right of its design"
    )
    cells = round(down / found.pitch_px), round(right / found.pitch_px)
    if any(cells):
        words += (
            f": {cells[0]:+d} and {cells[1]:+d} spots, so that by the design outputs would be taken for "
            "others"
        )
    return CameraBringUp(found.record(camera.open().serial), words)
