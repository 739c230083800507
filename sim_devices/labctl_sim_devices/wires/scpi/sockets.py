"""An SCPI instrument on TCP: a raw socket, where a message ends with a line feed."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from labctl.devices.wire.scpi_syntax import SyntaxProblem, message_length, missing_bytes
from labctl_sim_devices.wires.scpi.instrument import ScpiInstrument

HOST = "127.0.0.1"
RECEIVE_BYTES = 1 << 18
MAX_MESSAGE_BYTES = 1 << 28


class Listener:
    """Accepts connections on a free port of this machine; each is served by a thread of its own."""

    def __init__(self) -> None:
        self._listening: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()

    def start(self) -> int:
        """Listen; returns the port."""
        listening = socket.create_server((HOST, 0))
        self._listening = listening
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
        return int(listening.getsockname()[1])

    def stop(self) -> None:
        """Stop listening and end every connection."""
        listening, self._listening = self._listening, None
        if listening is not None:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        with self._guard:
            connections, self._open = self._open, set()
        for connection in connections:
            hang_up(connection)

    def serve(self, connection: socket.socket) -> None:
        """Speak until the other end goes. OSError ends it too."""
        raise NotImplementedError

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # stopped
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._guard:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with suppress(OSError):
                self.serve(connection)
        finally:
            with self._guard:
                self._open.discard(connection)
            connection.close()


def hang_up(connection: socket.socket) -> None:
    """End a connection, also under the eyes of a thread that reads from it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


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
                    # where a block cannot be told from what follows, all that has come is of no use
                    self._instrument.overrun(str(problem))
                    waiting.clear()
                    break
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
