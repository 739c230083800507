"""Records to take elsewhere: one zip file, whose content is checked when it comes back in."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from labctl.devices import DataError
from labctl_calibration.store.collecting import upstream_of
from labctl_calibration.store.files import NAME_LENGTH, Files, Stored, head_of, parsed, require_format, sha256
from labctl_calibration.store.record_store import RecordStore

_HEAD = re.compile(rf"[0-9a-f]{{{NAME_LENGTH}}}\.json")


def export_records(store: RecordStore, names: Iterable[str], file: Path) -> tuple[Stored, ...]:
    """Write these records, and all that they rest on, into a new zip file; returns them, oldest first.

    DataError where the file is there already or cannot be written, or where a record is not what it was.
    """
    wanted = upstream_of(store, names)
    records = tuple(one for one in store.all() if one.id in wanted)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    if file.exists():
        raise DataError(f"{file}: is there already; allowed: a new file")
    try:
        with zipfile.ZipFile(part, "x", zipfile.ZIP_DEFLATED) as archive:
            for one in records:
                for path in (store.head_path(one.id), store.arrays_path(one.id), store.raw_path(one.id)):
                    if path.is_file():
                        archive.write(path, path.name)
        part.replace(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return records


def import_records(store: RecordStore, file: Path, serials: Collection[str] | None) -> tuple[Stored, ...]:
    """Read a zip file of records into a store; returns those that were not there yet. All of them or none.

    serials: of the rig that the store is for; None lets any through. DataError for a file that is no such
    archive, content that is not what its hashes say, or a record of a device that is not among them.
    """
    found = _read(file)
    for _, stored in found:
        if serials is not None and stored.record.device_serial not in serials:
            raise DataError(
                f"{file}: {stored.record.kind} {stored.name} is of {stored.record.device_serial}"
                f"{f' of rig {stored.about.rig}' if stored.about.rig else ''}; allowed: devices of this rig, "
                f"{', '.join(sorted(serials)) or 'which has none'}, or to be told that it is another's"
            )
    fresh = [(files, stored) for files, stored in found if not store.head_path(stored.id).is_file()]
    if fresh:
        with store.turn():
            for files, _ in fresh:
                store.write(files)
    return tuple(stored for _, stored in fresh)


def _read(file: Path) -> list[tuple[Files, Stored]]:
    try:
        with zipfile.ZipFile(file) as archive:
            content = {info.filename: archive.read(info) for info in archive.infolist()}
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, NotImplementedError) as error:
        raise DataError(f"{file}: is no archive of records: {error}") from None
    heads = [name for name in content if _HEAD.fullmatch(name)]
    known = {name for head in heads for name in _names(head)}
    for name in content:
        if name not in known:
            raise DataError(f"{file}: holds {name!r}; allowed: records alone")
    found = [_one(file, head, content) for head in heads]
    return sorted(found, key=lambda one: (one[1].record.taken_at, one[1].id))


def _one(file: Path, head_name: str, content: dict[str, bytes]) -> tuple[Files, Stored]:
    where = file / head_name
    text, (_, arrays_name, raw_name) = content[head_name], _names(head_name)
    head, name = head_of(text, where), sha256(text)
    require_format(head, where)
    about: Any = head.get("about") or {}
    wanted = {"json": (name.startswith(head_name.removesuffix(".json")), head_name)}
    arrays, raw = content.get(arrays_name), content.get(raw_name)
    wanted["npz"] = (arrays is not None and sha256(arrays) == head.get("arrays_sha256"), arrays_name)
    if raw is not None:
        wanted["raw"] = (isinstance(about, dict) and sha256(raw) == about.get("raw_sha256"), raw_name)
    for right, which in wanted.values():
        if not right:
            raise DataError(f"{file}: {which} is missing or is not what its record says: the sha256 differs")
    files = Files(name, text, arrays or b"", raw)
    return files, parsed(name, head, files.arrays, where)


def _names(head: str) -> tuple[str, str, str]:
    stem = head.removesuffix(".json")
    return head, f"{stem}.npz", f"{stem}.raw.npz"
