"""Features as nodes of a GenApi library: what is alike whichever library holds them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from labctl_drivers.genicam.features import Value
from labctl_drivers.link import WireLog


@dataclass(frozen=True)
class NodeCalls:
    """What a library calls the parts of a node; each takes the node first."""

    value: Callable[[Any], Value]
    assign: Callable[[Any, Value], object]
    low: Callable[[Any], float]
    high: Callable[[Any], float]
    entries: Callable[[Any], Sequence[str]]
    execute: Callable[[Any], object]


class NodeWire(ABC):
    """The part of a FeatureWire that is about features. `node`: the node of a name."""

    CALLS: ClassVar[NodeCalls]

    def __init__(self, node: Callable[[str], Any], log: WireLog) -> None:
        self._node, self._log = node, log

    @abstractmethod
    def _mapped(self, what: str) -> AbstractContextManager[None]:
        """The library's exceptions as WireLost or Refused, of what is done inside."""

    def get(self, name: str) -> Value:
        with self._mapped(name):
            return self.CALLS.value(self._node(name))

    def put(self, name: str, value: Value) -> None:
        self._log.sent(f"{name}={value}".encode())
        with self._mapped(name):
            self.CALLS.assign(self._node(name), value)

    def limits(self, name: str) -> tuple[float, float]:
        with self._mapped(name):
            node = self._node(name)
            return float(self.CALLS.low(node)), float(self.CALLS.high(node))

    def entries(self, name: str) -> tuple[str, ...]:
        with self._mapped(name):
            return tuple(self.CALLS.entries(self._node(name)))

    def execute(self, name: str) -> None:
        self._log.sent(name.encode())
        with self._mapped(name):
            self.CALLS.execute(self._node(name))

    def enable_chunks(self, selectors: tuple[str, ...]) -> None:
        for selector in selectors:
            self.put("ChunkSelector", selector)
            self.put("ChunkEnable", True)
        if selectors:
            self.put("ChunkModeActive", True)
