"""Twins: physics, a world that twins on one bench share, and (later) wires in front of it."""

from labctl_sim_devices.bench import OpticalBench
from labctl_sim_devices.camera import CameraTwin
from labctl_sim_devices.damage import DamageEvent, DamageRecord
from labctl_sim_devices.dmd import DmdTwin
from labctl_sim_devices.electronics import ElectronicsTwin
from labctl_sim_devices.emitters import EmitterTwin
from labctl_sim_devices.panel import PanelTwin
from labctl_sim_devices.phase_panel import PhasePanelTwin
from labctl_sim_devices.profile import OpticalProfile, load_profile, profile_document, profile_names
from labctl_sim_devices.truth import BenchTruth
from labctl_sim_devices.units import TERMS, UnitTruth, draw_unit

__all__ = [
    "TERMS",
    "BenchTruth",
    "CameraTwin",
    "DamageEvent",
    "DamageRecord",
    "DmdTwin",
    "ElectronicsTwin",
    "EmitterTwin",
    "OpticalBench",
    "OpticalProfile",
    "PanelTwin",
    "PhasePanelTwin",
    "UnitTruth",
    "draw_unit",
    "load_profile",
    "profile_document",
    "profile_names",
]
