"""Twins: physics, a world that twins on one bench share, and (later) wires in front of it."""

from labctl_sim_devices.bench import OpticalBench
from labctl_sim_devices.camera import CameraTwin
from labctl_sim_devices.electronics import ElectronicsTwin
from labctl_sim_devices.emitters import EmitterTwin
from labctl_sim_devices.panel import PanelTwin
from labctl_sim_devices.profile import OpticalProfile, load_profile, profile_document, profile_names

__all__ = [
    "CameraTwin",
    "ElectronicsTwin",
    "EmitterTwin",
    "OpticalBench",
    "OpticalProfile",
    "PanelTwin",
    "load_profile",
    "profile_document",
    "profile_names",
]
