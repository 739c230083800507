"""A spatial light modulator through slmsuite: any of its SLM classes, shown integer levels as they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import Field

from labctl.devices import (
    DeviceStateError,
    Identity,
    ModulatorSpec,
    Scalar,
    ShowReceipt,
    WeightModulator,
)
from labctl.devices.weight_modulator import LevelArray, frame_checksum
from labctl_drivers.genicam.camera import SIMULATED
from labctl_drivers.genicam.features import Refused
from labctl_drivers.link import Deadline, LinkSettings, Wired
from labctl_drivers.slmsuite import finding
from labctl_drivers.slmsuite.finding import Found

T = TypeVar("T")
NEEDS = ("shape", "bitdepth", "dtype", "settle_time_s", "set_phase", "close")


class SlmSettings(LinkSettings):
    """What slmsuite does not say of a panel.

    arguments: of the class's constructor, in slmsuite's own words. settle_us: from the call's end to the
    panel's rest, for which slmsuite waits (none: the object's settle_time_s). refresh_hz: the panel's.
    serial: none takes the object's name. timeout_s: slmsuite cannot be interrupted; the next caller is told
    that it hangs.
    """

    arguments: dict[str, Any] = Field(default_factory=dict)
    kind: Literal["lcos-phase", "lcos-intensity"] = "lcos-phase"
    settle_us: float | None = Field(default=None, ge=0)
    refresh_hz: float = Field(default=60.0, gt=0)
    serial: str = ""
    open_timeout_s: float = 60.0
    timeout_s: float = 10.0
    attempts: int = Field(default=1, ge=1, le=10)


class SlmsuiteSLM(Wired[Found], WeightModulator):
    """A panel at `module:Class`, constructed with the settings' arguments, or at `FILE.py#name`.

    Levels go to the panel as they are: slmsuite's wavefront correction and lookup tables are for phases in
    floats, and are not applied. Nothing is read back: a receipt's checksum is of the frame handed over.
    Closing shows level 0 everywhere, then closes the object.
    """

    Settings = SlmSettings
    settings: SlmSettings

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        super().__init__(name, address, **settings)
        finding.checked(name, address, self.settings.arguments)
        self._spec: ModulatorSpec | None = None
        self._frame_id, self._frame = 0, np.zeros((0, 0), np.uint16)

    @property
    def spec(self) -> ModulatorSpec:
        """Shape and levels as the object has them; known once it is open."""
        if self._spec is None:
            raise DeviceStateError(
                "the device is not open; call open() first", device=self.name, operation="spec"
            )
        return self._spec

    def _connect(self, deadline: Deadline) -> Found:
        return finding.find(self.name, self.address, self.settings.arguments, NEEDS)

    def _identify(self, wire: Found, deadline: Deadline) -> Identity:
        s, slm = self.settings, wire.thing
        settle_us = 1e6 * float(slm.settle_time_s) if s.settle_us is None else s.settle_us
        shape = int(slm.shape[0]), int(slm.shape[1])
        self._spec = ModulatorSpec(shape, 2 ** int(slm.bitdepth), settle_us, s.refresh_hz, s.kind)
        kind = type(slm)
        simulated = bool(SIMULATED.search(f"{kind.__module__}.{kind.__name__}"))
        serial = s.serial or str(getattr(slm, "name", "")) or "unknown"
        return Identity("slmsuite", kind.__name__, serial, finding.version(), simulated=simulated)

    def _program(self, wire: Found, deadline: Deadline) -> None:
        """The panel starts at level 0, or with what it showed before a reconnection."""
        if self._frame.shape != self.spec.shape_px:
            self._frame = np.zeros(self.spec.shape_px, np.uint16)
        self._heard("open", self._put_up(self._frame))(wire, deadline)

    def _make_safe(self, wire: Found, deadline: Deadline) -> None:
        self._frame = np.zeros(self.spec.shape_px, np.uint16)
        self._heard("close", self._put_up(self._frame))(wire, deadline)

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        settle_us = self.spec.settle_time_us
        return {
            "frame_id": self._frame_id,
            "frame_crc32": frame_checksum(self._frame),
            "settle_us": settle_us,
        }

    def _do_show(self, levels: LevelArray, wait: bool) -> ShowReceipt:
        begun_s = time.perf_counter()
        self._exchange("show", self._heard("show", self._put_up(levels, wait)))
        self._frame_id, self._frame = self._frame_id + 1, levels
        duration_us = 1e6 * (time.perf_counter() - begun_s)
        return ShowReceipt(self._frame_id, frame_checksum(levels), False, wait, duration_us)

    def _do_shown(self) -> LevelArray:
        return self._frame.copy()

    def _put_up(self, levels: LevelArray, wait: bool = False) -> Callable[[Found, Deadline], None]:
        settle_s = 1e-6 * self.spec.settle_time_us

        def work(wire: Found, _: Deadline) -> None:
            self.wire_log.sent(f"set_phase, CRC-32 {frame_checksum(levels)}".encode())
            with finding.refusals("set_phase"):
                wire.thing.set_phase(levels.astype(wire.thing.dtype), settle=settle_s if wait else False)

        return work

    def _heard(self, operation: str, work: Callable[[Found, Deadline], T]) -> Callable[[Found, Deadline], T]:
        """`work`, the library's own errors as this device's."""

        def carried_out(wire: Found, deadline: Deadline) -> T:
            try:
                return work(wire, deadline)
            except Refused as error:
                raise self._fault(operation, str(error)) from error

        return carried_out
