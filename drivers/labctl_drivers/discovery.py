"""What is attached to this machine, by each library that knows: one function a kind of thing.

`ask`: whether anything may be sent. Without, only what the system knows already is listed. A library that is
not installed raises ImportError.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl_drivers.display.outputs import display_at
from labctl_drivers.serial_asking import ask_port

IDENTIFY_MS = 1000
LIMIT_S = 4.0  # for all answers of a kind together, side by side
USB = Path("/sys/bus/usb/devices")
USBTMC = ("fe", "03")  # class and subclass of an interface for test and measurement


class NotAsked(Exception):
    """This kind cannot be listed without sending anything; its text says why."""


@dataclass(frozen=True)
class Found:
    """One thing: its address as a rig file wants it, what the system says of it, and what it answered."""

    address: str
    about: str
    answer: str = ""


def visa_resources(ask: bool = True, library: str = "") -> Iterator[Found]:
    """VISA resources with their answer to *IDN?, serial ports left out. Raw sockets announce nothing.

    Without `ask`, USB instruments by the kernel's list alone: to find others is to ask.
    """
    import pyvisa

    if not ask:
        yield from usb_instruments()
        raise NotAsked("instruments on a network or a GPIB are not looked for: that takes a broadcast")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyvisa-py's, of packages without which it sees less
        manager = pyvisa.ResourceManager(library)
        addresses = [name for name in manager.list_resources("?*") if "ASRL" not in name.upper()]
    answers = side_by_side(lambda address: _identity(manager, address), addresses)
    for address, answer in zip(addresses, answers, strict=True):
        yield Found(address, "", answer)


def usb_instruments(folder: Path = USB) -> Iterator[Found]:
    """Instruments on USB (USBTMC) as the kernel has them; nothing is sent."""
    for interface in sorted(folder.glob("*:*")):
        said = [_read(interface / name) for name in ("bInterfaceClass", "bInterfaceSubClass")]
        if tuple(said) != USBTMC:
            continue
        box = folder / interface.name.partition(":")[0]
        vendor, product, serial = (_read(box / name) for name in ("idVendor", "idProduct", "serial"))
        about = f"{_read(box / 'manufacturer')} {_read(box / 'product')}".strip()
        yield Found(f"USB::0x{vendor}::0x{product}::{serial}::INSTR", about)


def serial_ports(ask: bool = True) -> Iterator[Found]:
    """Serial ports with vendor and product number of a USB adapter, and whether an oscillator board answers.

    To ask, a port is opened, which resets some other makers' boards; one that a process has is left alone.
    """
    from serial.tools import list_ports

    ports = sorted(list_ports.comports(), key=lambda port: str(port.device))
    answers = side_by_side(ask_port, [port.device for port in ports]) if ask else [""] * len(ports)
    for port, answer in zip(ports, answers, strict=True):
        numbers = (
            "" if port.vid is None else f"VID {port.vid:04x} PID {port.pid:04x} serial {port.serial_number}, "
        )
        yield Found(port.device, f"{numbers}{port.description}", answer)


def displays(ask: bool = True) -> Iterator[Found]:
    """Screens by number, as the display driver counts them, and who hangs there by its EDID.

    Graphics cards have read that already: nothing is sent, whatever `ask` says.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    pygame.display.init()
    try:
        driver = pygame.display.get_driver()
        if driver in ("dummy", "offscreen"):
            return
        for number, (width, height) in enumerate(pygame.display.get_desktop_sizes()):
            about = f"{width} x {height} pixels, SDL {driver}"
            yield Found(f"screen:{number}", about, _display_words(number, (height, width)))
    finally:
        pygame.display.quit()


def cameras(ask: bool = True, wait_s: float = 0.5) -> Iterator[Found]:
    """GigE Vision cameras that answer on any interface."""
    import viva_genicam

    if not ask:
        raise NotAsked("not looked for: that takes a broadcast")
    for camera in viva_genicam.discover(timeout_ms=round(wait_s * 1e3), all=True):
        yield Found(str(camera.ip), f"{camera.manufacturer or ''} {camera.model or ''}, MAC {camera.mac}")


def side_by_side(ask: Callable[[str], str], addresses: Sequence[str], limit_s: float = LIMIT_S) -> list[str]:
    """What `ask` has to tell of each, all at once; words for those that nothing is known of in time."""
    silence = f"no answer in {limit_s:g} s"
    answers, wrong = dict.fromkeys(addresses, silence), []

    def work(address: str) -> None:
        try:
            answers[address] = ask(address)
        except ImportError as error:
            wrong.append(error)
        except Exception as error:  # noqa: BLE001 - whatever a library says of one, the others are asked
            answers[address] = f"could not be asked: {error}"

    threads = [threading.Thread(target=work, args=(address,), daemon=True) for address in answers]
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))
    if wrong:
        raise wrong[0]
    return [answers[address] for address in addresses]


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


def _display_words(screen: int, shape_px: tuple[int, int]) -> str:
    output = display_at(screen, shape_px)
    if output is None:
        return "who hangs there is not known: the system does not say which output it is"
    if output.edid is None:
        return output.trouble or f"{output.name} tells no EDID: a virtual screen has none"
    return f"{output.name}: {output.edid.words}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
