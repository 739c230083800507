"""One process per instrument: a lock on its address, whose refusal names the holder."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from labctl.devices import DeviceUnavailable
from labctl.holding import Held, Holding
from labctl_drivers.link.deadline import Deadline

FOLDER = "labctl-locks"  # in the system's folder for temporary files: the same for every user of a bench


class ResourceLock:
    """The right to talk to `address`, held until `release` or the end of the process, however it ends."""

    def __init__(self, address: str, *, device: str, folder: Path | None = None) -> None:
        self._address, self._device = address, device
        self._folder = folder or Path(tempfile.gettempdir()) / FOLDER
        name = file_name(address)
        self._path = self._folder / f"{name}.lock"
        self._holding = Holding(self._path, self._folder / f"{name}.json")

    def acquire(self, deadline: Deadline) -> None:
        """Take it; DeviceUnavailable, naming the holder, where another has it until the deadline."""
        try:
            if not self._folder.is_dir():
                self._folder.mkdir(parents=True, exist_ok=True)
                with suppress(OSError):  # another user's by now
                    # for every user of the bench; with the sticky bit, Linux (fs.protected_regular) would
                    # refuse them each other's files
                    self._folder.chmod(0o777)
            self._holding.acquire(deadline.left_s)
        except Held as held:
            raise self._refused(f"{self._address} is in use by {held}") from None
        except OSError as error:
            raise self._refused(f"{self._path} cannot be locked: {error.strerror or error}") from error

    def release(self) -> None:
        """Give it back; twice is harmless."""
        self._holding.release()

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
