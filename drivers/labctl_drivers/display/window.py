"""The window that fills the panel's screen: a program of its own, run by `DisplaySLM`.

SDL wants the main thread and one X display a process, so neither a notebook nor a GUI can lend it theirs. It
stands alone (nothing of labctl is imported), draws until its orders end, and goes dark then: also when the
process that gave them dies.

Orders are lines of JSON on standard input, answers lines of JSON on standard output; the levels of a frame
(8 bits, row by row) and those read back are in a shared file.
"""

from __future__ import annotations

import json
import mmap
import os
import queue
import signal
import statistics
import sys
import threading
import time
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

GREY = 0x010101  # red, green and blue carry the same level
IDLE_S = 0.02  # between looks at the window system's events
RHYTHM_FLIPS = 12
MARK_BIT_PX = 8  # a square a bit, so that a photodiode can look at one
NOBODY_SEES = ("dummy", "offscreen", "evdev")  # what SDL falls back to
ENVIRONMENT = {
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    "SDL_VIDEO_MINIMIZE_ON_FOCUS_LOSS": "0",
    "SDL_WINDOWS_DPI_AWARENESS": "permonitorv2",  # pixels, never the desktop's scaled points
    "SDL_RENDER_SCALE_QUALITY": "nearest",
}


class WindowError(Exception):
    """What the screen cannot do, in words."""


class Window:
    """A borderless window over one whole screen, with a panel's region and a frame mark in it."""

    def __init__(self, sdl: Any, orders: dict[str, Any]) -> None:
        self._sdl, self._orders = sdl, orders
        sdl.display.init()
        if sdl.display.get_driver() in NOBODY_SEES:
            raise sdl.error(f"there is no display: SDL found {sdl.display.get_driver()!r} alone")
        sizes = sdl.display.get_desktop_sizes()
        index = orders["screen"]
        if index >= len(sizes):
            raise WindowError(f"screen {index} is not there; allowed: 0 to {len(sizes) - 1}")
        self.size = width, height = sizes[index]
        top, left = orders["top_px"], orders["left_px"]
        bottom, right = top + orders["height_px"], left + orders["width_px"]
        if bottom > height or right > width:
            raise WindowError(
                f"the panel's region ends at ({bottom}, {right}); screen {index} has {height} rows of "
                f"{width} pixels"
            )
        self.shape = orders["height_px"], orders["width_px"]
        self._place = slice(top, bottom), slice(left, right)
        in_step = orders["vsync"] != "off"
        # the renderer's flips can wait for the retrace; a plain window's buffer is the quicker one
        flags = sdl.NOFRAME | (sdl.SCALED if in_step else 0)
        self._screen = sdl.display.set_mode(self.size, flags, depth=32, display=index, vsync=int(in_step))
        self._check_exact()
        self.gamma_straight = bool(sdl.display.set_gamma(1.0))
        sdl.mouse.set_visible(False)
        sdl.display.set_caption(orders["title"])
        self.flips = 0
        self.dark()
        self.rhythm_us = self._rhythm_us() if in_step else 0.0
        self.flips = 0

    def show(self, levels: np.ndarray[Any, Any], number: int, waits: bool) -> None:
        """Put levels [height, width] up as greys, unscaled; return after the flip."""
        pixels = self._sdl.surfarray.pixels2d(self._screen).T
        np.multiply(levels, GREY, out=pixels[self._place], dtype=np.uint32, casting="unsafe")
        self._draw_mark(pixels, number, waits)
        del pixels  # the surface is locked while they are held
        self._flip()

    def levels(self) -> np.ndarray[Any, Any]:
        """Levels of the panel's region in the window's buffer [height, width]."""
        pixels = self._sdl.surfarray.pixels2d(self._screen).T
        return np.asarray(pixels[self._place] & 0xFF, dtype=np.uint8)

    def dark(self) -> None:
        """Everything at level 0, the mark too."""
        self._screen.fill((0, 0, 0))
        self._flip()

    def tend(self) -> None:
        """Answer the window system, and repair what it may have painted over."""
        events = self._sdl.event.get()
        if any(event.type in (self._sdl.VIDEOEXPOSE, self._sdl.WINDOWEXPOSED) for event in events):
            self._sdl.display.flip()

    def facts(self) -> dict[str, Any]:
        """What there is to know of the screen."""
        sdl = self._sdl
        return {
            "driver": sdl.display.get_driver(),
            "screens": sdl.display.get_num_displays(),
            "width_px": self.size[0],
            "height_px": self.size[1],
            "rhythm_us": self.rhythm_us,
            "gamma_straight": self.gamma_straight,
            "versions": f"SDL {'.'.join(map(str, sdl.get_sdl_version()))}, pygame {sdl.version.ver}",
        }

    def _flip(self) -> None:
        self._sdl.display.flip()
        self.flips += 1

    def _check_exact(self) -> None:
        if self._screen.get_size() != self.size:
            raise WindowError(f"the window got {self._screen.get_size()} pixels of {self.size}: it is scaled")
        masks = sorted(mask & 0xFFFFFFFF for mask in self._screen.get_masks()[:3])
        if self._screen.get_bitsize() != 32 or masks != [0xFF, 0xFF00, 0xFF0000]:
            raise WindowError(
                f"the window has {self._screen.get_bitsize()} bits a pixel; allowed: 32, a byte a colour"
            )

    def _rhythm_us(self) -> float:
        """Median time from flip to flip; the display's period where flips wait for the retrace."""
        times = []
        for _ in range(RHYTHM_FLIPS):
            self._flip()
            times.append(time.perf_counter())
        return 1e6 * statistics.median(b - a for a, b in pairwise(times))

    def _draw_mark(self, pixels: np.ndarray[Any, Any], number: int, waits: bool) -> None:
        """This window (8 bits), its frame's number (16), `waits` (1), all that modulo 127 (7); black is 0."""
        top = self._orders["mark_top_px"]
        if top is None:
            return
        said = (os.getpid() & 0xFF) << 17 | (number & 0xFFFF) << 1 | int(waits)
        word = said << 7 | said % 127
        left = self._orders["mark_left_px"]
        for bit in range(32):
            column = left + bit * MARK_BIT_PX
            white = word >> (31 - bit) & 1
            pixels[top : top + MARK_BIT_PX, column : column + MARK_BIT_PX] = 0xFFFFFF * white


