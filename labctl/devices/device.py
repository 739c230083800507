"""The base of every device: constructors store, `open` talks, `close` leaves a safe state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.checks import integer_codes
from labctl.devices.errors import DeviceStateError
from labctl.devices.values import Identity, Scalar

if TYPE_CHECKING:
    from labctl.devices.limits import Guard

Stage = Literal["light", "loop", "weights", "other"]
_STAGES: tuple[Stage, ...] = ("light", "loop", "weights", "other")


class Device(ABC):
    """An instrument. Public methods validate, then call one `_do_*`; nothing is clipped silently.

    `safe_stage`: when it is closed among the devices of a bench: light goes first, then the loop, then the
    weights, then everything else. `guard`: compares every command with the bench's limits, where it has any.
    """

    safe_stage: ClassVar[Stage] = "other"
    guard: Guard | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self._identity: Identity | None = None

    def open(self) -> Identity:
        """Connect and identify. Opening an open device returns the same identity again."""
        if self._identity is None:
            self._identity = self._do_open()
        return self._identity

    def close(self) -> None:
        """Leave the device in its safe state and let go of it. Closing twice is harmless."""
        if self._identity is not None:
            try:
                self._do_close()
            finally:
                self._identity = None

    @property
    def is_open(self) -> bool:
        """Whether `open` succeeded and `close` was not called since."""
        return self._identity is not None

    def snapshot(self) -> Mapping[str, Scalar]:
        """Settings as read back from the device; keys carry units."""
        self._require_open("snapshot")
        return self._do_snapshot()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _codes(
        self, operation: str, field: str, array: ArrayLike, shape: tuple[int | None, ...], low: int, high: int
    ) -> NDArray[np.int64]:
        """`array` as checked codes; see `integer_codes`."""
        return integer_codes(
            array, device=self.name, operation=operation, field=field, shape=shape, low=low, high=high
        )

    def _require_open(self, operation: str) -> None:
        if self._identity is None:
            raise DeviceStateError(
                "the device is not open; call open() first", device=self.name, operation=operation
            )

    @abstractmethod
    def _do_open(self) -> Identity: ...

    @abstractmethod
    def _do_close(self) -> None: ...

    @abstractmethod
    def _do_snapshot(self) -> Mapping[str, Scalar]: ...


def in_safe_order(devices: Iterable[Device]) -> list[Device]:
    """The order in which a bench is closed; within a stage, the last one first."""
    last_first = list(devices)[::-1]
    return [device for stage in _STAGES for device in last_first if device.safe_stage == stage]
