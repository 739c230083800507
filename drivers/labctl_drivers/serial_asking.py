"""Asking a serial port whether an oscillator board is at its end, without getting in anybody's way."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from labctl.devices import DeviceUnavailable
from labctl.devices.oscillator_wire.frames import MAX_ENCODED
from labctl.devices.oscillator_wire.messages import VERSIONS, Hello, Welcome
from labctl_drivers.board_wire import BoardWire, Refused, Session
from labctl_drivers.link import Deadline, WireGarbled, WireLog, WireLost, WireTimeout
from labctl_drivers.link.ownership import ResourceLock
from labctl_drivers.serial_line import SerialLine, pyserial

BAUD = 921_600  # a board's, unless it is set otherwise
QUIET_S = 0.6
LOCK_S = 0.01  # for another labctl to let go of the port
PROCESSES = Path("/proc")


def ask_port(address: str) -> str:
    """What is at the end of a port, in words: the answer to the protocol's Hello, which changes nothing.

    A port that another process has is not touched, and that process is named. ImportError without pyserial.
    """
    library = pyserial()
    if library is None:
        raise ImportError("pyserial")
    lock = ResourceLock(address, device=address)
    try:
        lock.acquire(Deadline.after(LOCK_S))
    except DeviceUnavailable as error:
        return f"not asked: {str(error).removeprefix(f'{address}: open: ')}"
    try:
        if holder := other_holder(address):
            return f"not asked: in use by {holder}"
        line = SerialLine(library, address, BAUD, WireLog(), MAX_ENCODED)
        wire = BoardWire(line, QUIET_S, Session(1 + secrets.randbelow(0xFFFF)))
        try:
            welcome = wire.ask(Hello(*VERSIONS), Welcome, Deadline.after(2 * QUIET_S), number=0)
        finally:
            wire.close()
    except WireTimeout:
        return f"no oscillator board answers at {BAUD} baud"
    except (WireGarbled, Refused) as error:
        return f"something else answers at {BAUD} baud: {error}"
    except WireLost as error:
        return f"not asked: {error}"
    finally:
        lock.release()
    return f"oscillator board, speaks version {welcome.version} of the protocol (serial.oscillator-board)"


def other_holder(address: str, processes: Path = PROCESSES) -> str:
    """Another process that has a device file open, as far as this user may see; "" for none."""
    place = os.path.realpath(address)
    for process in processes.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with suppress(OSError):  # it has ended, or is another user's
            for handle in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(handle.readlink()) == place:
                        command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                        return f"process {process.name} ({command.decode(errors='replace').strip()})"
    return ""
