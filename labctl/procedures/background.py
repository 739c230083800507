"""Steps are written on a thread of their own while the next one settles; done means safe in the file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Self

from labctl.procedures.interrupts import uninterrupted
from labctl.runlog import PanelWriter, StepRecord

SWITCH_INTERVAL_S = 1e-4  # the writer must not hold up the next settle for Python's usual 5 ms
HEAD_START_S = 1e-3  # what the host needs to start the next settle; the writer stays out of its way so long


class BackgroundLog:
    """Appends the steps of one panel in order, at most one in flight; nothing else may touch the file then.

    `step(record, done)` waits for the step before, so an error of the disk surfaces one step late; `done` is
    called on the caller's thread once its record is flushed. Leaving the context waits for the last one.
    """

    def __init__(self, log: PanelWriter) -> None:
        self._log = log
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="run log")
        self._pending: tuple[Future[int], Callable[[], None]] | None = None
        self._interval_s = sys.getswitchinterval()
        self._waited_for = Event()

    def step(self, record: StepRecord, done: Callable[[], None]) -> None:
        """Hand over one step."""
        self.wait()
        self._waited_for.clear()
        self._pending = (self._pool.submit(self._write, record), done)

    def wait(self) -> None:
        """Return once every step handed over is safe in the file. Raises what its writing raised."""
        if self._pending is not None:
            future, done = self._pending
            self._waited_for.set()
            future.result()
            self._pending = None
            done()

    def _write(self, record: StepRecord) -> int:
        self._waited_for.wait(HEAD_START_S)
        return self._log.step(record)

    def __enter__(self) -> Self:
        self._interval_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            with uninterrupted():
                self._pool.shutdown(wait=True)
            sys.setswitchinterval(self._interval_s)
