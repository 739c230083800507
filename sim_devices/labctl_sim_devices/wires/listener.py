"""A server of local connections: one thread each, ended all together."""

from __future__ import annotations

import socket
import threading
from abc import ABC, abstractmethod
from contextlib import suppress

HOST = "127.0.0.1"


class Listener(ABC):
    """Accepts connections on a free port of this machine; each is served by a thread of its own."""

    def __init__(self) -> None:
        self._listening: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self.port = 0

    def start(self) -> int:
        """Listen; returns the port."""
        listening = socket.create_server((HOST, 0))
        self._listening = listening
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
        self.port = int(listening.getsockname()[1])
        return self.port

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

    @abstractmethod
    def serve(self, connection: socket.socket) -> None:
        """Speak until the other end goes. OSError ends it too."""

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
