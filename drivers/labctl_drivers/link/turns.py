"""One exchange at a time on an instrument; the rest queue in the order in which they came.

The work is done in the caller's own thread, in its turn: a thread of the instrument's own would cost two
switches a question, more than the question itself on a fast wire. An exchange that Ctrl-C cuts leaves the
wire marked as in doubt, and the next one puts it in order first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from labctl_drivers.link.wire_errors import WireTimeout

T = TypeVar("T")
GRACE_S = 0.5  # for a library that comes back a little late


class Stuck(WireTimeout):
    """A library does not come back from a call, whatever deadline it was given."""


class Turns:
    """Who may talk to an instrument now. A thread whose turn it is may come again (a signal handler does)."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._holder: int | None = None  # thread
        self._waiting: deque[tuple[int, threading.Lock]] = deque()  # closed gates, opened in turn
        self._what = ""
        self._over_by_s = 0.0  # when everything that came until now should be over

    def do(self, what: str, work: Callable[[], T], limit_s: float) -> T:
        """Run `work` after all that came before it; return or raise what it does.

        limit_s: how long it may take, once begun, by its own deadlines. Raises Stuck where what is before it
        overruns its own.
        """
        me = threading.get_ident()
        if self._holder == me:
            return work()
        try:
            self._take(me, limit_s)
            self._what = what
            return work()
        finally:
            self._pass_on(me)

    def _take(self, me: int, limit_s: float) -> None:
        with self._guard:
            now_s = time.monotonic()
            before_s = max(now_s, self._over_by_s)
            self._over_by_s = before_s + limit_s
            if self._holder is None:
                self._holder = me
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append((me, gate))
        if not gate.acquire(timeout=before_s - now_s + GRACE_S):
            raise Stuck(f"a library has not come back from {self._what!r}")

    def _pass_on(self, me: int) -> None:
        """Give the turn to the next, or leave the queue."""
        with self._guard:
            if self._holder != me:
                self._waiting = deque(entry for entry in self._waiting if entry[0] != me)
            elif self._waiting:
                self._holder, gate = self._waiting.popleft()
                gate.release()
            else:
                self._holder, self._over_by_s = None, 0.0
