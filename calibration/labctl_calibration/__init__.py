"""Procedures that measure a bench through its interfaces, and the records they leave."""

from labctl_calibration.nominal import nominal_panel_record
from labctl_calibration.open_loop import calibrate_open_loop

__all__ = ["calibrate_open_loop", "nominal_panel_record"]
