"""A world that another process owns: what recipes ask of a twin besides its devices, over a socket."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from labctl.devices import ConfigError, DeviceUnavailable
from labctl.rig.config import WorldConfig

CONNECT_S, ANSWER_S = 3.0, 600.0  # it may be in the middle of a long queue


class ServedWorld:
    """The bench of a `labctl twin serve`, by the methods of a bench in this process.

    `open` takes it for this process and begins it anew, as a rig in this process would; ConfigError where
    another world is served there than `world` says. Raises DeviceUnavailable where nobody serves, or it is
    another's.
    """

    def __init__(self, world: WorldConfig) -> None:
        self._config = world
        self._stream: socket.socket | None = None
        self._rest = b""

    def open(self) -> None:
        """Connect, and begin anew."""
        host, _, port = self._config.address.rpartition(":")
        if not (host and port.isdigit()):
            raise ConfigError(f"world.address is {self._config.address!r}; allowed: host:port")
        try:
            self._stream = socket.create_connection((host, int(port)), CONNECT_S)
        except OSError as error:
            raise self._gone(
                "open", f"nobody serves a bench ({error.strerror or error}): start `labctl twin serve` again"
            ) from None
        try:
            self._stream.settimeout(ANSWER_S)
            who = f"process {os.getpid()} ({' '.join(sys.orig_argv)})"
            self._ask("begin", {"who": who, "world": described(self._config)})
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of it; twice is harmless."""
        stream, self._stream, self._rest = self._stream, None, b""
        if stream is not None:
            stream.close()

    @property
    def now_us(self) -> float:
        """Its clock."""
        return float(self._ask("now_us"))

    @property
    def terms(self) -> dict[str, float]:
        """Its faults' scales."""
        return {str(name): float(scale) for name, scale in self._ask("terms").items()}

    def scale_noise(self, factor: float) -> None:
        """Multiply every standard deviation of the profile's noise."""
        self._ask("scale_noise", factor)

    def set_terms(self, scales: Mapping[str, float]) -> None:
        """Scale faults by name; ConfigError for a name that is no term, or a scale out of range."""
        self._ask("set_terms", dict(scales))

    def become(self, unit_seed: int) -> None:
        """From now on the machine of this number."""
        self._ask("become", unit_seed)

    def unplug(self) -> None:
        """Take the bench away from its devices."""
        self._ask("unplug")

    def _ask(self, what: str, value: Any = None) -> Any:
        if self._stream is None:
            raise self._gone(what, "not open")
        try:
            self._stream.sendall(json.dumps({"do": what, "with": value}).encode() + b"\n")
            while b"\n" not in self._rest:
                received = self._stream.recv(1 << 16)
                if not received:
                    raise self._gone(what, "the process that served it has ended")
                self._rest += received
        except OSError as error:
            raise self._gone(what, str(error.strerror or error)) from None
        line, _, self._rest = self._rest.partition(b"\n")
        answer = json.loads(line)
        match answer:
            case {"is": found}:
                return found
            case {"wrong": text}:
                raise ConfigError(text)
        raise self._gone(what, str(answer.get("refused", answer)))

    def _gone(self, operation: str, message: str) -> DeviceUnavailable:
        return DeviceUnavailable(f"{message} ({self._config.address})", device="world", operation=operation)


def described(world: WorldConfig) -> dict[str, Any]:
    """What both ends must agree on: everything but the address."""
    return world.model_dump(mode="json", exclude={"address"})
