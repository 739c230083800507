"""Records on disk, in their first form: one JSON file with the metadata, one npz with the arrays, per record.

A record's id is the sha256 of both, so that a file that changed is no longer that record. Records are never
changed or deleted; the newest of a kind for a device's serial number is the one in use.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labctl.devices import CalibrationMissing, CalibrationRecord, DataError

FORMAT = 1
NAME_LENGTH = 16


@dataclass(frozen=True)
class Stored:
    """A record, and the id that it has in its store."""

    id: str
    record: CalibrationRecord


class RecordStore:
    """The records in one folder; it is made when the first one is put into it."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def put(self, record: CalibrationRecord) -> str:
        """Keep a record, once; returns its id. DataError where it cannot be written."""
        arrays = io.BytesIO()
        np.savez(arrays, **record.arrays)  # type: ignore[arg-type]
        head = {
            "format": FORMAT,
            "kind": record.kind,
            "device_serial": record.device_serial,
            "taken_at": record.taken_at,
            "settings": dict(record.settings),
            "upstream": list(record.upstream),
            "arrays_sha256": _sha256(arrays.getvalue()),
        }
        text = json.dumps(head, indent=1, sort_keys=True).encode()
        name = _sha256(text)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path, data in ((self._arrays(name), arrays.getvalue()), (self._head(name), text)):
                part = path.with_name(path.name + ".part")
                part.write_bytes(data)
                os.replace(part, path)
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written: {error.strerror or error}") from None
        return name

    def get(self, name: str) -> Stored:
        """The record of an id. CalibrationMissing where it is not there, DataError where it was changed."""
        head = self._head(name)
        if not head.is_file():
            raise CalibrationMissing(f"{self.folder}: has no calibration record {name[:NAME_LENGTH]}")
        return self._read(head, name)

    def newest(self, kind: str, device_serial: str) -> Stored | None:
        """The record of a kind that was taken last for a device; None where there is none."""
        found = [
            stored
            for path in sorted(self.folder.glob("*.json"))
            if (stored := self._matching(path, kind, device_serial)) is not None
        ]
        return max(found, key=lambda stored: (stored.record.taken_at, stored.id), default=None)

    def _matching(self, path: Path, kind: str, device_serial: str) -> Stored | None:
        head = _json(path)
        if (head.get("kind"), head.get("device_serial")) != (kind, device_serial):
            return None
        return self._read(path, None)

    def _read(self, path: Path, wanted: str | None) -> Stored:
        head, name = _json(path), _sha256(path.read_bytes())
        if head.get("format") != FORMAT:
            raise DataError(f"{path}: format is {head.get('format')!r}; allowed: {FORMAT}")
        if wanted not in (None, name) or not name.startswith(path.stem):
            raise DataError(f"{path}: is not the record it was stored as: its sha256 is {name}")
        arrays = self.folder / f"{path.stem}.npz"
        try:
            data = arrays.read_bytes()
        except OSError as error:
            raise DataError(f"{arrays}: cannot be read: {error.strerror or error}") from None
        if _sha256(data) != head["arrays_sha256"]:
            raise DataError(f"{arrays}: is not what {path.name} says: the sha256 differs")
        with np.load(io.BytesIO(data)) as values:
            found = {name: np.asarray(values[name]) for name in values.files}
        record = CalibrationRecord(
            kind=head["kind"],
            device_serial=head["device_serial"],
            taken_at=head["taken_at"],
            arrays=found,
            settings=head["settings"],
            upstream=tuple(head["upstream"]),
        )
        return Stored(name, record)

    def _head(self, name: str) -> Path:
        return self.folder / f"{name[:NAME_LENGTH]}.json"

    def _arrays(self, name: str) -> Path:
        return self.folder / f"{name[:NAME_LENGTH]}.npz"


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: is not a calibration record: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is not a calibration record: it holds {type(content).__name__}")
    return content


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
