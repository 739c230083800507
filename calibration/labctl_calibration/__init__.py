"""Procedures that measure a bench through its interfaces, and the records they leave."""

from labctl_calibration.camera import calibrate_camera
from labctl_calibration.camera_light import LightCalibration, calibrate_light
from labctl_calibration.nominal import nominal_panel_record, nominal_spot_record
from labctl_calibration.open_loop import calibrate_open_loop, calibrate_steady
from labctl_calibration.panel_bringup import PanelBringUp, bring_up_panel
from labctl_calibration.spots import SpotRegistration, find_spots

__all__ = [
    "LightCalibration",
    "PanelBringUp",
    "SpotRegistration",
    "bring_up_panel",
    "calibrate_camera",
    "calibrate_light",
    "calibrate_open_loop",
    "calibrate_steady",
    "find_spots",
    "nominal_panel_record",
    "nominal_spot_record",
]
