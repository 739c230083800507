"""A page served to browsers on this machine alone: one producer of messages, any number of lookers.

The thread that owns the devices publishes messages and takes commands; requests are answered by threads of
their own, which never touch a device.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from labctl.devices import ConfigError

HOST = "127.0.0.1"
PATIENCE_S = 5.0  # how long a request waits for the next message
AWAY_S = 3.0  # without a request for so long, nobody looks
LARGEST_BODY = 32 * 2**20


class Page:
    """What lookers see and say. `html` is the page; `publish` gives them a message, `command` hears them.

    `save(frame, picture)` keeps what a looker saw, and says where.
    """

    def __init__(self, html: str, save: Callable[[int, bytes], str]) -> None:
        self.html, self.save = html, save
        self._commands: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._message, self._number = b"", 0
        self._asked_s = float("-inf")

    def publish(self, message: dict[str, Any]) -> None:
        """Make this the newest message; it gets the next number as "id"."""
        with self._changed:
            self._number += 1
            self._message = json.dumps({**message, "id": self._number}, allow_nan=False).encode()
            self._changed.notify_all()

    def command(self, timeout_s: float) -> str | None:
        """The next key that was pressed; None after the time."""
        try:
            return self._commands.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def press(self, key: str) -> None:
        """A key, from a looker."""
        self._commands.put(key)

    @property
    def watched(self) -> bool:
        """Whether anybody asked for a message lately."""
        return time.monotonic() - self._asked_s < AWAY_S

    def newer_than(self, number: int) -> bytes | None:
        """The newest message once there is one newer than this; None when patience ends."""
        with self._changed:
            self._asked_s = time.monotonic()
            self._changed.wait_for(lambda: self._number > number, PATIENCE_S)
            self._asked_s = time.monotonic()
            return self._message if self._number > number else None


@contextmanager
def served(page: Page, port: int) -> Iterator[str]:
    """Serve a page on 127.0.0.1 while inside; yields its address. Port 0: any that is free.

    Raises ConfigError for a port that cannot be had.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(page))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"--port is {port}: {reason}; allowed: a free port up to 65535, or 0 for any"
        ) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(page: Page) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            if not self._local():
                return
            parts = urlsplit(self.path)
            if parts.path == "/":
                self._answer(HTTPStatus.OK, page.html.encode(), "text/html; charset=utf-8")
            elif parts.path == "/next":
                after = _whole(parts.query, "after")
                if after is None:
                    self._answer(HTTPStatus.BAD_REQUEST, b"after: allowed: a whole number")
                    return
                message = page.newer_than(after)
                status = HTTPStatus.NO_CONTENT if message is None else HTTPStatus.OK
                self._answer(status, message or b"", "application/json")
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"not here")

        def do_POST(self) -> None:
            if not self._local():
                return
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > LARGEST_BODY:
                self.close_connection = True
                self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"a body of up to 32 MiB")
                return
            body = self.rfile.read(int(length))
            parts = urlsplit(self.path)
            if parts.path == "/key":
                page.press(body.decode("utf-8", "replace")[:32])
                self._answer(HTTPStatus.NO_CONTENT)
            elif parts.path == "/save":
                frame = _whole(parts.query, "frame")
                self._answer(HTTPStatus.OK, page.save(0 if frame is None else frame, body).encode())
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"not here")

        def _local(self) -> bool:
            """Whether this page asks: other sites' scripts, and names that lead here, are refused."""
            port = self.connection.getsockname()[1]
            ours = {f"{name}:{port}" for name in (HOST, "localhost")}
            origin = self.headers.get("Origin")
            if self.headers.get("Host") in ours and (origin is None or urlsplit(origin).netloc in ours):
                return True
            self.close_connection = True
            self._answer(HTTPStatus.FORBIDDEN, b"for this machine's own page alone")
            return False

        def _answer(self, status: HTTPStatus, body: bytes = b"", kind: str = "text/plain") -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True  # the looker went away

        def log_message(self, format: str, *args: object) -> None:
            pass  # requests are no news to whoever aligns

    return Handler


def _whole(query: str, name: str) -> int | None:
    """A whole number of a query; None where it is none."""
    value = parse_qs(query).get(name, [""])[0]
    return int(value) if value.isdecimal() and len(value) < 16 else None
