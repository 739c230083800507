"""An X server without hardware (Xvfb), and eyes on its one screen: pixels as they are displayed."""

from __future__ import annotations

import os
import select
import subprocess
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceUnavailable

START_S = 20.0


class VirtualScreen:
    """A screen [height, width] of 24 bits on a display number of its own, black where nothing is shown.

    Needs Xvfb and mss: DeviceUnavailable, in the name of `device`, says which is missing.
    """

    def __init__(self, shape_px: tuple[int, int], *, device: str) -> None:
        self.shape_px = shape_px
        self._device = device
        self._server: subprocess.Popen[bytes] | None = None
        self._eyes: Any = None
        self.display = ""

    @property
    def runs(self) -> bool:
        """Whether it is there."""
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        """Start the server on the first free display number; it ends with its last client: with us."""
        height, width = self.shape_px
        receiving, sending = os.pipe()
        try:
            self._server = subprocess.Popen(
                [
                    "Xvfb", "-displayfd", str(sending), "-screen", "0", f"{width}x{height}x24",
                    "-br", "-terminate", "-nolisten", "tcp",
                ],
                pass_fds=(sending,), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            os.close(receiving)
            raise self._unavailable("Xvfb is missing (Debian: package xvfb)") from None
        finally:
            os.close(sending)
        with os.fdopen(receiving, "rb", buffering=0) as told:
            ready, _, _ = select.select([told], [], [], START_S)
            number = told.readline().decode().strip() if ready else ""
        if not number:
            self.stop()
            raise self._unavailable(f"Xvfb gave no display within {START_S:g} s")
        self.display = f":{number}"
        try:
            self._eyes = import_module("mss").MSS(display=self.display)
        except ImportError:
            self.stop()
            raise self._unavailable("mss is missing; install analog-labctl[wires]") from None

    def stop(self) -> None:
        """End the server; twice is harmless."""
        eyes, self._eyes = self._eyes, None
        server, self._server = self._server, None
        if eyes is not None:
            with suppress(Exception):  # a server that has gone does not say goodbye
                eyes.close()
        if server is not None:
            server.terminate()
            server.wait()

    def pixels(self) -> NDArray[np.uint8]:
        """Colours on display now [height, width, 3]: red, green, blue."""
        if self._eyes is None:
            raise self._unavailable("the screen is gone: its X server does not run")
        shot = self._eyes.grab(self._eyes.monitors[0])
        colours = np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)
        return colours[:, :, 2::-1]

    def _unavailable(self, message: str) -> DeviceUnavailable:
        return DeviceUnavailable(message, device=self._device, operation="start")
