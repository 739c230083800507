"""The other end of `labctl_drivers.template`, to copy with it: a laser's twin behind lines of text over TCP.

It speaks the manual's bytes and calls the twin's public methods; a fault layer stands between the two.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

from labctl.devices import DeviceError, DeviceUnavailable
from labctl.devices.instruments import Laser
from labctl_sim_devices.wires.face import WireAddress
from labctl_sim_devices.wires.faults import FaultLayer
from labctl_sim_devices.wires.listener import HOST, Listener, hang_up
from labctl_sim_devices.wires.seat import Seat, seat_of

DRIVER = "template.laser"  # its name in labctl/rig/table.py, once it has one
UNKNOWN, OUT_OF_RANGE, NO_TEXT, BUSY = "ERR 1 unknown command", "ERR 2 {}", "ERR 0", "BUSY"


class _Lines(Listener):
    """Lines in, lines out; `answer` is None where the instrument has gone."""

    def __init__(self, answer: Callable[[str], str | None], faults: FaultLayer) -> None:
        super().__init__()
        self._answer, self._faults = answer, faults

    def serve(self, connection: socket.socket) -> None:
        """Speak until one of the two goes."""
        with connection.makefile("rb") as lines:
            for line in lines:
                answer = self._answer(line.decode("ascii", "replace").strip())
                if answer is None:
                    return
                self._faults.send(f"{answer}\n".encode(), connection.sendall, lambda: hang_up(connection))


class TemplateFace:
    """`device` behind the lines of the manual, every call under `lock`."""

    def __init__(
        self,
        device: Laser | Seat[Laser],
        lock: AbstractContextManager[object],
        *,
        faults: FaultLayer | None = None,
    ) -> None:
        self._seat, self._lock, self._faults = seat_of(device), lock, faults or FaultLayer()
        self._wire = _Lines(self._answer, self._faults)
        # a line of the manual, and what the instrument does about it
        self._manual: tuple[tuple[str, Callable[..., str]], ...] = (
            (r"ID\?", self._identity),
            (r"POW ([\d.]+)", self._set_power),
            (r"POW\?", lambda: f"{self._laser().power_mw():.4f}"),
            (r"OUT ([01])", self._switch),
            (r"OUT\?", lambda: str(int(self._laser().emitting()))),
        )

    def start(self) -> WireAddress:
        """Listen, and say where."""
        return WireAddress(DRIVER, f"socket://{HOST}:{self._wire.start()}")

    def stop(self) -> None:
        """Stop listening and drop every connection; the device is not touched."""
        self._wire.stop()

    def _answer(self, asked: str) -> str | None:
        told = "do" if asked == "OUT 0" else self._faults.question()  # off is taken always
        if told != "do":
            return BUSY if told == "busy" else NO_TEXT
        for pattern, do in self._manual:
            if found := re.fullmatch(pattern, asked):
                try:
                    with self._lock:
                        return do(*found.groups())
                except DeviceUnavailable:
                    return None
                except (DeviceError, ValueError) as error:
                    return OUT_OF_RANGE.format(error)
        return UNKNOWN

    def _laser(self) -> Laser:
        """The device, open."""
        self._seat.device.open()
        return self._seat.device

    def _identity(self) -> str:
        who = self._faults.identity(self._laser().open())
        return f"{who.vendor},{who.model},{who.serial},{who.firmware}"

    def _set_power(self, power_mw: str) -> str:
        self._laser().set_power_mw(float(power_mw))
        return "OK"

    def _switch(self, on: str) -> str:
        self._laser().emit(on == "1")
        return "OK"
