"""One process at a time: a lock file, and beside it who holds it, for whoever is refused."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout


class Held(Exception):
    """Another process has it; the text says which: "process 12 (labctl run ...) since ..."."""


class Holding:
    """The right to what `lock_file` stands for, until `release` or the end of the process, however it ends.

    `holder_file` says who has it. The lock holds without that file.
    """

    def __init__(self, lock_file: Path, holder_file: Path) -> None:
        self._path, self._holder = lock_file, holder_file
        self._lock: FileLock | None = None

    def acquire(self, timeout_s: float) -> None:
        """Take it. Held, naming the holder, where another has it so long; OSError where there can be no lock
        file.
        """
        lock = FileLock(self._path, mode=0o666, thread_local=False, poll_interval=0.02)
        try:
            lock.acquire(timeout=timeout_s)
        except Timeout:
            raise Held(self._words()) from None
        self._lock = lock
        self._write_holder()

    def release(self) -> None:
        """Give it back; twice is harmless."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(OSError):
                self._holder.unlink(missing_ok=True)
            lock.release()

    def _write_holder(self) -> None:
        about = {
            "pid": os.getpid(),
            "command": " ".join(sys.orig_argv),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        fresh = self._holder.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            fresh.write_text(json.dumps(about), encoding="utf-8")
            fresh.replace(self._holder)

    def _words(self) -> str:
        try:
            about = json.loads(self._holder.read_text(encoding="utf-8"))
            return f"process {about['pid']} ({about['command']}) since {about['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return f"another process (its name is not in {self._holder})"
