"""What to do about a device that does not open, by what went wrong and what its address is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labctl.rig.config import DeviceConfig, RigConfig

SERIAL = ("ASRL", "/DEV/", "COM")  # what the addresses of serial ports begin with
NETWORK = re.compile(r"^TCPIP\d*::(?P<host>[^:]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Remedy:
    """`sign` in the error's text, one of `address` at the beginning of the device's: then `advice`."""

    sign: str
    advice: str
    address: str | tuple[str, ...] = ""


# The first row that fits is told. {host} and {address} are the device's.
REMEDIES: tuple[Remedy, ...] = (
    Remedy(r"is not installed|install it:", "install what it names, then check again"),
    Remedy(r"in use by", "end that process, or wait until it is done"),
    Remedy(r"interlock|cover|key", "see to the interlock; labctl cannot override it"),
    Remedy(
        r"another box answers|answers; allowed|describes itself|is .* of protocol",
        "another instrument is at this address: compare it with the label; `labctl discover` says who is "
        "where",
    ),
    Remedy(r"has firmware", "update the instrument's firmware with its maker's tool"),
    Remedy(r"[Pp]ermission denied|Access is denied", "give your user the right to this port (group dialout)"),
    Remedy(
        r"",
        "nobody serves this bench: start `labctl twin serve` again and use the rig file that it writes",
        address="served",
    ),
    Remedy(
        r"refused",
        "{host} is there, but nothing listens: switch the instrument's remote interface on, check the port",
        address="TCPIP",
    ),
    Remedy(
        r"no whole answer|time",
        "connected, but it does not answer: switch it off and on, check that {address} is its address and "
        "that its interface is set to SCPI",
        address="TCPIP",
    ),
    Remedy(
        r"",
        "check that it is on and on this network: ping {host}; `labctl discover` lists what answers",
        "TCPIP",
    ),
    Remedy(
        r"no camera answers",
        "no camera has this address: check its cable, its power (PoE) and that it is on this network's "
        "subnet; the error names those that answer",
    ),
    Remedy(
        r"no whole answer|no answer|time",
        "the port is there, but nothing answers: check the cable, the instrument's power and its baud rate",
        address=SERIAL,
    ),
    Remedy(r"", "no such port: plug it in; `labctl discover` lists the ports there are", SERIAL),
    Remedy(r"", "plug it in and switch it on; `labctl discover` lists what is on USB", "USB"),
    Remedy(r"does not answer|in time", "switch it off and on, and check its cable"),
    Remedy(r"", "check cable and power; `labctl discover` lists what is attached"),
)


UNSERVED = re.compile(r"refused|no camera answers|[Nn]o such file")  # as each wire says that it has gone


def remedy(rig: RigConfig, device: DeviceConfig, error: str) -> str:
    """One sentence; "" for a twin in this process, which has no cable."""
    if not device.address:
        return ""
    served = rig.world is not None and bool(rig.world.address)
    named = NETWORK.match(device.address)
    for row in REMEDIES:
        at = served and UNSERVED.search(error) is not None if row.address == "served" else True
        if row.address not in ("", "served"):
            at = device.address.upper().startswith(row.address)
        if at and re.search(row.sign, error):
            host = named["host"] if named else device.address
            return row.advice.format(host=host, address=device.address)
    return ""
