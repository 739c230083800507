"""What a self-test says, and its way of failing."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.devices import Device, DeviceFault


@dataclass(frozen=True)
class Finding:
    """One test: of which device, which test, what was found (or went wrong), and whether that is right.

    note: nothing that could be wrong, only worth knowing. remedy: what to do about it.
    """

    device: str
    test: str
    found: str
    ok: bool
    note: bool = False
    remedy: str = ""


def require(ok: bool, message: str, device: Device, test: str) -> None:
    """Fail the test with this message unless `ok`."""
    if not ok:
        raise DeviceFault(message, device=device.name, operation=test)
