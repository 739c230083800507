"""The foreign bench knows the interfaces, and nothing of the equations that it is to check."""

from __future__ import annotations

import ast
from pathlib import Path

import foreign_bench

FILES = sorted(Path(foreign_bench.__file__).parent.glob("*.py"))
OURS = ("labctl", "labctl_calibration", "labctl_sim_devices", "labctl_drivers", "labctl_recipes")


def test_it_imports_the_interfaces_alone():
    assert len(FILES) >= 7
    names = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
    assert {name for name in names if name.split(".")[0] in OURS} == {"labctl.devices"}
