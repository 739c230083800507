"""A self-test's way of failing."""

from __future__ import annotations

from labctl.devices import Device, DeviceFault


def require(ok: bool, message: str, device: Device, test: str) -> None:
    """Fail the test with this message unless `ok`."""
    if not ok:
        raise DeviceFault(message, device=device.name, operation=test)
