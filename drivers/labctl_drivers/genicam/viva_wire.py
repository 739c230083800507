"""A connection to a GigE Vision camera by viva-genicam: features, images, control of it. The client's errors
are mapped here, once.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from labctl_drivers.genicam.features import Arrived, Refused, Value
from labctl_drivers.link import Deadline, WireBusy, WireGarbled, WireLog, WireLost, WireTimeout

SILENT = ("timeout waiting for acknowledgement", "io:")  # of what the library says when nobody answers
HARMED, BUSY, NO_REASON = "GenCP: invalid packet", "status BUSY", "status ERROR"
NO_FRAME = "timeout waiting for frame"
POLL_MS = 10
SLOW_S = 0.2  # longer than that takes what was sent again, or the cable was out
HEARTBEAT_S = 3.0  # after which a camera lets go of a silent host: the standard's default
LETS_GO_S = 1.0  # more, until it has
TRIES, PAUSE_S = 5, 0.02  # of a register whose answer was damaged or none
# registers of the standard (AIA GigE Vision 1.2): heartbeat time-out in ms, control channel privilege
HEARTBEAT_MS, CONTROL_PRIVILEGE = 0x0938, 0x0A00


class Streaming(Protocol):
    """How images come: bytes of a packet (0: as the camera has it), whether lost ones are asked for again."""

    @property
    def packet_size(self) -> int: ...

    @property
    def resend(self) -> bool: ...


class Hold:
    """How long the camera may still keep others out for this program, although it is connected no more: a
    camera lets go of a silent host when its heartbeat is over.
    """

    def __init__(self) -> None:
        self._until_s = 0.0

    @property
    def left_s(self) -> float:
        """Seconds left; 0 once it is over."""
        return max(self._until_s - time.monotonic(), 0.0)

    def ended(self, *, given_back: bool, heartbeat_s: float = HEARTBEAT_S) -> None:
        """A connection has ended, and the camera has said that it knows, or not."""
        self._until_s = 0.0 if given_back else time.monotonic() + heartbeat_s + LETS_GO_S


class Denied(WireLost):
    """Somebody has control of the camera."""


def claimed(client: Any, info: Any, log: WireLog, sheet: Streaming, hold: Hold) -> VivaWire:
    """The camera of a discovery, connected, control taken. Denied, WireBusy, WireGarbled, WireLost; `hold`
    knows what became of an attempt that failed.
    """
    try:
        camera = client.connect_gige(info)
    except client.GenicamError as error:
        text = str(error)
        if "ACCESS_DENIED" in text:
            raise Denied(
                "another application controls the camera (or this one did a moment ago, and its heartbeat is "
                "not over): close it there"
            ) from error
        hold.ended(given_back=False)
        found = f"the camera at {info.ip} was found, but: {text}"
        if BUSY in text:
            raise WireBusy(found) from error
        raise (WireGarbled if HARMED in text or NO_REASON in text else WireLost)(found) from error
    try:
        return VivaWire(client, camera, log, sheet, hold)
    except BaseException as error:
        hold.ended(given_back=_give_back(client, camera))
        if isinstance(error, Refused):
            raise WireGarbled(f"the camera at {info.ip} was found, but: {error}") from error
        raise


def _give_back(client: Any, camera: Any) -> bool:
    """Control of it; whether the camera has said so. One that was busy when it was told, or whose answer came
    damaged, is told again: else it keeps everybody out for a heartbeat.
    """
    given_back = False
    for _ in range(TRIES):
        try:
            camera.write_register(CONTROL_PRIVILEGE, bytes(4))
        except client.GenicamError as error:
            if not any(word in str(error) for word in (BUSY, NO_REASON, HARMED)):
                break
            time.sleep(PAUSE_S)
        else:
            given_back = True
            break
    with suppress(client.GenicamError):
        camera.close()
    return given_back


class VivaWire:
    """A connected camera. Errors of the library are mapped here, once."""

    def __init__(self, client: Any, camera: Any, log: WireLog, sheet: Streaming, hold: Hold) -> None:
        self._client, self._camera, self._log, self._hold = client, camera, log, hold
        self._sheet = sheet
        self._receiver: _Receiver | None = None
        self._gone = False  # it answers nothing any more
        self.until: Deadline | None = None  # by when the features that are asked must have answered
        self._names = frozenset(camera.nodes())
        ticks = "GevTimestampTickFrequency"
        self._ticks_hz: int = self._asked(ticks, camera.get_integer, ticks) if ticks in self._names else 10**9
        heartbeat_ms = int.from_bytes(self._asked("heartbeat", camera.read_register, HEARTBEAT_MS, 4), "big")
        self._heartbeat_s = 1e-3 * heartbeat_ms
        # by the description alone: a feature's state takes many registers
        self._kinds: dict[str, str] = {info.name: info.kind for info in camera.all_node_info()}
        self._available: dict[str, bool] = {}

    def has(self, name: str) -> bool:
        if name not in self._names:
            return False
        if name not in self._available:
            self._available[name] = bool(self._asked(name, self._camera.feature_state, name).is_available)
        return self._available[name]

    def get(self, name: str) -> Value:
        self._camera.invalidate(name)
        value: Value = self._asked(name, self._getter(name), name)
        return value

    def put(self, name: str, value: Value) -> None:
        self._log.sent(f"{name}={value}".encode())
        setters = {
            "Integer": lambda: self._camera.set_integer(name, int(value)),
            "Float": lambda: self._camera.set_float(name, float(value)),
            "Boolean": lambda: self._camera.set_bool(name, bool(value)),
            "Enumeration": lambda: self._camera.set_enum(name, str(value)),
        }
        self._asked(name, setters.get(self._kind(name), lambda: self._camera.set(name, str(value))))

    def limits(self, name: str) -> tuple[float, float]:
        found = self._asked(name, self._camera.feature_state, name).range
        if found is None:
            raise Refused(f"{name} has no limits")
        return float(found.min), float(found.max)

    def entries(self, name: str) -> tuple[str, ...]:
        return tuple(self._asked(name, self._camera.available_enum_entries, name))

    def execute(self, name: str) -> None:
        self._log.sent(name.encode())
        self._asked(name, self._camera.execute, name, once=True)

    def enable_chunks(self, selectors: tuple[str, ...]) -> None:
        if selectors:
            self._asked("ChunkSelector", self._camera.configure_chunks, list(selectors))

    def start(self, n: int) -> None:
        self._log.sent(b"AcquisitionStart")
        stream = self._asked(
            "the stream channel", self._camera.stream, packet_size=self._sheet.packet_size or None,
            resend=self._sheet.resend, deliver_incomplete=True,
        )  # fmt: skip
        self._receiver = _Receiver(self._client, stream)
        try:
            self._asked("AcquisitionStart", self._camera.acquisition_start, once=True)
        except WireGarbled:  # an answer, if a damaged one: the camera has heard it
            if not self._acquiring():
                raise

    def next(self, wait_s: float) -> Arrived | None:
        frame = None if self._receiver is None else self._receiver.next(wait_s)
        if frame is None:
            return None
        if isinstance(frame, Exception):
            raise WireLost(f"the stream: {frame}") from frame
        block = frame.block_id - 1
        if not frame.is_complete:
            return Arrived(None, block, 0.0)
        try:
            pixels = np.asarray(frame.to_numpy(), dtype=np.uint16)
        except self._client.GenicamError as error:  # its leader and its bytes are not of the same image
            self._log.received(str(error).encode())
            return Arrived(None, block, 0.0)
        return Arrived(pixels, block, (frame.ts_dev or 0) * 1e6 / self._ticks_hz, self._chunks(frame))

    def stop(self) -> None:
        if self._receiver is None:
            return
        self._log.sent(b"AcquisitionStop")
        try:
            self._asked("AcquisitionStop", self._camera.acquisition_stop)
        finally:
            self._receive_no_more()

    def close(self) -> None:
        self._receive_no_more()
        if self._gone:  # nobody there to give anything back to, and the client waits for each answer
            with suppress(self._client.GenicamError):
                self._camera.close()
            given_back = False
        else:
            given_back = _give_back(self._client, self._camera)
        self._hold.ended(given_back=given_back, heartbeat_s=self._heartbeat_s)

    def _acquiring(self) -> bool:
        """Whether the camera says that it takes images, or has some to send: soon after it was told to."""
        if not self.has("AcquisitionStatus"):
            return False
        for _ in range(TRIES):
            if self.get("AcquisitionStatus"):
                return True
            time.sleep(PAUSE_S)
        return False

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
        return self._kinds.get(name, "")

    def _getter(self, name: str) -> Any:
        camera = self._camera
        getters = {
            "Integer": camera.get_integer,
            "Float": camera.get_float,
            "Boolean": camera.get_bool,
            "Enumeration": camera.get_enum,
        }
        return getters.get(self._kind(name), camera.get)

    def _asked(
        self, what: str, call: Callable[..., Any], *given: Any, once: bool = False, **named: Any
    ) -> Any:
        """What the client's `call` gives, in bounded tries: a register says and takes the same every time. A
        command whose answer was damaged may have been carried out: with `once` it is not given again.

        The client passes over registers that do not answer, so that after a call that took long the camera is
        asked whether this host still controls it.
        """
        for left in reversed(range(TRIES)):
            if self.until is not None and self.until.passed:
                raise WireTimeout(f"{what}: not reached within {self.until.total_s:g} s")
            begun_s = time.monotonic()
            try:
                result = call(*given, **named)
                if time.monotonic() - begun_s > SLOW_S and not any(self._control()):
                    raise WireLost(f"{what}: control of it is gone, its link was down")
            except self._client.GenicamError as error:
                passing = (BUSY, NO_REASON) if once else (BUSY, NO_REASON, HARMED)
                if left and any(word in str(error) for word in passing):
                    time.sleep(PAUSE_S)
                    continue
                raise self._problem(what, str(error)) from error
            return result
        raise WireGarbled(what)

    def _problem(self, what: str, text: str) -> Exception:
        """An error of the client as what it means."""
        if HARMED in text:
            return WireGarbled(f"{what}: {text}")
        if BUSY in text:
            return WireBusy(f"{what}: the camera says that it is busy")
        if any(word in text for word in SILENT):
            self._gone = True
            return WireLost(f"{what}: the camera answers nothing any more ({text})")
        if "ACCESS_DENIED" in text and self._control_is_gone():
            return WireLost(f"{what}: control of it is gone, its link was down ({text})")
        return Refused(f"{what}: {text}" if what not in text else text)

    def _control(self) -> bytes:
        privilege: bytes = self._camera.read_register(CONTROL_PRIVILEGE, 4)
        return privilege

    def _control_is_gone(self) -> bool:
        """Whether the camera's own register says that nobody controls it, or nothing at all."""
        try:
            return not any(self._control())
        except self._client.GenicamError:
            return True


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
