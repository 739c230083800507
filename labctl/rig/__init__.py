"""Rig files to devices to an engine: the composition root."""

from labctl.rig.checking import Finding
from labctl.rig.config import (
    RigConfig,
    load_rig,
    rig_names,
)
from labctl.rig.discovery import discover
from labctl.rig.health import check_rig
from labctl.rig.rig import Rig, open_rig
from labctl.rig.serving import ServedRig
from labctl.rig.twins import import_profile

__all__ = [
    "Finding",
    "Rig",
    "RigConfig",
    "ServedRig",
    "check_rig",
    "discover",
    "import_profile",
    "load_rig",
    "open_rig",
    "rig_names",
]
