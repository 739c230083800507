"""What can go wrong on a wire. A driver maps its library's exceptions to these once, in its transport."""

from __future__ import annotations


class WireError(Exception):
    """Never leaves the driver: it is recovered from, or becomes a DeviceError."""


class WireTimeout(WireError):
    """The answer, or the rest of it, did not come in time."""


class WireGarbled(WireError):
    """Bytes came that are no answer to what was asked: damaged, repeated, of an earlier question."""


class WireLost(WireError):
    """There is no connection any more, or none can be made."""


class WireBusy(WireError):
    """The instrument understood and refused for now: nothing has happened."""
