"""Rig files to devices to an engine: the composition root."""

from labctl.rig.config import RigConfig, first_problem, load_rig, nearest, parse_toml, rig_names
from labctl.rig.rig import Rig, open_rig

__all__ = ["Rig", "RigConfig", "first_problem", "load_rig", "nearest", "open_rig", "parse_toml", "rig_names"]
