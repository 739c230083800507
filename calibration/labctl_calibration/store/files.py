"""A record as files: NAME.json, readable, NAME.npz with the arrays, and NAME.raw.npz where raw readings are.

NAME is the beginning of the id, the sha256 of the JSON file, which has the sha256 of the others in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, ConfigError, DataError
from labctl_calibration.store.about import About, as_json, from_json

FORMATS = (1, 2)  # 1: the arrays, and no word about identity, uncertainty or validity
NAME_LENGTH = 16
RESIDUAL = "residual/"  # before the name of an array of residuals in the npz file


@dataclass(frozen=True, eq=False)
class Stored:
    """A record, the id that it has in its store, and what else it says."""

    id: str
    record: CalibrationRecord
    about: About

    @property
    def name(self) -> str:
        """The id as people write it."""
        return self.id[:8]


@dataclass(frozen=True)
class Files:
    """A record's id and its files' bytes; raw None where there is none."""

    id: str
    head: bytes
    arrays: bytes
    raw: bytes | None


def written(record: CalibrationRecord, about: About, raw: Mapping[str, NDArray[Any]]) -> Files:
    """A record as files. ConfigError for an array's name that files cannot hold."""
    for name in (*record.arrays, *about.residuals, *raw):
        if "/" in name or not name or name == "file":
            raise ConfigError(
                f'{record.kind}: an array is called {name!r}; allowed: a name without "/", not "file"'
            )
    arrays = _npz({**record.arrays, **{RESIDUAL + name: v for name, v in about.residuals.items()}})
    readings = _npz(raw) if raw else None
    head = {
        "format": FORMATS[-1],
        "kind": record.kind,
        "device_serial": record.device_serial,
        "taken_at": record.taken_at,
        "settings": dict(record.settings),
        "upstream": list(record.upstream),
        "arrays_sha256": sha256(arrays),
        "about": as_json(replace(about, raw_sha256="" if readings is None else sha256(readings))),
    }
    text = json.dumps(head, indent=1, sort_keys=True).encode()
    return Files(sha256(text), text, arrays, readings)


def head_of(data: bytes, where: object) -> dict[str, Any]:
    """A head's content; DataError, naming it as `where`, for what is none."""
    try:
        content = json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise DataError(f"{where}: is not a calibration record: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{where}: is not a calibration record: it holds {type(content).__name__}")
    return content


def require_format(head: Mapping[str, Any], where: object) -> None:
    """DataError for a format that this version does not know."""
    if head.get("format") not in FORMATS:
        raise DataError(f"{where}: format is {head.get('format')!r}; allowed: {', '.join(map(str, FORMATS))}")


def parsed(name: str, head: Mapping[str, Any], arrays: bytes, where: Path) -> Stored:
    """A record from its head and its arrays' file; DataError, naming `where`, where they do not fit."""
    try:
        with np.load(io.BytesIO(arrays)) as values:
            found = {key: np.asarray(values[key]) for key in values.files}
        residuals = {k.removeprefix(RESIDUAL): v for k, v in found.items() if k.startswith(RESIDUAL)}
        about = About() if head["format"] == 1 else from_json(head["about"], residuals)
        record = CalibrationRecord(
            kind=head["kind"],
            device_serial=head["device_serial"],
            taken_at=head["taken_at"],
            arrays={key: v for key, v in found.items() if not key.startswith(RESIDUAL)},
            settings=head["settings"],
            upstream=tuple(head["upstream"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{where}: is not a calibration record: {error!r}") from None
    return Stored(name, record, about)


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
