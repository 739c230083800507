"""What every face of a device offers: it starts on a local wire, says how to reach it, and stops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from labctl.devices import Scalar


@dataclass(frozen=True)
class WireAddress:
    """What a rig file says of a device on this wire: the driver's name, its address, its settings."""

    driver: str
    address: str
    settings: Mapping[str, Scalar] = field(default_factory=dict)


class Face(Protocol):
    """A device's face on a wire, on this machine alone. `stop` twice is harmless."""

    def start(self) -> WireAddress:
        """Listen, and say where."""

    def stop(self) -> None:
        """Stop listening and drop every connection; the device is not touched."""
