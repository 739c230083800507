"""A camera through its vendor's GenTL producer (a .cti file), by harvesters (Apache-2.0).

https://github.com/genicam/harvesters (tried: 1.4.3, genicam 1.6.0, and the producer in that one's wheel)
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from labctl.devices import DeviceUnavailable
from labctl_drivers.genicam.camera import SfncCamera
from labctl_drivers.genicam.features import Arrived, FeatureWire, Refused, Value
from labctl_drivers.genicam.nodes import NodeCalls, NodeWire
from labctl_drivers.link import Deadline, WireLog, WireLost

EXTRA = "the GenTL consumer is not installed; pip install 'analog-labctl[gentl]'"
FEWEST_BUFFERS = 3  # producers want some
# identity as the producer knows it, for cameras whose own description is silent
OF_PRODUCER = {
    "DeviceVendorName": "vendor",
    "DeviceModelName": "model",
    "DeviceSerialNumber": "serial_number",
    "DeviceVersion": "version",
}


class GentlCamera(SfncCamera):
    """A camera behind a GenTL producer; `address` is "FILE.cti::ID", by the camera's id or serial number."""

    def _connect(self, deadline: Deadline) -> FeatureWire:
        try:
            from genicam import genapi, gentl
            from harvesters.core import Harvester
        except ImportError as error:
            raise DeviceUnavailable(EXTRA, device=self.name, operation="open") from error
        producer, _, wanted = self.address.partition("::")
        if not Path(producer).is_file():
            raise WireLost(f"there is no GenTL producer {producer}; an address is FILE.cti::ID")
        harvester = Harvester()
        try:
            harvester.add_file(producer)
            harvester.update()
            found = [info.property_dict for info in harvester.device_info_list]
            for place, info in enumerate(found):
                if wanted in (info["id_"], info["serial_number"]):
                    kinds = (gentl.GenericException, genapi.GenericException)
                    with _ctrl_c_left_alone():
                        acquirer = harvester.create(place)
                    return GentlWire(harvester, acquirer, info, kinds, self.wire_log)
        except (gentl.GenericException, genapi.GenericException) as error:
            harvester.reset()
            raise WireLost(f"the producer: {error}") from error
        harvester.reset()
        others = ", ".join(info["id_"] for info in found) or "none"
        raise WireLost(f"the producer has no camera {wanted}; it has: {others}")


@contextmanager
def _ctrl_c_left_alone() -> Iterator[None]:
    """harvesters takes SIGINT for itself and tells nobody: a run would not stop, an instrument stay on."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGINT, before)


class GentlWire(NodeWire):
    """A camera that a producer opened. The consumer's errors are mapped here, once."""

    CALLS: ClassVar[NodeCalls] = NodeCalls(
        value=attrgetter("value"),
        assign=lambda node, value: setattr(node, "value", value),
        low=attrgetter("min"),
        high=attrgetter("max"),
        entries=attrgetter("symbolics"),
        execute=methodcaller("execute"),
    )

    def __init__(
        self,
        harvester: Any,
        acquirer: Any,
        info: dict[str, Any],
        errors: tuple[type[Exception], ...],
        log: WireLog,
    ) -> None:
        super().__init__(acquirer.remote_device.node_map.get_node, log)
        self._harvester, self._acquirer, self._info = harvester, acquirer, info
        self._errors = errors
        self._first: int | None = None

    def has(self, name: str) -> bool:
        return self._readable(name) or bool(self._info.get(OF_PRODUCER.get(name, "")))

    def get(self, name: str) -> Value:
        if not self._readable(name) and name in OF_PRODUCER:
            return str(self._info[OF_PRODUCER[name]])
        return super().get(name)

    def start(self, n: int) -> None:
        self._log.sent(b"AcquisitionStart")
        self._first = None
        with self._mapped("AcquisitionStart"):
            self._acquirer.num_buffers = max(n, FEWEST_BUFFERS)  # what comes while nobody fetches stays there
            self._acquirer.start()

    def next(self, wait_s: float) -> Arrived | None:
        with self._mapped("the stream"):
            buffer = self._acquirer.try_fetch(timeout=wait_s)
            if buffer is None:
                return None
            try:
                number = int(buffer.module.frame_id)
                self._first = number if self._first is None else self._first
                block = number - self._first
                if not buffer.module.is_complete():
                    return Arrived(None, block, 0.0)
                part = buffer.payload.components[0]
                pixels = np.array(part.data, dtype=np.uint16).reshape(part.height, part.width)
                return Arrived(pixels, block, self._timestamp_us(buffer))
            finally:
                buffer.queue()

    def stop(self) -> None:
        if self._acquirer.is_acquiring():
            self._log.sent(b"AcquisitionStop")
            with self._mapped("AcquisitionStop"):
                self._acquirer.stop()

    def close(self) -> None:
        with suppress(*self._errors):
            self._acquirer.destroy()
        with suppress(*self._errors):
            self._harvester.reset()

    def _readable(self, name: str) -> bool:
        try:
            return int(self._node(name).get_access_mode()) >= 2  # write only is 2, then read and both
        except self._errors:
            return False

    def _timestamp_us(self, buffer: Any) -> float:
        try:
            return float(buffer.module.timestamp_ns) * 1e-3
        except self._errors:
            return 0.0  # the producer has none

    @contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            if "Timeout" in type(error).__name__ or "Io" in type(error).__name__:
                raise WireLost(f"{what}: {error}") from error
            raise Refused(f"{what}: {error}") from error
