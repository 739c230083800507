"""Procedures that measure oscillator boards, in the order in which they rest on each other."""

from labctl_calibration.oscillators.agreement import AGREEMENT
from labctl_calibration.oscillators.anchors import ANCHORS
from labctl_calibration.oscillators.couplings import COUPLINGS
from labctl_calibration.oscillators.diffusion import DIFFUSION
from labctl_calibration.oscillators.frequency import FREQUENCIES
from labctl_calibration.oscillators.lag import LAG
from labctl_calibration.oscillators.settling import SETTLING
from labctl_calibration.oscillators.skew import READ_PATHS
from labctl_calibration.oscillators.temperature import TEMPERATURE

ESSENTIAL = (FREQUENCIES, READ_PATHS, ANCHORS, COUPLINGS)  # what compensation needs
OSCILLATOR_PROCEDURES = (*ESSENTIAL, LAG, DIFFUSION, SETTLING, TEMPERATURE, AGREEMENT)

__all__ = [
    "AGREEMENT",
    "ANCHORS",
    "COUPLINGS",
    "DIFFUSION",
    "ESSENTIAL",
    "FREQUENCIES",
    "LAG",
    "OSCILLATOR_PROCEDURES",
    "READ_PATHS",
    "SETTLING",
    "TEMPERATURE",
]
