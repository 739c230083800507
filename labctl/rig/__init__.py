"""Rig files to devices to an engine: the composition root."""

from labctl.rig.config import (
    RigConfig,
    first_problem,
    load_rig,
    nearest,
    parse_toml,
    read_toml,
    rig_names,
)
from labctl.rig.health import Finding, check_rig
from labctl.rig.rig import Rig, open_rig

__all__ = [
    "Finding",
    "Rig",
    "RigConfig",
    "check_rig",
    "first_problem",
    "load_rig",
    "nearest",
    "open_rig",
    "parse_toml",
    "read_toml",
    "rig_names",
]
