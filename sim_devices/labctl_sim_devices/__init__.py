"""Twins: physics, a world that twins on one bench share, and (later) wires in front of it."""

from labctl_sim_devices.bench import OpticalBench
from labctl_sim_devices.camera import CameraTwin
from labctl_sim_devices.damage import DamageEvent, DamageRecord
from labctl_sim_devices.dmd import DmdTwin
from labctl_sim_devices.electronics import ElectronicsTwin
from labctl_sim_devices.emitters import EmitterTwin
from labctl_sim_devices.flat_field import FlatFieldTwin
from labctl_sim_devices.oscillator_bench import OscillatorBench
from labctl_sim_devices.oscillator_board import BoardLaw, OscillatorBoardTwin
from labctl_sim_devices.oscillator_profile import (
    OscillatorProfile,
    load_oscillator_profile,
    oscillator_profile_names,
)
from labctl_sim_devices.oscillator_units import OSCILLATOR_TERMS, OscillatorTruth, draw_board
from labctl_sim_devices.panel import PanelTwin
from labctl_sim_devices.phase_panel import PhasePanelTwin
from labctl_sim_devices.profile import OpticalProfile, load_profile, profile_document, profile_names
from labctl_sim_devices.truth import BenchTruth
from labctl_sim_devices.units import TERMS, UnitTruth, draw_unit

__all__ = [
    "OSCILLATOR_TERMS",
    "TERMS",
    "BenchTruth",
    "BoardLaw",
    "CameraTwin",
    "DamageEvent",
    "DamageRecord",
    "DmdTwin",
    "ElectronicsTwin",
    "EmitterTwin",
    "FlatFieldTwin",
    "OpticalBench",
    "OpticalProfile",
    "OscillatorBench",
    "OscillatorBoardTwin",
    "OscillatorProfile",
    "OscillatorTruth",
    "PanelTwin",
    "PhasePanelTwin",
    "UnitTruth",
    "draw_board",
    "draw_unit",
    "load_oscillator_profile",
    "load_profile",
    "oscillator_profile_names",
    "profile_document",
    "profile_names",
]
