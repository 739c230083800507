"""What every driver of a wired instrument stands on.

Write one by deriving from `Wired` and, first in the list of bases, before its interface; see `Wired`.
"""

from labctl_drivers.link.deadline import Deadline
from labctl_drivers.link.identity import WrongBox, require_firmware, require_model
from labctl_drivers.link.wire_errors import WireBusy, WireError, WireGarbled, WireLost, WireTimeout
from labctl_drivers.link.wire_log import WireLog
from labctl_drivers.link.wired import LinkSettings, Wire, Wired

__all__ = [
    "Deadline",
    "LinkSettings",
    "Wire",
    "WireBusy",
    "WireError",
    "WireGarbled",
    "WireLog",
    "WireLost",
    "WireTimeout",
    "Wired",
    "WrongBox",
    "require_firmware",
    "require_model",
]
