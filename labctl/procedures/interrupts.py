"""Hold back Ctrl-C and termination for the moments in which they would do harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

_STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals that would raise here wait until the block is done, then act.

    A file is so never left in the middle of a write, nor a rig half closed. Signals without a Python handler
    (SIGTERM by default) keep their meaning. If the block itself raises, the signals are dropped: what they
    ask for, an end, is under way. Outside the main thread nothing happens: Python runs handlers there only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    held: dict[int, Handler] = {}
    try:
        for number in _STOPPING:
            handler = signal.getsignal(number)
            if callable(handler):
                held[number] = handler
                signal.signal(number, lambda got, _frame: waiting.append(got))
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    for number in waiting[:1]:
        signal.raise_signal(number)
