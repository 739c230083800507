"""One HDF5 file that is being written: every failed write becomes one clear RunLogError."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike

from labctl.devices import RunLogError


class WritableFile:
    """An open HDF5 file with its path; after a failed write it is closed and refuses any further one."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self.hdf5 = file
        self.broken = False
        self.closed = False

    @contextmanager
    def writing(self, what: str, steps_safe: int | None = None) -> Iterator[None]:
        """Turn a failed write into one RunLogError that says what is safe."""
        if self.closed:
            why = "an earlier write failed" if self.broken else "the run is closed"
            raise RunLogError(f"{self.path}: {why}; {what} cannot be written")
        try:
            yield
        except (OSError, RuntimeError) as error:
            self._detach()
            safe = "the steps" if steps_safe is None else f"{steps_safe} step{'s' * (steps_safe != 1)}"
            raise RunLogError(
                f"{self.path}: writing {what} failed: {reason_of(error)}; {safe} reported done before can be "
                "read from this file"
            ) from error

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self.hdf5.flush()

    def check_shape(self, what: str, values: ArrayLike, expected: Sequence[int]) -> None:
        """RunLogError where an array does not have the planned shape."""
        shape = np.shape(values)
        if shape != tuple(expected):
            raise RunLogError(f"{self.path}: {what} has shape {shape}; planned was {tuple(expected)}")

    def close(self) -> None:
        """Close a sound file."""
        self.hdf5.close()
        self.closed = True

    def _detach(self) -> None:
        """Close after a failed write, leaving the file on disk as its last flush left it.

        HDF5 would try to write what it still holds once more, now and again when the process ends, and fail
        or crash; so its descriptor is pointed at the null device first.
        """
        self.broken = self.closed = True
        with suppress(OSError, RuntimeError):
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self.hdf5.id.get_vfd_handle())
            os.close(null)
            self.hdf5.close()


def publish(part: Path, final: Path) -> None:
    """Give a whole .part its final name, never over another file."""
    with part.open("rb") as whole:
        os.fsync(whole.fileno())
    try:
        os.link(part, final)  # unlike a rename, refuses to replace
    except FileExistsError as error:
        raise RunLogError(f"{final}: appeared during the run; the whole run is in {part}") from error
    except OSError:  # a file system without hard links
        if final.exists():
            raise RunLogError(f"{final}: appeared during the run; the whole run is in {part}") from None
        part.rename(final)
        return
    part.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; RunLogError where it cannot be made or written in."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunLogError(f"{folder}: cannot be made: {reason_of(error)}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunLogError(f"{folder}: no permission to write a run file there")


def check_room(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise RunLogError(
            f"{folder}: {free / 1e6:.1f} MB free, but the run may need {needed_bytes / 1e6:.1f} MB"
        )


def reason_of(error: BaseException) -> str:
    """The system's own words for a failed write, without HDF5's stack of functions."""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"errno = (\d+)", text)):
        number = int(found[1])
    if number:
        return f"disk full ({os.strerror(number)})" if number == errno.ENOSPC else os.strerror(number)
    return text.splitlines()[0] if text else type(error).__name__
