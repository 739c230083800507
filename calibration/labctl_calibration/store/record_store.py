"""The records in a folder. A record's id is the sha256 of what it says, so that a file that changed is no
longer that record. Records are never changed; the newest of a kind for a device's serial number is in use.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationMissing, CalibrationRecord, DataError
from labctl.holding import Held, Holding
from labctl_calibration.store.about import About
from labctl_calibration.store.files import (
    NAME_LENGTH,
    Files,
    Stored,
    head_of,
    parsed,
    require_format,
    sha256,
    written,
)

RawPolicy = Literal["none", "last", "all"]
RAW_POLICIES: tuple[RawPolicy, ...] = get_args(RawPolicy)
TURN_S = 30.0  # a write takes milliseconds: who waits so long waits for something that hangs
DRIFT = "drift.jsonl"
NETWORK = "compensated-"  # what the name of an adapted network begins with


@dataclass(frozen=True)
class DriftEvent:
    """A watch saw a device leave what a record says: of which kind, when (ISO 8601), in words."""

    kind: str
    device_serial: str
    at: str
    words: str


class RecordStore:
    """The records in one folder; it is made when the first one is put into it."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    # -- in ---------------------------------------------------------------------------------------------

    def put(
        self,
        record: CalibrationRecord,
        about: About | None = None,
        raw: Mapping[str, NDArray[Any]] | None = None,
        *,
        keep_raw: RawPolicy = "none",
    ) -> str:
        """Keep a record, once; returns its id. Raw readings are written unless `keep_raw` is "none" (those of
        older records go by `collecting` alone); their hash is in the record in any case.

        DataError where it cannot be written, and for a record older than one that it rests on.
        """
        for name in record.upstream:
            below = self._read_if_there(name)
            if below is not None and below.record.taken_at > record.taken_at:
                raise DataError(
                    f"{record.kind}: taken at {record.taken_at}, before what it rests on ("
                    f"{below.record.kind} {below.name}, {below.record.taken_at}): was the "
                    "clock set back? allowed: later"
                )
        files = written(record, about or About(), raw or {})
        with self.turn():
            self.write(files if keep_raw != "none" else Files(files.id, files.head, files.arrays, None))
        return files.id

    def write(self, files: Files) -> None:
        """A record's files, each whole or not there at all, the head last. Within a `turn`."""
        try:
            for path, data in (
                (self.arrays_path(files.id), files.arrays),
                (self.raw_path(files.id), files.raw),
                (self.head_path(files.id), files.head),
            ):
                if data is not None and not path.is_file():
                    _write_whole(path, data)
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written: {error.strerror or error}") from None

    @contextmanager
    def turn(self, timeout_s: float = TURN_S, *, what: str = "") -> Iterator[None]:
        """The right to write, one process at a time; `what`: a right of another name. DataError, naming the
        holder, where another has it so long.
        """
        stem = f".{what or 'writing'}"
        holding = Holding(self.folder / f"{stem}.lock", self.folder / f"{stem}.holder")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            holding.acquire(timeout_s)
        except Held as held:
            raise DataError(f"{self.folder}: in use by {held}; allowed: one at a time") from None
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written: {error.strerror or error}") from None
        try:
            yield
        finally:
            holding.release()

    def note_drift(self, event: DriftEvent) -> None:
        """Keep what a watch saw: the record of that kind and device is stale from then on."""
        line = json.dumps(vars(event), sort_keys=True) + "\n"
        with self.turn():
            try:
                with (self.folder / DRIFT).open("a", encoding="utf-8") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise DataError(f"{self.folder}: cannot be written: {error.strerror or error}") from None

    # -- out --------------------------------------------------------------------------------------------

    def get(self, name: str) -> Stored:
        """The record of an id, or of the one id that begins so. CalibrationMissing where it is not there,
        DataError where it was changed or where several begin so.
        """
        head = self.head_path(name)
        if len(name) < NAME_LENGTH:
            begin = sorted(self.folder.glob(f"{name}*.json")) if name.isalnum() else []
            if len(begin) > 1:
                raise DataError(
                    f"{self.folder}: {len(begin)} records begin with {name!r}: "
                    f"{', '.join(path.stem for path in begin)}; allowed: enough letters for one"
                )
            head = begin[0] if begin else head
        if not head.is_file():
            raise CalibrationMissing(f"{self.folder}: has no calibration record {name[:NAME_LENGTH]}")
        return self._read(head, name if len(name) > NAME_LENGTH else None)

    def newest(self, kind: str, device_serial: str) -> Stored | None:
        """The record of a kind that was taken last for a device; None where there is none."""
        found = [
            stored
            for path in self._heads()
            if (stored := self._matching(path, kind, device_serial)) is not None
        ]
        return max(found, key=_age, default=None)

    def all(self) -> tuple[Stored, ...]:
        """Every record, oldest first."""
        return tuple(sorted((self._read(path, None) for path in self._heads()), key=_age))

    def in_use(self) -> tuple[Stored, ...]:
        """The newest of every kind and device, oldest first."""
        newest = {(one.record.kind, one.record.device_serial): one for one in self.all()}
        return tuple(sorted(newest.values(), key=_age))

    def raw(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Raw readings of a record; None where they are not kept. DataError where they were changed."""
        stored = self.get(name)
        path = self.raw_path(stored.id)
        if not path.is_file():
            return None
        data = path.read_bytes()
        if sha256(data) != stored.about.raw_sha256:
            raise DataError(f"{path}: is not what its record says: the sha256 differs")
        with np.load(io.BytesIO(data)) as values:
            return {key: np.asarray(values[key]) for key in values.files}

    def drift_events(self) -> tuple[DriftEvent, ...]:
        """What watches saw, in order. DataError, naming the line, for what is none."""
        path = self.folder / DRIFT
        if not path.is_file():
            return ()
        found = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                found.append(DriftEvent(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}: line {number} is no event: {error}") from None
        return tuple(found)

    # -- files ------------------------------------------------------------------------------------------

    def head_path(self, name: str) -> Path:
        """Of a record's metadata."""
        return self.folder / f"{name[:NAME_LENGTH]}.json"

    def arrays_path(self, name: str) -> Path:
        """Of its arrays."""
        return self.folder / f"{name[:NAME_LENGTH]}.npz"

    def raw_path(self, name: str) -> Path:
        """Of its raw readings."""
        return self.folder / f"{name[:NAME_LENGTH]}.raw.npz"

    def _heads(self) -> list[Path]:
        """Cards of adapted networks lie here too, and are no records."""
        return sorted(path for path in self.folder.glob("*.json") if not path.name.startswith(NETWORK))

    def _matching(self, path: Path, kind: str, device_serial: str) -> Stored | None:
        head = head_of(_bytes(path), path)
        if (head.get("kind"), head.get("device_serial")) != (kind, device_serial):
            return None
        return self._read(path, None)

    def _read_if_there(self, name: str) -> Stored | None:
        head = self.head_path(name)
        return self._read(head, name) if name and head.is_file() else None

    def _read(self, path: Path, wanted: str | None) -> Stored:
        text = _bytes(path)
        head, name = head_of(text, path), sha256(text)
        require_format(head, path)
        if wanted not in (None, name) or not name.startswith(path.stem):
            raise DataError(f"{path}: is not the record it was stored as: its sha256 is {name}")
        arrays = self.arrays_path(path.stem)
        try:
            data = arrays.read_bytes()
        except OSError as error:
            raise DataError(f"{arrays}: cannot be read: {error.strerror or error}") from None
        if sha256(data) != head.get("arrays_sha256"):
            raise DataError(f"{arrays}: is not what {path.name} says: the sha256 differs")
        return parsed(name, head, data, path)


def _age(stored: Stored) -> tuple[str, str]:
    return stored.record.taken_at, stored.id


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: is not a calibration record: {error.strerror or error}") from None


def _write_whole(path: Path, data: bytes) -> None:
    """Under its name only once it is on the disk."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    with suppress(OSError):  # not every system lets a folder be synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
