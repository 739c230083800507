"""What of a store is no longer needed, and its removal: only when asked, and first as a list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labctl.devices import ConfigError, DataError
from labctl_calibration.store.files import Stored
from labctl_calibration.store.record_store import RAW_POLICIES, RawPolicy, RecordStore


@dataclass(frozen=True)
class Collection:
    """What would go: records, raw readings of records that stay, leftovers of writes that were cut short.

    kept: how many records stay. bytes: what all of it takes on the disk.
    """

    records: tuple[Stored, ...]
    raw: tuple[Stored, ...]
    leftovers: tuple[Path, ...]
    kept: int
    bytes: int


def collectable(store: RecordStore, *, referenced: Iterable[str] = (), raw: RawPolicy = "last") -> Collection:
    """What is neither in use, nor upstream of what is, nor `referenced` (ids), nor upstream of that; and raw
    readings: of all records ("none" stay), of all but those in use ("last" stay), or of none ("all" stay).
    """
    every = {one.id: one for one in store.all()}
    in_use = {one.id for one in store.in_use()}
    wanted = in_use | {name for name in every if any(_same(name, other) for other in referenced)}
    stays = upstream_of(store, wanted)
    gone = tuple(one for one in every.values() if one.id not in stays)
    spared = {"none": set[str](), "last": in_use, "all": stays}[raw]
    readings = tuple(
        one for one in every.values() if one.id in stays - spared and store.raw_path(one.id).is_file()
    )
    leftovers = tuple(sorted(store.folder.glob("*.part")))
    files = [path for one in gone for path in _files(store, one)]
    files += [store.raw_path(one.id) for one in readings] + list(leftovers)
    return Collection(gone, readings, leftovers, len(stays), sum(path.stat().st_size for path in files))


def raw_policy(word: str) -> RawPolicy:
    """The policy of that name; ConfigError for another word."""
    for policy in RAW_POLICIES:
        if word == policy:
            return policy
    raise ConfigError(f"raw is {word!r}; allowed: {', '.join(RAW_POLICIES)}")


def collect(store: RecordStore, what: Collection) -> None:
    """Remove it, what rests on others before those. DataError where a file cannot be removed."""
    with store.turn():
        paths = [path for one in reversed(what.records) for path in _files(store, one)]
        paths += [store.raw_path(one.id) for one in what.raw] + list(what.leftovers)
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise DataError(f"{path}: cannot be removed: {error.strerror or error}") from None


def upstream_of(store: RecordStore, names: Iterable[str]) -> set[str]:
    """These ids and all that they rest on, as far as the store has it."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found and store.head_path(name).is_file():
            found.add(name)
            waiting += store.get(name).record.upstream
    return found


def _files(store: RecordStore, one: Stored) -> list[Path]:
    """The head first: without it the others are no record."""
    paths = (store.head_path(one.id), store.arrays_path(one.id), store.raw_path(one.id))
    return [path for path in paths if path.is_file()]


def _same(name: str, other: str) -> bool:
    return bool(other) and name.startswith(other)
