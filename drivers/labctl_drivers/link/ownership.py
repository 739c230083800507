"""One process per instrument: a lock on its address, whose refusal names the holder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from labctl.devices import DeviceUnavailable
from labctl_drivers.link.deadline import Deadline

FOLDER = "labctl-locks"  # in the system's folder for temporary files: the same for every user of a bench


class ResourceLock:
    """The right to talk to `address`, held until `release` or the end of the process, however it ends."""

    def __init__(self, address: str, *, device: str, folder: Path | None = None) -> None:
        self._address, self._device = address, device
        self._folder = folder or Path(tempfile.gettempdir()) / FOLDER
        name = file_name(address)
        self._holder = self._folder / f"{name}.json"
        self._path = self._folder / f"{name}.lock"
        self._lock: FileLock | None = None

    def acquire(self, deadline: Deadline) -> None:
        """Take it; DeviceUnavailable, naming the holder, where another has it until the deadline."""
        try:
            if not self._folder.is_dir():
                self._folder.mkdir(parents=True, exist_ok=True)
                with suppress(OSError):  # another user's by now
                    # for every user of the bench; with the sticky bit, Linux (fs.protected_regular) would
                    # refuse them each other's files
                    self._folder.chmod(0o777)
            lock = FileLock(self._path, mode=0o666, thread_local=False, poll_interval=0.02)
            lock.acquire(timeout=deadline.left_s)
        except Timeout:
            raise self._refused(f"{self._address} is in use by {self._words()}") from None
        except OSError as error:
            raise self._refused(f"{self._path} cannot be locked: {error.strerror or error}") from error
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
        """For whoever is refused; the lock holds without it."""
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

    def _refused(self, message: str) -> DeviceUnavailable:
        return DeviceUnavailable(message, device=self._device, operation="open")


def file_name(address: str) -> str:
    """A file name for an address, the same for a device file and the links to it."""
    place = re.search(r"/dev/\S+?(?=::|$)", address)
    if place is None:
        plain = address.strip().casefold()  # VISA resource names are read without regard to case
    else:
        plain = address.strip().replace(place[0], os.path.realpath(place[0]))
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", plain)[:60].strip("-")
    return f"{readable}-{hashlib.sha256(plain.encode()).hexdigest()[:12]}"
