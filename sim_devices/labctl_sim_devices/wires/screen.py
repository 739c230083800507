"""A panel that is a screen: an X server of its own without hardware, looked at before light is used.

The optics see what the screen shows, grabbed bit for bit, and nothing of what a host meant to show. A cable
to a display carries pixels and no clock, so three things are this twin's word and not the wire's: that the
panel has settled, when it began to turn, and how many frames were replaced before anything looked at them.
A host that draws the frame mark (`FrameMark`) says the first and the last.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError, Scalar, WeightModulator
from labctl_sim_devices.wires.face import WireAddress
from labctl_sim_devices.wires.seat import Seat, seat_of
from labctl_sim_devices.wires.virtual_screen import VirtualScreen

DRIVER = "display.slm"
LEVELS = 256
NUMBERS = 1 << 16  # of a mark


@dataclass(frozen=True)
class FrameMark:
    """What a host writes beside the panel: its window, the frame's number, whether it waits for the panel.

    32 squares of 8 x 8 pixels in a row, white is 1, most significant first: window (8), number (16), waits
    (1), and these 25 bits modulo 127 (7).
    """

    BITS: ClassVar[int] = 32
    SQUARE_PX: ClassVar[int] = 8

    window: int
    number: int
    waits: bool

    @classmethod
    def read(cls, strip: NDArray[np.uint8]) -> FrameMark | None:
        """From a strip of greys [8, 256]; None where no mark is on it."""
        by_row = strip.reshape(cls.SQUARE_PX, cls.BITS, cls.SQUARE_PX)
        squares = by_row.transpose(1, 0, 2).reshape(cls.BITS, -1)
        if not np.isin(squares, (0, 255)).all() or np.ptp(squares, axis=1).any():
            return None
        word = int.from_bytes(np.packbits(squares[:, 0] > 0).tobytes(), "big")
        said, check = word >> 7, word & 0x7F
        if said == 0 or check != said % 127:  # all black is no mark
            return None
        return cls(said >> 17, said >> 1 & (NUMBERS - 1), bool(said & 1))


NO_FRAME = FrameMark(0, 0, True)


class ScreenFace:
    """A modulator `device` behind a screen of its own. Every call of the world goes through `lock`.

    The panel begins `margin_px` from the screen's upper left corner; the mark, where there is one, lies below
    it. Without mark, every frame that differs from the last is a new one, and the host is taken to wait for
    the panel. `screen`: one that runs already, and goes on when the face stops.
    """

    def __init__(
        self,
        device: WeightModulator | Seat[WeightModulator],
        lock: AbstractContextManager[object],
        *,
        mark: bool = True,
        margin_px: int = 0,
        screen: VirtualScreen | None = None,
    ) -> None:
        self._seat, self._lock, self._mark, self._margin_px = seat_of(device), lock, mark, margin_px
        self._spec, name = self._device.spec, self._device.name
        if self._spec.n_levels != LEVELS:
            raise ConfigError(f"{name} has {self._spec.n_levels} levels; a screen shows {LEVELS}")
        self._borrowed = screen is not None
        self.screen = screen or VirtualScreen(self.screen_px, device=name)
        self._seen = NO_FRAME

    @property
    def _device(self) -> WeightModulator:
        return self._seat.device

    @property
    def screen_px(self) -> tuple[int, int]:
        """Height and width of the whole screen."""
        height, width = self._spec.shape_px
        if self._mark:
            height, width = height + FrameMark.SQUARE_PX, max(width, FrameMark.BITS * FrameMark.SQUARE_PX)
        return self._margin_px + height, self._margin_px + width

    def start(self) -> WireAddress:
        """Put the screen up and say how to reach it, and what a cable to it cannot tell."""
        if not self.screen.runs:
            self.screen.start()
        spec, edge = self._spec, self._margin_px
        with self._lock:
            identity = self._device.open()
        settings: dict[str, Scalar] = {
            "height_px": spec.shape_px[0],
            "width_px": spec.shape_px[1],
            "kind": spec.kind,
            "settle_us": spec.settle_time_us,
            "refresh_hz": spec.refresh_hz,
            "delay_frames": 0.0,
            "vsync": "off",  # there is no retrace
            "vendor": identity.vendor,
            "model": identity.model,
            "serial": identity.serial,
            "simulated": identity.simulated,
        }
        if edge:
            settings |= {"top_px": edge, "left_px": edge}
        if self._mark:
            settings |= {"mark_top_px": edge + spec.shape_px[0], "mark_left_px": edge}
        return WireAddress(DRIVER, f"screen:0@{self.screen.display}", settings)

    def stop(self) -> None:
        """Take the screen away, as a pulled cable would; the panel keeps what it showed."""
        if not self._borrowed:
            self.screen.stop()

    def grab(self) -> tuple[NDArray[np.uint8], FrameMark | None]:
        """Levels of the panel's region [height, width] (of coloured pixels the green), and the mark."""
        edge, (height, width) = self._margin_px, self._spec.shape_px
        green = self.screen.pixels()[edge:, edge:, 1]
        mark = None
        if self._mark:
            strip = green[height : height + FrameMark.SQUARE_PX, : FrameMark.BITS * FrameMark.SQUARE_PX]
            mark = FrameMark.read(strip)
        return green[:height, :width], mark

    def look(self) -> None:
        """Let the optics see the frame on the screen. To be called before light is used."""
        with self._lock:
            if not self.screen.runs:
                return  # unplugged: what was shown stays
            greys, mark = self.grab()
            if mark is None:
                self._changed(greys.astype(np.uint16))
            elif mark != self._seen:
                self._counted(greys.astype(np.uint16), mark)

    def _changed(self, levels: NDArray[np.uint16]) -> None:
        """By the look of it alone. Where marks are usual, none means that the host has let go."""
        self._seen = NO_FRAME
        self._device.open()
        if not np.array_equal(levels, self._device.shown()):
            self._show(levels, waits=not self._mark)

    def _counted(self, levels: NDArray[np.uint16], mark: FrameMark) -> None:
        """Frames that nobody saw are counted, as the one before them: their pixels are lost."""
        self._device.open()
        before = self._seen.number
        if mark.window != self._seen.window:
            before = 0
            self._changed(np.zeros_like(levels))  # the window before it went dark
        for _ in range((mark.number - before - 1) % NUMBERS):
            self._show(self._device.shown(), waits=True)
        self._show(levels, mark.waits)
        self._seen = mark

    def _show(self, levels: NDArray[np.uint16], waits: bool) -> None:
        self._device.show(levels, wait=waits)


class LookingLock:
    """The lock of a world with screens: who takes it first has the frames on display brought up to date.

    Given to the faces of every device on the bench in the place of the plain lock, whose methods it has.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock, self._depth = lock, 0
        self.screens: list[ScreenFace] = []

    def __enter__(self) -> LookingLock:
        self.acquire()
        return self

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As an RLock's: whether it was had in time, s."""
        if not self._lock.acquire(blocking, timeout):
            return False
        self._depth += 1
        try:
            if self._depth == 1:
                for screen in self.screens:
                    screen.look()
        except BaseException:
            self.release()
            raise
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """As an RLock's."""
        self._depth -= 1
        self._lock.release()
