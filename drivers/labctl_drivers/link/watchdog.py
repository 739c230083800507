"""A process that brings a bench to its safe state when the one that drives it has died, however it died.

It waits at the end of a pipe: the system closes that with the process that holds the other end, also when it
is killed. It then opens what is on real wires and closes it again, light first. A process that hangs without
dying keeps its instruments, and is not noticed: for that there are the instruments' own time-outs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any, cast

from labctl.devices import Device, DeviceUnavailable, in_safe_order
from labctl_drivers.link.wired import Wired

READY, DONE = "watching", "done"
START_S = 30.0  # to load drivers and their libraries
POLL_S = 0.2
LOCK_WAIT_S = 5.0  # for the dead process's locks: the system gives them back when the last of it is gone


@dataclass(frozen=True)
class Ward:
    """A device to be made safe: its driver as "module:class", and what the driver is made with."""

    name: str
    target: str
    address: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def device(self) -> Device:
        """The driver; nothing is talked to yet."""
        module, _, name = self.target.partition(":")
        driver = getattr(import_module(module), name)
        patient = {"lock_wait_s": LOCK_WAIT_S} if issubclass(driver, Wired) else {}
        return cast(Device, driver(self.name, self.address, **{**self.settings, **patient}))


class Watchdog:
    """Starts the process and, at the end, tells it that all is well. One for a bench."""

    def __init__(self, wards: Sequence[Ward]) -> None:
        self._wards = tuple(wards)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Return once it watches; DeviceUnavailable where it does not come to that."""
        command = [sys.executable, "-m", __name__]
        paths = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": paths},
            start_new_session=True,  # what ends everything in a terminal does not end it
        )  # fmt: skip
        if process.stdin is None or process.stdout is None:
            raise _failed("it has no pipes")
        self._process = process
        with suppress(OSError):
            process.stdin.write(json.dumps([asdict(ward) for ward in self._wards]) + "\n")
            process.stdin.flush()
        giving_up = threading.Timer(START_S, process.kill)
        giving_up.start()
        try:
            told = process.stdout.readline().strip()
        finally:
            giving_up.cancel()
        if told != READY:
            self.stop()
            raise _failed(f"it did not start within {START_S:g} s: {told or 'see its words above'}")

    @property
    def trouble(self) -> str:
        """Why it does not watch any more; empty where it does."""
        if self._process is None:
            return ""
        code = self._process.poll()
        return "" if code is None else f"the watchdog process has ended (exit code {code})"

    def stop(self) -> None:
        """All is safe: it may go. Twice is harmless."""
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        with suppress(OSError):
            process.stdin.write(DONE + "\n")
            process.stdin.close()
        with suppress(OSError):
            process.stdout.close()
        try:
            process.wait(timeout=START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _failed(why: str) -> DeviceUnavailable:
    return DeviceUnavailable(why, device="watchdog", operation="start")


def make_safe(devices: Sequence[Device]) -> list[str]:
    """Open and close each in turn; what could not be done, in words."""
    problems = []
    for device in devices:
        try:
            device.open()
            device.close()
        except Exception as error:  # noqa: BLE001 - every device must get its chance to become safe
            if not device.is_open and isinstance(device, Wired):
                error.add_note(f"its safe state {device.command_unanswered()}")
            problems.append("; ".join((str(error), *getattr(error, "__notes__", ()))))
    return problems


def main() -> int:
    """Watch over the process that started this one, until its word or its end."""
    parent = os.getppid()
    wards = [Ward(**ward) for ward in json.loads(sys.stdin.readline())]
    devices = in_safe_order(ward.device() for ward in wards)
    print(READY, flush=True)
    if _ended_well(parent):
        return 0
    _tell(f"process {parent} went without a word: making safe {', '.join(device.name for device in devices)}")
    problems = make_safe(devices)
    for problem in problems:
        _tell(problem)
    return 1 if problems else 0


def _ended_well(parent: int) -> bool:
    """Wait: True for the parent's word, False where its end of the pipe closed, or it is gone."""
    lines: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=lambda: lines.put(sys.stdin.readline()), daemon=True).start()
    while True:
        try:
            return lines.get(timeout=POLL_S).strip() == DONE
        except Empty:
            if os.getppid() != parent:  # a child of the dead one may still hold the pipe
                return False


def _tell(words: str) -> None:
    with suppress(OSError):  # nobody may be left to read it
        print(f"labctl watchdog: {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
