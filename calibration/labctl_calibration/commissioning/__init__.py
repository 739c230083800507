"""Commissioning: from wires alone to a wiring that every other procedure works by."""

from labctl_calibration.commissioning.wires import KIND, WIRING, wiring_of

__all__ = ["KIND", "WIRING", "wiring_of"]
