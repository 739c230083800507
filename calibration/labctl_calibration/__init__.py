"""Procedures that measure a bench through its interfaces, and the records they leave."""

from labctl_calibration.camera import calibrate_camera
from labctl_calibration.nominal import nominal_panel_record, nominal_spot_record
from labctl_calibration.open_loop import calibrate_open_loop

__all__ = ["calibrate_camera", "calibrate_open_loop", "nominal_panel_record", "nominal_spot_record"]
