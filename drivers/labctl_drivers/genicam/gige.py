"""A GigE Vision camera through viva-genicam (MIT; GVCP, GVSP and GenApi without any vendor's software).

Its version 0.10.0 was tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from labctl.devices import DeviceUnavailable, Identity
from labctl_drivers.genicam.camera import CameraLinkSettings, SfncCamera
from labctl_drivers.genicam.features import FeatureWire
from labctl_drivers.genicam.viva_wire import Denied, Hold, VivaWire, claimed
from labctl_drivers.link import (
    Deadline,
    LinkSettings,
    WireBusy,
    WireError,
    WireGarbled,
    WireLost,
    WireTimeout,
)

T = TypeVar("T")
EXTRA = "the GigE Vision client is not installed; pip install 'analog-labctl[gige]'"
ABSENT_S = 3.0  # a camera that no discovery has found so long is not there


class GigeSettings(CameraLinkSettings):
    """timeout_s: of one operation, registers and all (the client has a time-out of its own for each of them,
    and asks again). open_timeout_s: of all attempts together. discovery_s: how long cameras have to answer.
    packet_size: bytes, 0 keeps the camera's. resend: whether lost packets are asked for again.

    transfer_blocks: the client (0.10.0) keeps 4 images that nobody fetched, and gives up an image that lacks
    packets when the third after it comes: with 2, lost packets have the time to be sent again.
    """

    timeout_s: float = 10.0
    open_timeout_s: float = 8.0
    transfer_blocks: int = Field(default=2, ge=1, le=4)
    discovery_s: float = Field(default=0.5, gt=0, le=10)
    packet_size: int = Field(default=0, ge=0, le=16_000)
    resend: bool = True


@dataclass(frozen=True)
class FoundCamera:
    """A camera that answered a discovery."""

    address: str
    mac: str
    vendor: str
    model: str


def discover(wait_s: float = 0.5) -> tuple[FoundCamera, ...]:
    """GigE Vision cameras on every interface of this machine. ImportError without the client."""
    import viva_genicam

    found = viva_genicam.discover(timeout_ms=round(wait_s * 1e3), all=True)
    return tuple(FoundCamera(c.ip, c.mac, c.manufacturer or "", c.model or "") for c in found)


class GenICamCamera(SfncCamera):
    """A GigE Vision camera; `address` is its IP address or its MAC."""

    Settings: ClassVar[type[LinkSettings]] = GigeSettings
    _opening: Deadline | None = None  # of all attempts of an `open`
    _failed: WireError | None = None  # how the last connection failed that found the camera

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        super().__init__(name, address, **settings)
        self._hold = Hold()

    def _do_open(self) -> Identity:
        self._opening, self._failed = Deadline.after(self._sheet.open_timeout_s), None
        try:
            return super()._do_open()
        finally:
            self._opening = None

    def _connect(self, deadline: Deadline) -> FeatureWire:
        try:
            import viva_genicam as client
        except ImportError as error:
            raise DeviceUnavailable(EXTRA, device=self.name, operation="open") from error
        sheet: Any = self._sheet
        deadline = self._opening or deadline
        failed, denied = 0, False
        seen, begun_s = self._known is not None or self._failed is not None, time.monotonic()
        while True:
            found = client.discover(timeout_ms=round(sheet.discovery_s * 1e3), all=True)
            for info in found:
                if self.address.casefold() in (info.ip, info.mac.casefold()):
                    seen = True
                    try:
                        wire = claimed(client, info, self.wire_log, sheet, self._hold)
                        self._failed = None
                        return wire
                    except Denied:
                        denied = True
                        if not self._hold.left_s:
                            raise
                    except (WireBusy, WireGarbled, WireLost) as error:  # damaged, perhaps: asked again
                        self._failed, denied = error, False
                        failed += 1
                        if failed >= sheet.attempts or isinstance(error, WireBusy):
                            raise
            absent = not seen and time.monotonic() - begun_s > ABSENT_S - sheet.discovery_s
            if absent or deadline.left_s < sheet.discovery_s:
                break
        last = self._failed
        if isinstance(last, WireBusy) and self._hold.left_s:
            raise WireTimeout(f"not in time: {last}")
        if last is not None and self._hold.left_s:
            raise last
        if denied:
            raise WireLost("this program's own control of the camera is not over yet")
        others = ", ".join(f"{c.ip} ({c.model})" for c in found) or "none"
        raise WireLost(f"no camera answers at {self.address}; others that do: {others}")

    def _identify(self, wire: FeatureWire, deadline: Deadline) -> Identity:
        return self._soon(super()._identify, wire, deadline)

    def _program(self, wire: FeatureWire, deadline: Deadline) -> None:
        self._soon(super()._program, wire, deadline)

    def _soon(self, work: Callable[[FeatureWire, Deadline], T], wire: FeatureWire, deadline: Deadline) -> T:
        """A part of an opening. To connect is one call of the client, which nothing cuts: what comes after it
        may be late from the beginning.
        """
        try:
            return _in_time(work)(wire, self._opening or deadline)
        except WireTimeout as error:  # each register after the client's own time-out: no attempt is faster
            raise self._fault("open", f"it answers too slowly: {error}", DeviceUnavailable) from error

    def _worded(
        self, operation: str, work: Callable[[FeatureWire, Deadline], T]
    ) -> Callable[[FeatureWire, Deadline], T]:
        return _in_time(super()._worded(operation, work))


def _in_time(work: Callable[[FeatureWire, Deadline], T]) -> Callable[[FeatureWire, Deadline], T]:
    """`work`, cut at its deadline: the client knows none, a feature at a time is what can be cut."""

    def timed(wire: FeatureWire, deadline: Deadline) -> T:
        if not isinstance(wire, VivaWire):
            raise TypeError("a wire of this driver is a VivaWire")
        before, wire.until = wire.until, deadline
        try:
            return work(wire, deadline)
        finally:
            wire.until = before

    return timed
