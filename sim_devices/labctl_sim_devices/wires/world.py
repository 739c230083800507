"""A world's own wire: what a recipe asks of a twin that is no device. One line of JSON each way.

{"do": name, "with": value} is answered by {"is": result}, {"wrong": text} for what the asker can correct, or
{"refused": text}. The first request is "begin"; whoever began has the world until his connection ends.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from labctl.devices import ConfigError
from labctl_sim_devices.wires.listener import HOST, Listener

MAX_LINE_BYTES = 1 << 24


class WorldWire(Listener):
    """Serves one world. `begin_anew` makes it (and its devices) as at the start and returns it; `about` is
    what the asker must believe of it.
    """

    def __init__(
        self, begin_anew: Callable[[], Any], lock: threading.RLock, about: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self._begin_anew, self._lock, self._about = begin_anew, lock, dict(about)
        self._world: Any = None
        self._holder: socket.socket | None = None
        self._holder_name = ""

    @property
    def address(self) -> str:
        """host:port, once started."""
        return f"{HOST}:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        """One asker, until he goes."""
        try:
            with connection.makefile("rb") as lines:
                while line := lines.readline(MAX_LINE_BYTES):
                    answer = self._answer(line, connection)
                    connection.sendall(json.dumps(answer).encode() + b"\n")
        finally:
            with self._lock:
                if self._holder is connection:
                    self._holder = None

    def _answer(self, line: bytes, connection: socket.socket) -> dict[str, Any]:
        try:
            asked = json.loads(line)
            what, value = asked["do"], asked.get("with")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {"refused": "no request"}
        with self._lock:
            if what == "begin":
                return self._begin(value, connection)
            if self._holder is not connection:
                return {"refused": "begin first"}
            try:
                return {"is": self._done(what, value)}
            except ConfigError as error:
                return {"wrong": str(error)}
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                return {"refused": f"{what}: {error}"}

    def _begin(self, value: Any, connection: socket.socket) -> dict[str, Any]:
        if not isinstance(value, dict) or not isinstance(value.get("world"), dict):
            return {"refused": "no request"}
        if self._holder not in (None, connection):
            return {"refused": f"the bench is in use by {self._holder_name}"}
        if value["world"] != self._about:
            keys = {*value["world"], *self._about}
            other = sorted(k for k in keys if value["world"].get(k) != self._about.get(k))
            return {"wrong": f"another world is served at {self.address}: its {', '.join(other)} differ"}
        self._holder, self._holder_name = connection, str(value.get("who", "somebody"))
        self._world = self._begin_anew()
        return {"is": None}

    def _done(self, what: str, value: Any) -> Any:
        world = self._world
        match what:
            case "now_us":
                return float(world.now_us)
            case "terms":
                return {name: float(scale) for name, scale in world.terms.items()}
            case "scale_noise":
                return world.scale_noise(float(value))
            case "set_terms":
                return world.set_terms({str(name): float(scale) for name, scale in value.items()})
            case "become":
                return world.become(int(value))
            case "unplug":
                return world.unplug()
        raise LookupError("not known")
