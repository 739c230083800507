"""One acquisition of the camera behind the wire: when frames are asked of it, and when they are sent.

Frames stay bit-equal to those taken without a wire, so the device is asked in the same portions: all frames
of a free-running MultiFrame at once, those of a hardware trigger once their host says so (TransferControlMode
UserControlled), whatever the wall clock does meanwhile. With Automatic transfer, frames go out as they come.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from labctl.devices import Camera, DeviceError, Frames
from labctl_sim_devices.wires.gige.channel import StreamChannel
from labctl_sim_devices.wires.gige.features import CHUNKS
from labctl_sim_devices.wires.gige.gvsp import Block, pixels, with_chunks
from labctl_sim_devices.wires.seat import Seat

POLL_S = 0.005


@dataclass(frozen=True)
class Plan:
    """What AcquisitionStart found set. `frames` None: until it is stopped."""

    trigger: Literal["free", "hardware", "software"]
    frames: int | None
    on_request: bool
    rate_hz: float
    pixel_format: str
    chunks: tuple[str, ...] | None


@dataclass(frozen=True)
class _Image:
    """One frame that waits to be sent."""

    frames: Frames
    place: int
    trigger: int


class Acquisition:
    """Runs one plan in its own thread, from `start` to `stop`; `faulty` is told what the device refused."""

    def __init__(
        self,
        seat: Seat[Camera],
        world: AbstractContextManager[object],
        channel: StreamChannel,
        plan: Plan,
        faulty: Callable[[DeviceError], None],
    ) -> None:
        self._seat, self._world, self._channel, self._plan = seat, world, channel, plan
        self._faulty = faulty
        self._stop = threading.Event()
        self._change = threading.Condition()
        self._waiting: deque[_Image] = deque()
        self._wanted, self._orders, self._pulses = 0, 0, 0
        self._triggers, self._ended, self._sent = 0, 0, 0
        self._offset_px = (0, 0)
        self._taken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gige-acquisition", daemon=True)
        self.last_ns = 0

    def start(self) -> None:
        """Arm the camera where it waits for triggers (a DeviceError passes), then run."""
        with self._world:
            settings = self._device.settings
            self._offset_px = (settings.offset_x_px, settings.offset_y_px)
            if self._plan.trigger == "hardware":
                self._device.arm(self._plan.frames or self._device.spec.max_frames)
        self._thread.start()

    def stop(self) -> None:
        """Break off; the camera waits for no trigger afterwards."""
        self._stop.set()
        with self._change:
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        if self._plan.trigger == "hardware":
            with self._world:
                self._device.configure({})

    @property
    def _device(self) -> Camera:
        return self._seat.device

    @property
    def running(self) -> bool:
        """Whether frames are still to come."""
        return self._thread.is_alive()

    def pulse(self) -> None:
        """A software trigger."""
        with self._change:
            self._pulses += 1
            self._change.notify_all()

    def transfer(self, blocks: int | None) -> threading.Event:
        """Send so many blocks (None: all there are) of those that wait; the event: they have been taken."""
        with self._change:
            self._orders += 1
            self._wanted = len(self._waiting) + (1 << 30) if blocks is None else blocks
            if not self._triggers:
                self._taken.clear()
            self._change.notify_all()
        return self._taken

    @property
    def taken(self) -> threading.Event:
        """Set once the frames of a free run that waits for its transfer have been taken."""
        return self._taken

    def triggers(self) -> int:
        """Pulses since the start, lost ones included."""
        if self._plan.trigger != "hardware" or not self._plan.on_request or self._triggers:
            return self._triggers
        with self._world:  # not taken from the device yet, or just now
            return self._triggers or self._device.triggers_seen()

    def frames_ended(self) -> int:
        """Frames that were taken and not lost inside the camera."""
        with self._change:
            return self._ended

    def queued(self) -> int:
        """Frames in the camera that were not sent yet."""
        with self._change:
            return len(self._waiting)

    def _run(self) -> None:
        try:
            if self._plan.on_request:
                self._run_on_request()
            elif self._plan.trigger == "hardware":
                self._run_triggered()
            elif self._plan.trigger == "software":
                self._run_pulses()
            else:
                self._run_free()
        except DeviceError as error:
            self._faulty(error)
        finally:
            self._taken.set()

    def _run_free(self) -> None:
        if self._plan.frames is not None:
            self._take(self._plan.frames)
            self._send_all()
            return
        due = time.monotonic()
        while not self._stop.is_set():
            self._take(1)
            self._send_all()
            due = max(due + 1.0 / self._plan.rate_hz, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _run_pulses(self) -> None:
        left = self._plan.frames
        while not self._stop.is_set() and left != 0:
            with self._change:
                self._change.wait_for(lambda: self._pulses or self._stop.is_set())
                if self._stop.is_set():
                    return
                self._pulses -= 1
            self._take(1)
            self._send_all()
            left = None if left is None else left - 1

    def _run_triggered(self) -> None:
        left = self._plan.frames
        while not self._stop.is_set() and left != 0:
            with self._world:
                came = self._device.triggers_seen()
                if came:
                    self._take(came if left is None else min(came, left))
                    left = None if left is None else max(left - came, 0)
                    if left != 0:
                        self._device.arm(left or self._device.spec.max_frames)
            self._send_all()
            self._stop.wait(POLL_S)

    def _run_on_request(self) -> None:
        free = self._plan.trigger == "free"
        if free:
            self._take(self._plan.frames or 1)
            self._taken.set()
        done = 0
        while not self._stop.is_set():
            with self._change:
                self._change.wait_for(lambda: self._orders > done or self._stop.is_set())  # noqa: B023
                done = self._orders
            if not free and not self._stop.is_set() and not self._triggers:
                with self._world:
                    came = self._device.triggers_seen()
                    if came:
                        self._take(min(came, self._plan.frames or came))
            self._taken.set()
            self._send_all(self._wanted)

    def _take(self, n: int) -> None:
        """n frames of the device, into the queue."""
        with self._world:
            frames = self._device.acquire(n)
        with self._change:
            images = [
                _Image(frames, place, self._triggers + int(frame_id))
                for place, frame_id in enumerate(frames.frame_id)
            ]
            self._waiting.extend(images)
            self._triggers += n
            self._ended += len(images)

    def _send_all(self, most: int | None = None) -> None:
        while not self._stop.is_set() and (most is None or most > 0):
            with self._change:
                if not self._waiting:
                    return
                image = self._waiting[0]
            self._channel.send(self._block(image), self._stop)
            with self._change:
                self._waiting.popleft()
            most = None if most is None else most - 1

    def _block(self, image: _Image) -> Block:
        frames, plan = image.frames, self._plan
        counts = frames.counts[image.place]
        payload = pixels(counts, self._device.spec.bit_depth, plan.pixel_format)
        begin_us = float(frames.timestamp_us[image.place])
        self.last_ns = round(begin_us * 1e3)
        if plan.chunks is not None:
            values = {
                "FrameID": struct.pack(">Q", image.trigger),
                "Timestamp": struct.pack(">Q", self.last_ns),
                "ExposureTime": struct.pack(">d", frames.exposure_us),
                "Gain": struct.pack(">d", frames.gain_db),
                "TriggerTime": struct.pack(">d", frames.trigger_us[image.place]),
                "ExposureStart": struct.pack(">d", begin_us),
            }
            payload = with_chunks(
                payload, [(c.code, values[c.selector]) for c in CHUNKS if c.selector in plan.chunks]
            )
        self._sent += 1
        return Block(
            number=(self._sent - 1) % 0xFFFF + 1,
            timestamp_ns=self.last_ns,
            pixel_format=plan.pixel_format,
            width_px=counts.shape[1],
            height_px=counts.shape[0],
            offset_x_px=self._offset_px[0],
            offset_y_px=self._offset_px[1],
            payload=payload,
            chunks=plan.chunks is not None,
            step=self._channel.step,
        )
