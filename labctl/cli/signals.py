"""Ctrl-C, `kill` and a closed terminal all end a command in the same orderly way."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from labctl.cli.session import Session

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def orderly_stop(session: Session) -> Iterator[None]:
    """Turn the first stopping signal into KeyboardInterrupt, and note which it was.

    What follows is short (close the file, make the rig safe) and must not be cut off: further signals only
    say so. A stuck command can still be ended with SIGQUIT or SIGKILL.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        if session.stopped_by is not None:
            print("already stopping: closing the file and making the rig safe", file=sys.stderr)
            return
        session.stopped_by = number
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What was told to ignore a signal (nohup, a background job) goes on ignoring it.
    before = {n: handler for n in STOPPING if (handler := signal.getsignal(n)) is not signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
