"""What is attached to this machine, by each library that knows: one function a kind of thing.

A library that is not installed raises ImportError; nothing is asked of serial ports, since opening one resets
some boards.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

IDENTIFY_MS = 1000


@dataclass(frozen=True)
class Found:
    """One thing: its address as a rig file wants it, and what it says of itself."""

    address: str
    about: str


def visa_resources(library: str = "") -> Iterator[Found]:
    """VISA resources with their answer to *IDN?, serial ports left out. Raw sockets announce nothing."""
    import pyvisa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyvisa-py's, of packages without which it sees less
        manager = pyvisa.ResourceManager(library)
        addresses = [name for name in manager.list_resources("?*") if "ASRL" not in name.upper()]
    for address in addresses:
        yield Found(address, _identity(manager, address))


def _identity(manager: Any, address: str) -> str:
    try:
        resource = manager.open_resource(address, open_timeout=IDENTIFY_MS)
        try:
            resource.timeout = IDENTIFY_MS
            return str(resource.query("*IDN?")).strip()
        finally:
            resource.close()
    except Exception as error:  # noqa: BLE001 - whatever a library says of one resource, the next is asked
        return f"does not answer *IDN?: {error}"


def serial_ports() -> Iterator[Found]:
    """Serial ports with vendor and product number of a USB adapter."""
    from serial.tools import list_ports

    for port in list_ports.comports():
        numbers = (
            "" if port.vid is None else f"VID {port.vid:04x} PID {port.pid:04x} serial {port.serial_number}, "
        )
        yield Found(port.device, f"{numbers}{port.description}")


def displays() -> Iterator[Found]:
    """Screens by number, as the display driver counts them."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    pygame.display.init()
    try:
        driver = pygame.display.get_driver()
        if driver in ("dummy", "offscreen"):
            return
        for number, (width, height) in enumerate(pygame.display.get_desktop_sizes()):
            yield Found(f"screen:{number}", f"{width} x {height} pixels, SDL {driver}")
    finally:
        pygame.display.quit()


def cameras(wait_s: float = 0.5) -> Iterator[Found]:
    """GigE Vision cameras that answer on any interface."""
    import viva_genicam

    for camera in viva_genicam.discover(timeout_ms=round(wait_s * 1e3), all=True):
        yield Found(str(camera.ip), f"{camera.manufacturer or ''} {camera.model or ''}, MAC {camera.mac}")
