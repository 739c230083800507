"""Where a face finds its device: a bench that begins anew puts another one there, and the wire stays."""

from __future__ import annotations

from typing import Generic, TypeVar

from labctl.devices import Device

AnyDevice = TypeVar("AnyDevice", bound=Device)


class Seat(Generic[AnyDevice]):
    """Holds the device that a face serves; whoever replaces `device` holds the world's lock.

    The next one is of the same kind, with the same data sheet and identity, and not open: a face opens what
    it finds here, and keeps nothing of a device from one call to the next.
    """

    def __init__(self, device: AnyDevice) -> None:
        self.device = device


def seat_of(device: AnyDevice | Seat[AnyDevice]) -> Seat[AnyDevice]:
    """`device` in a seat of its own, unless it sits in one."""
    return device if isinstance(device, Seat) else Seat(device)
