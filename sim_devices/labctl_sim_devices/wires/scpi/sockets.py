"""An SCPI instrument on TCP: a raw socket, where a message ends with a line feed."""

from __future__ import annotations

import socket
import time

from labctl.devices.wire.scpi_syntax import SyntaxProblem, message_length, missing_bytes
from labctl_sim_devices.wires.listener import Listener, hang_up
from labctl_sim_devices.wires.scpi.instrument import ScpiInstrument

RECEIVE_BYTES = 1 << 18
MAX_MESSAGE_BYTES = 1 << 28


class SocketWire(Listener):
    """Messages in, answers out. `latency_s` passes before each answer."""

    def __init__(self, instrument: ScpiInstrument, *, latency_s: float = 0.0) -> None:
        super().__init__()
        self._instrument, self._latency_s = instrument, latency_s

    def serve(self, connection: socket.socket) -> None:
        """Speak until the other end goes."""
        waiting = bytearray()
        while received := connection.recv(RECEIVE_BYTES):
            waiting += received
            while True:
                try:
                    if missing_bytes(waiting):
                        break
                    length = message_length(waiting)
                except SyntaxProblem as problem:
                    # nobody can tell where such a message ends: at the next line feed, as good as any
                    self._instrument.overrun(str(problem))
                    del waiting[: waiting.find(b"\n") + 1 or len(waiting)]
                    continue
                if length is None:
                    break
                message = bytes(waiting[:length])
                del waiting[:length]
                self._answer(connection, message)
            if len(waiting) > MAX_MESSAGE_BYTES:
                self._instrument.overrun(f"{len(waiting)} bytes without an end")
                waiting.clear()

    def _answer(self, connection: socket.socket, message: bytes) -> None:
        answer = self._instrument.answer(message)
        if not answer:
            return
        if self._latency_s:
            time.sleep(self._latency_s)
        self._instrument.faults.send(answer, connection.sendall, lambda: hang_up(connection))
