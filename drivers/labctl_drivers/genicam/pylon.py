"""A Basler camera through the vendor's own SDK, pylon (pypylon: its wheel brings pylon; Basler's licence).

https://github.com/basler/pypylon (26.9, pylon 12.4 was tried, with the SDK's own emulation: PYLON_CAMEMU)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import methodcaller
from typing import Any, ClassVar

import numpy as np

from labctl.devices import DeviceUnavailable
from labctl_drivers.genicam.camera import SfncCamera
from labctl_drivers.genicam.features import Arrived, FeatureWire, Refused, Value
from labctl_drivers.genicam.nodes import NodeCalls, NodeWire
from labctl_drivers.link import Deadline, WireLog, WireLost

EXTRA = "Basler's SDK is not installed; pip install 'analog-labctl[pylon]'"
GONE = ("removed", "not connected", "not open", "timed out", "0xe1018006", "0xe1000014")  # in the SDK's words


class PylonCamera(SfncCamera):
    """A Basler camera on any cable that pylon knows; `address`: its serial number, IP address or user ID."""

    def _connect(self, deadline: Deadline) -> FeatureWire:
        try:
            from pypylon import genicam, pylon
        except ImportError as error:
            raise DeviceUnavailable(EXTRA, device=self.name, operation="open") from error
        factory = pylon.TlFactory.GetInstance()
        found = list(factory.EnumerateDevices())
        for info in found:
            if self.address in _names(info):
                try:
                    camera = pylon.InstantCamera(factory.CreateDevice(info))
                    camera.Open()
                except genicam.GenericException as error:
                    raise WireLost(f"the camera was found, but: {_words(error)}") from error
                return PylonWire(pylon, genicam, camera, info.GetSerialNumber(), self.wire_log)
        others = ", ".join(f"{c.GetSerialNumber()} ({c.GetModelName()})" for c in found) or "none"
        raise WireLost(f"no Basler camera is {self.address}; others that are there: {others}")


def _names(info: Any) -> tuple[str, ...]:
    known = [info.GetSerialNumber()]
    for says, name in ((info.IsIpAddressAvailable, info.GetIpAddress),
                       (info.IsUserDefinedNameAvailable, info.GetUserDefinedName)):  # fmt: skip
        if says():
            known.append(name())
    return tuple(name for name in known if name)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())


class PylonWire(NodeWire):
    """An open camera. The SDK's errors are mapped here, once."""

    CALLS: ClassVar[NodeCalls] = NodeCalls(
        value=methodcaller("GetValue"),
        assign=lambda node, value: node.SetValue(value),
        low=methodcaller("GetMin"),
        high=methodcaller("GetMax"),
        entries=methodcaller("GetSymbolics"),
        execute=methodcaller("Execute"),
    )

    def __init__(self, pylon: Any, genicam: Any, camera: Any, serial: str, log: WireLog) -> None:
        super().__init__(camera.GetNodeMap().GetNode, log)
        self._pylon, self._genicam, self._camera = pylon, genicam, camera
        self._serial = serial  # some cameras have it in their address alone

    def has(self, name: str) -> bool:
        if name == "DeviceSerialNumber":
            return True
        node = self._node(name)
        return node is not None and bool(self._genicam.IsAvailable(node))

    def get(self, name: str) -> Value:
        if name == "DeviceSerialNumber":
            return self._serial
        return super().get(name)

    def start(self, n: int) -> None:
        self._log.sent(b"StartGrabbing")
        with self._mapped("AcquisitionStart"):
            self._camera.MaxNumBuffer.SetValue(n)  # what comes while nobody fetches stays in the SDK
            self._camera.StartGrabbingMax(n, self._pylon.GrabStrategy_OneByOne)

    def next(self, wait_s: float) -> Arrived | None:
        if not self._camera.IsGrabbing():
            return None
        with self._mapped("the stream"):
            result = self._camera.RetrieveResult(
                max(round(wait_s * 1e3), 1), self._pylon.TimeoutHandling_Return
            )
            if not result.IsValid():
                return None
            try:
                block = int(result.ImageNumber) - 1
                if not result.GrabSucceeded():
                    self._log.received(result.ErrorDescription.encode())
                    return Arrived(None, block, 0.0)
                return Arrived(np.array(result.Array, dtype=np.uint16), block, result.TimeStamp * 1e-3)
            finally:
                result.Release()

    def stop(self) -> None:
        if self._camera.IsGrabbing():
            self._log.sent(b"StopGrabbing")
            with self._mapped("AcquisitionStop"):
                self._camera.StopGrabbing()

    def close(self) -> None:
        with suppress(self._genicam.GenericException):
            self._camera.Close()

    @contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._genicam.GenericException as error:
            words = _words(error)
            if self._camera.IsCameraDeviceRemoved() or any(word in words.lower() for word in GONE):
                raise WireLost(f"{what}: {words}") from error
            raise Refused(f"{what}: {words}") from error
