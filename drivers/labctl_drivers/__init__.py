"""Drivers of real instruments; they see labctl.devices alone. None is written yet: twins come first."""
