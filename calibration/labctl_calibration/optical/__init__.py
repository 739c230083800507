"""Procedures of an optical bench, in the order of a real lab."""

from labctl_calibration.optical.agreement import AGREEMENT
from labctl_calibration.optical.camera_dark import CAMERA_DARK
from labctl_calibration.optical.camera_flat import CAMERA_FLAT
from labctl_calibration.optical.camera_in_place import CAMERA_IN_PLACE
from labctl_calibration.optical.crosstalk import CROSSTALK
from labctl_calibration.optical.flats import FLATS
from labctl_calibration.optical.focus import FOCUS
from labctl_calibration.optical.golden import GOLDEN
from labctl_calibration.optical.linear_answers import LINEAR_ANSWERS
from labctl_calibration.optical.loop_procedures import LOOP
from labctl_calibration.optical.loopback import LOOPBACK
from labctl_calibration.optical.panel_procedures import PANEL
from labctl_calibration.optical.panel_timing import PANEL_TIMING
from labctl_calibration.optical.row_dynamics import ROW_DYNAMICS
from labctl_calibration.optical.warm_up import WARM_UP

# before light is needed, and beside the panel's and the loop's own procedures, which a bring-up runs alone
BEFORE = (LOOPBACK, CAMERA_DARK, CAMERA_FLAT, WARM_UP)
BETWEEN = (PANEL_TIMING, FLATS, CROSSTALK)
AFTER = (ROW_DYNAMICS, LINEAR_ANSWERS, GOLDEN, AGREEMENT)
SPOTS, *_REST = LOOP
OPTICAL = (*BEFORE, *PANEL, *BETWEEN, SPOTS, CAMERA_IN_PLACE, FOCUS, *_REST, *AFTER)

__all__ = ["AGREEMENT", "LOOP", "OPTICAL", "PANEL"]
