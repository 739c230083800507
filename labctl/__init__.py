"""labctl: run generative models on analog hardware, or on twins that stand in for it.

from labctl import load_protocol, open_rig, run

with open_rig("optical-twin") as rig:
    result = run(load_protocol("sample_moons"), rig, out="runs")
print(result.file)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl.version import __version__

if TYPE_CHECKING:
    from labctl.procedures import load_protocol as load_protocol
    from labctl.procedures import run as run
    from labctl.rig import open_rig as open_rig

_WHERE = {"open_rig": "labctl.rig", "load_protocol": "labctl.procedures", "run": "labctl.procedures"}

__all__ = ["__version__", "load_protocol", "open_rig", "run"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `labctl --help` does not wait for torch.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'labctl' has no attribute {name!r}")
