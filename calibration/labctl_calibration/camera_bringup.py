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
from labctl_calibration.spots import find_spots, spots_words


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
    words = spots_words(camera, found, electronics.spec.n_channels)
    return CameraBringUp(found.record(camera.open().serial), words)
