"""A serial line on this machine: a pseudo-terminal at the pace of a baud rate, whose cable can be pulled."""

from __future__ import annotations

import os
import select
import tempfile
import threading
import time
import tty
from contextlib import suppress
from pathlib import Path

PIECE_S = 0.002  # bytes of so much time on the line travel together
FREE_PIECE = 4096  # bytes, where there is no pace
LATE_S = 0.02
FULL_S = 1.0  # nobody takes what was sent for so long: it is lost, as on a wire


class _Pace:
    """One direction of the line: ten bits a byte."""

    def __init__(self, baud: int | None) -> None:
        self._byte_s = 0.0 if baud is None else 10 / baud
        self.piece = FREE_PIECE if baud is None else max(1, int(PIECE_S * baud / 10))
        self._free_at_s = 0.0

    def pass_through(self, n_bytes: int, *, behind: bool) -> None:
        """Wait until so many bytes have gone over the line. `behind`: directly after those before, so that
        a thread that woke up late (by up to LATE_S) makes the line no slower.
        """
        if self._byte_s:
            now_s = time.monotonic()
            begin_s = max(now_s - LATE_S if behind else now_s, self._free_at_s)
            self._free_at_s = begin_s + n_bytes * self._byte_s
            time.sleep(max(0.0, self._free_at_s - now_s))


class PtyLine:
    """The device's end of the line. `address` is a link that stays the same when the cable is plugged again.

    baud: pace of the line (None: as fast as the machine). Both ends are raw.
    """

    def __init__(self, baud: int | None = None) -> None:
        self._in, self._out = _Pace(baud), _Pace(baud)
        self._more_in = False  # bytes waited already when the last ones had come over
        self._folder = tempfile.TemporaryDirectory(prefix="labctl-line-")
        self.address = str(Path(self._folder.name) / "port")
        self._ends: tuple[int, int] | None = None
        self._wake_read, self._wake_write = os.pipe()
        self._guard = threading.Lock()
        self.plug()

    def plug(self) -> None:
        """Put the cable in: a fresh pseudo-terminal at the same address."""
        device_end, host_end = os.openpty()
        for end in (device_end, host_end):
            tty.setraw(end)
        os.set_blocking(device_end, False)
        fresh = self.address + ".fresh"
        os.symlink(os.ttyname(host_end), fresh)
        os.replace(fresh, self.address)
        # the host's end is kept open too, so that a host that leaves does not end the line
        self._ends = (device_end, host_end)
        self.wake()

    def unplug(self) -> None:
        """Pull the cable: the host's next byte fails. Twice is harmless."""
        with self._guard:
            ends, self._ends = self._ends, None
        if ends is not None:
            self.wake()  # who waits for bytes of this cable must look again
            with suppress(OSError):
                os.unlink(self.address)
            for end in ends:
                os.close(end)

    def read(self, timeout_s: float | None) -> bytes:
        """What the host sent, at the line's pace; b"" after timeout_s, a `wake` or without a cable."""
        ends = self._ends
        watched = [self._wake_read] if ends is None else [self._wake_read, ends[0]]
        try:
            ready, _, _ = select.select(watched, [], [], timeout_s)
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            if ends is None or ends[0] not in ready:
                return b""
            data = os.read(ends[0], self._in.piece)
        except OSError:  # pulled meanwhile
            return b""
        self._in.pass_through(len(data), behind=self._more_in)
        # asked before the host can have an answer to these: what it sends after one is not directly behind
        self._more_in = False
        with suppress(OSError):
            self._more_in = bool(select.select([ends[0]], [], [], 0)[0])
        return data

    def write(self, data: bytes) -> None:
        """Send to the host at the line's pace; lost where nobody takes it or the cable is out."""
        for at in range(0, len(data), self._out.piece):
            piece = data[at : at + self._out.piece]
            self._out.pass_through(len(piece), behind=at > 0)
            if not self._put(piece):
                return

    def _put(self, piece: bytes) -> bool:
        while piece:
            ends = self._ends
            if ends is None:
                return False
            try:
                _, ready, _ = select.select([], [ends[0]], [], FULL_S)
                if not ready:
                    return False
                piece = piece[os.write(ends[0], piece) :]
            except BlockingIOError:
                continue
            except OSError:
                return False
        return True

    def wake(self) -> None:
        """Let a `read` that waits return."""
        os.write(self._wake_write, b"\0")

    def close(self) -> None:
        """End the line for good."""
        self.unplug()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._folder.cleanup()
