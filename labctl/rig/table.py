"""The one table of implementations: what a rig file calls a driver, and where it lives.

Dotted names, imported on demand, so that a missing vendor SDK breaks only its own device.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

Role = Literal["modulator", "drive", "electronics", "camera"]


@dataclass(frozen=True)
class Entry:
    """One driver: the role it fills, its class, and the world it lives in (None: a real wire)."""

    role: Role
    target: str
    world: str | None


DRIVERS: dict[str, Entry] = {
    "twin.lcos-panel": Entry("modulator", "labctl_sim_devices.panel:PanelTwin", "optical-bench"),
    "twin.dmd": Entry("modulator", "labctl_sim_devices.dmd:DmdTwin", "optical-bench"),
    "twin.phase-panel": Entry("modulator", "labctl_sim_devices.phase_panel:PhasePanelTwin", "optical-bench"),
    "twin.emitters": Entry("drive", "labctl_sim_devices.emitters:EmitterTwin", "optical-bench"),
    "twin.loop-electronics": Entry(
        "electronics", "labctl_sim_devices.electronics:ElectronicsTwin", "optical-bench"
    ),
    "twin.camera": Entry("camera", "labctl_sim_devices.camera:CameraTwin", "optical-bench"),
}

WORLDS: dict[str, str] = {"optical-bench": "labctl_sim_devices.bench:OpticalBench"}


PROFILE_VALUES = "labctl_sim_devices.profile:profile_values"
PROFILE_IMPORT = "labctl_sim_devices.profile_import:import_profile"


def load(target: str) -> Any:
    """The object at "module:name"."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
