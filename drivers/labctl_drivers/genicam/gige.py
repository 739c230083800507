"""A GigE Vision camera through viva-genicam (MIT; GVCP, GVSP and GenApi without any vendor's software).

https://pypi.org/project/viva-genicam/ (0.10.0 was tried)
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from labctl.devices import DeviceUnavailable
from labctl_drivers.genicam.camera import CameraLinkSettings, SfncCamera
from labctl_drivers.genicam.features import Arrived, FeatureWire, Refused, Value
from labctl_drivers.link import Deadline, LinkSettings, WireLog, WireLost

EXTRA = "the GigE Vision client is not installed; pip install 'analog-labctl[gige]'"
SILENT = ("timeout waiting for acknowledgement", "io:")  # of what the library says when nobody answers
NO_FRAME = "timeout waiting for frame"
POLL_MS = 10


class GigeSettings(CameraLinkSettings):
    """discovery_s: how long cameras have to answer. packet_size: bytes, 0 keeps the camera's. resend: whether
    lost packets are asked for again.

    transfer_blocks: the client (0.10.0) keeps 4 images that nobody fetched, and gives up an image that lacks
    packets when the third after it comes: with 2, lost packets have the time to be sent again.
    """

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

    def _connect(self, deadline: Deadline) -> FeatureWire:
        try:
            import viva_genicam as client
        except ImportError as error:
            raise DeviceUnavailable(EXTRA, device=self.name, operation="open") from error
        sheet: Any = self._sheet
        while True:
            found = client.discover(timeout_ms=round(sheet.discovery_s * 1e3), all=True)
            for info in found:
                if self.address.casefold() in (info.ip, info.mac.casefold()):
                    return _claimed(client, info, self.wire_log, sheet)
            if deadline.left_s < sheet.discovery_s:
                break
        others = ", ".join(f"{c.ip} ({c.model})" for c in found) or "none"
        raise WireLost(f"no camera answers at {self.address}; others that do: {others}")


def _claimed(client: Any, info: Any, log: WireLog, sheet: GigeSettings) -> VivaWire:
    try:
        return VivaWire(client, client.connect_gige(info), log, sheet)
    except client.GenicamError as error:
        if "ACCESS_DENIED" in str(error):
            raise WireLost(
                "another application controls the camera (or this one did a moment ago, and its heartbeat is "
                "not over): close it there"
            ) from error
        raise WireLost(f"the camera at {info.ip} was found, but: {error}") from error


class VivaWire:
    """A connected camera. Errors of the library are mapped here, once."""

    def __init__(self, client: Any, camera: Any, log: WireLog, sheet: GigeSettings) -> None:
        self._client, self._camera, self._log = client, camera, log
        self._sheet = sheet
        self._receiver: _Receiver | None = None
        self._names = frozenset(camera.nodes())
        with self._mapped("GevTimestampTickFrequency"):
            ticks = "GevTimestampTickFrequency"
            self._ticks_hz = camera.get_integer(ticks) if ticks in self._names else 10**9
        self._kinds: dict[str, str] = {}

    def has(self, name: str) -> bool:
        if name not in self._names:
            return False
        with self._mapped(name):
            return bool(self._camera.feature_state(name).is_available) if name not in self._kinds else True

    def get(self, name: str) -> Value:
        with self._mapped(name):
            self._camera.invalidate(name)
            value: Value = self._getter(name)(name)
            return value

    def put(self, name: str, value: Value) -> None:
        self._log.sent(f"{name}={value}".encode())
        with self._mapped(name):
            kind = self._kind(name)
            setters = {
                "Integer": lambda: self._camera.set_integer(name, int(value)),
                "Float": lambda: self._camera.set_float(name, float(value)),
                "Boolean": lambda: self._camera.set_bool(name, bool(value)),
                "Enumeration": lambda: self._camera.set_enum(name, str(value)),
            }
            setters.get(kind, lambda: self._camera.set(name, str(value)))()

    def limits(self, name: str) -> tuple[float, float]:
        with self._mapped(name):
            found = self._camera.feature_state(name).range
        if found is None:
            raise Refused(f"{name} has no limits")
        return float(found.min), float(found.max)

    def entries(self, name: str) -> tuple[str, ...]:
        with self._mapped(name):
            return tuple(self._camera.available_enum_entries(name))

    def execute(self, name: str) -> None:
        self._log.sent(name.encode())
        with self._mapped(name):
            self._camera.execute(name)

    def enable_chunks(self, selectors: tuple[str, ...]) -> None:
        if selectors:
            with self._mapped("ChunkSelector"):
                self._camera.configure_chunks(list(selectors))

    def start(self, n: int) -> None:
        self._log.sent(b"AcquisitionStart")
        with self._mapped("AcquisitionStart"):
            stream = self._camera.stream(
                packet_size=self._sheet.packet_size or None,
                resend=self._sheet.resend,
                deliver_incomplete=True,
            )
            self._receiver = _Receiver(self._client, stream)
            self._camera.acquisition_start()

    def next(self, wait_s: float) -> Arrived | None:
        frame = None if self._receiver is None else self._receiver.next(wait_s)
        if frame is None:
            return None
        if isinstance(frame, Exception):
            raise WireLost(f"the stream: {frame}") from frame
        block = frame.block_id - 1
        if not frame.is_complete:
            return Arrived(None, block, 0.0)
        pixels = np.asarray(frame.to_numpy(), dtype=np.uint16)
        return Arrived(pixels, block, (frame.ts_dev or 0) * 1e6 / self._ticks_hz, self._chunks(frame))

    def stop(self) -> None:
        if self._receiver is None:
            return
        self._log.sent(b"AcquisitionStop")
        try:
            with self._mapped("AcquisitionStop"):
                self._camera.acquisition_stop()
        finally:
            self._receive_no_more()

    def close(self) -> None:
        self._receive_no_more()
        with suppress(self._client.GenicamError):
            self._camera.close()

    def _receive_no_more(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.stop()

    def _chunks(self, frame: Any) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, text in self._camera.chunk_features(frame).items():
            if isinstance(text, str):
                with suppress(ValueError):
                    found[name] = float(text)
        return found

    def _kind(self, name: str) -> str:
        if name not in self._kinds:
            self._kinds[name] = self._camera.feature_state(name).kind
        return self._kinds[name]

    def _getter(self, name: str) -> Any:
        camera = self._camera
        getters = {
            "Integer": camera.get_integer,
            "Float": camera.get_float,
            "Boolean": camera.get_bool,
            "Enumeration": camera.get_enum,
        }
        return getters.get(self._kind(name), camera.get)

    @contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._client.GenicamError as error:
            text = str(error)
            if any(word in text for word in SILENT):
                raise WireLost(f"{what}: the camera answers nothing any more ({text})") from error
            raise Refused(f"{what}: {text}" if what not in text else text) from error


class _Receiver:
    """Fetches images as they come, whatever the host does meanwhile: the client keeps only a few."""

    def __init__(self, client: Any, stream: Any) -> None:
        self._client, self._stream = client, stream
        self._halt = threading.Event()
        self._came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="gige-receiver", daemon=True)
        self._thread.start()

    def next(self, wait_s: float) -> Any:
        """An image, or an exception of the client; None where nothing came in time."""
        try:
            return self._came.get(timeout=wait_s)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Fetch no more."""
        self._halt.set()
        self._thread.join()
        self._stream.close()

    def _run(self) -> None:
        while not self._halt.is_set():
            try:
                self._came.put(self._stream.next_frame(POLL_MS))
            except self._client.GenicamError as error:
                if NO_FRAME not in str(error):
                    self._came.put(error)
                    return