def serve(window: Window, orders: queue.SimpleQueue[str | None], answer: Any, shared: mmap.mmap) -> None:
    """Carry out orders until they end."""
    frame = np.frombuffer(shared, np.uint8).reshape(window.shape)
    number = 0
    try:
        while True:
            try:
                line = orders.get(timeout=IDLE_S)
            except queue.Empty:
                window.tend()
                continue
            if line is None:
                return
            order = json.loads(line)
            if order["do"] == "show":
                number += 1
                window.show(frame, number, order["waits"])
            elif order["do"] == "read":
                frame[:] = window.levels()
            elif order["do"] == "end":
                window.dark()
                answer({"frame_id": number})
                return
            answer({"frame_id": number, "flips": window.flips})
    finally:
        del frame


def _read_lines(into: queue.SimpleQueue[str | None]) -> None:
    for line in sys.stdin:
        into.put(line)
    into.put(None)


def main() -> int:
    """Orders for the window are the program's one argument, as JSON."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")

    orders = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who then closes the window
    os.environ.update(ENVIRONMENT)
    if orders["x_display"]:
        os.environ |= {"DISPLAY": orders["x_display"], "SDL_VIDEODRIVER": "x11"}
    if orders["vsync"] == "off":
        # straight to the window system: SDL would draw each flip through OpenGL
        os.environ["SDL_FRAMEBUFFER_ACCELERATION"] = "0"
    try:
        sdl = import_module("pygame")
    except ImportError as error:
        answer({"missing": str(error)})
        return 1
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(lines,), daemon=True).start()
    with open(orders["shared"], "r+b") as file:
        shared = mmap.mmap(file.fileno(), 0)
    try:
        window = Window(sdl, orders)
    except WindowError as error:
        answer({"refused": str(error)})
        return 1
    except sdl.error as error:
        answer({"lost": str(error)})
        return 1
    answer(window.facts())
    serve(window, lines, answer, shared)
    window.dark()
    sdl.quit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
