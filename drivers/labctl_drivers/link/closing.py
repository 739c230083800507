"""What is open when the process ends is closed: at a normal end, after an exception, on SIGTERM and SIGHUP.

A killed process cannot close anything: for that there is the watchdog.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from types import FrameType

from labctl.devices import Device, in_safe_order

_open_devices: set[Device] = set()  # which also keeps one alive that its user has lost
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def close_at_exit(device: Device) -> None:
    """From now on, until `closed`, the end of the process closes it."""
    _open_devices.add(device)
    # first of all at the end: a library that was loaded meanwhile (pyvisa) closes its connections then, too
    atexit.unregister(close_all)
    atexit.register(close_all)
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:  # whoever handles it closes in his own way
                signal.signal(number, _end)


def closed(device: Device) -> None:
    """It needs no closing any more; signals mean what they meant before the first one."""
    _open_devices.discard(device)
    if not _open_devices and threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if signal.getsignal(number) is _end:
                signal.signal(number, signal.SIG_DFL)


def close_all() -> None:
    """Close every open device, light first; what goes wrong is told on stderr, the others get their turn."""
    for device in in_safe_order(tuple(_open_devices)):
        try:
            device.close()
        except Exception as error:  # noqa: BLE001 - the process ends: the next device must still become safe
            print(f"{device.name}: could not be closed: {error}", file=sys.stderr)


def _end(number: int, _frame: FrameType | None) -> None:
    """Close everything, then die of the signal as if nobody had handled it."""
    close_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
