"""The window's process as its owner sees it: started, asked, ended."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from labctl_drivers.display import window
from labctl_drivers.link import Deadline, WireGarbled, WireLog, WireLost, WireTimeout

END_S = 1.0  # for the process to end after its last answer


class WindowWire:
    """A window on a screen, in a process of its own; orders and answers are lines of JSON."""

    def __init__(self, orders: dict[str, Any], log: WireLog, deadline: Deadline) -> None:
        self._log = log
        self._answers: SimpleQueue[str | None] = SimpleQueue()
        self._said = "nothing"
        self.shape = orders["height_px"], orders["width_px"]
        frame_px = self.shape[0] * self.shape[1]
        number, path = tempfile.mkstemp(prefix="labctl-frame-")
        try:
            os.ftruncate(number, frame_px)
            self._shared = mmap.mmap(number, frame_px)
            self._process = subprocess.Popen(
                [sys.executable, window.__file__, json.dumps({**orders, "shared": path})],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
            )  # fmt: skip
            for pipe, keep in ((self._process.stdout, self._heard), (self._process.stderr, self._noted)):
                threading.Thread(target=_listen, args=(pipe, keep), daemon=True).start()
            self.facts = self.answer(deadline)
        except WireTimeout:
            self.close()
            raise WireLost(f"no window within {deadline.total_s:g} s") from None
        except BaseException:
            self.close()
            raise
        finally:
            os.close(number)
            with suppress(OSError):  # both have it open by now
                Path(path).unlink()
        if "lost" in self.facts:
            self.close()
            raise WireLost(self.facts["lost"])

    def ask(self, deadline: Deadline, **order: Any) -> dict[str, Any]:
        """Give an order, wait for its answer."""
        self.send(**order)
        return self.answer(deadline)

    def send(self, **order: Any) -> None:
        """Give an order."""
        line = json.dumps(order) + "\n"
        self._log.sent(line.encode())
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(line)
                self._process.stdin.flush()
        except (OSError, ValueError):
            raise WireLost(f"the window has gone; its last words: {self._said}") from None

    def answer(self, deadline: Deadline) -> dict[str, Any]:
        """The answer to the order that was sent."""
        try:
            line = self._answers.get(timeout=max(deadline.left_s, 1e-3))
        except Empty:
            raise WireTimeout(f"the window gave no answer within {deadline.total_s:g} s") from None
        if line is None:
            raise WireLost(f"the window has gone; its last words: {self._said}")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise WireGarbled(f"the window answered {line!r}")
        return answer

    def put_frame(self, levels: NDArray[np.uint16]) -> None:
        """Levels [height, width] for the next order, as 8 bits."""
        np.copyto(np.frombuffer(self._shared, np.uint8), levels.reshape(-1), casting="unsafe")

    def frame(self) -> NDArray[np.uint16]:
        """Levels [height, width] that the last order read back."""
        return np.frombuffer(self._shared, np.uint8).astype(np.uint16).reshape(self.shape)

    def close(self) -> None:
        """End the process, whatever it does."""
        process = getattr(self, "_process", None)
        if process is None:
            return
        with suppress(OSError, ValueError):
            process.stdin.close()  # its orders end: it goes dark
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            with suppress(OSError):
                pipe.close()

    def _heard(self, line: str | None) -> None:
        if line is not None:
            self._log.received(line.encode())
        self._answers.put(line)

    def _noted(self, line: str | None) -> None:
        if line is not None and line.strip():
            self._said = line.strip()


def _listen(pipe: IO[str] | None, keep: Callable[[str | None], None]) -> None:
    with suppress(OSError, ValueError):  # closed at the end, while we listen
        for line in pipe or ():
            keep(line)
    keep(None)
