"""Whether a record may be used, and if not, why: reasons as data, each with its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from labctl.devices import Identity, Scalar
from labctl_calibration.comparing import compare
from labctl_calibration.store import RecordStore, Stored

Why = Literal[
    "missing", "age", "upstream", "identity", "firmware", "settings", "drift", "acceptance", "clock"
]
CLOCK_S = 60.0  # two computers' clocks may differ by so much


@dataclass(frozen=True)
class Reason:
    """One reason for which a record is not in order."""

    why: Why
    words: str


@dataclass(frozen=True)
class Standing:
    """A kind of record of a device: the newest one (None: there is none), reasons against it, and notes: what
    was looked at and makes no difference.
    """

    kind: str
    device_serial: str
    stored: Stored | None
    reasons: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    age: timedelta | None = None

    @property
    def in_order(self) -> bool:
        """Whether it can be used as it is."""
        return not self.reasons

    def because_of(self, *why: Why) -> bool:
        """Whether one of these is among the reasons."""
        return any(reason.why in why for reason in self.reasons)

    @property
    def words(self) -> str:
        """All reasons, or that it is in order."""
        return "; ".join((*(reason.words for reason in self.reasons), *self.notes)) or "in order"


def explain(
    store: RecordStore,
    kind: str,
    identity: Identity,
    now: datetime,
    settings: Mapping[str, Scalar] | None = None,
    *,
    needs: tuple[str, ...] = (),
) -> Standing:
    """How the record of a kind of a device stands.

    settings: what it would be taken with now; those that the record states too are compared. needs: kinds
    that it has to rest on. `now` is aware of its time zone. DataError for a store that is not what it was.
    """
    stored = store.newest(kind, identity.serial)
    if stored is None:
        return Standing(kind, identity.serial, None, (_missing(store, kind, identity),))
    when = taken(stored)
    age = None if when is None else now - when
    reasons: list[Reason] = []
    notes: list[str] = []
    if age is not None and age < timedelta(seconds=-CLOCK_S):
        reasons.append(
            Reason(
                "clock",
                f"taken {in_words(-age)} from now: was the clock set back? ({stored.record.taken_at})",
            )
        )
    elif age is not None and age.total_seconds() > stored.about.valid_s:
        valid = in_words(timedelta(seconds=stored.about.valid_s))
        reasons.append(Reason("age", f"{in_words(age)} old; valid for {valid}"))
    reasons += _of_device(stored, identity)
    reasons += _of_settings(stored, settings or {})
    for name in stored.record.upstream:
        against, note = _of_upstream(store, stored, name)
        reasons += against
        notes += note
    rests_on = _kinds(store, stored)
    for need in needs:
        if need not in rests_on:
            reasons.append(Reason("upstream", f"rests on no record of {need}"))
    for event in store.drift_events():
        same = (event.kind, event.device_serial) == (kind, identity.serial)
        seen = _time(event.at)
        if same and (when is None or seen is None or seen > when):
            reasons.append(Reason("drift", f"drifted since, seen {event.at}: {event.words}"))
    for quantity in stored.about.quantities:
        if not quantity.accepted:
            value = f"{quantity.value:.4g} {quantity.unit}".strip()
            reasons.append(Reason("acceptance", f"{quantity.name} is {value}; allowed: {quantity.allowed}"))
    return Standing(kind, identity.serial, stored, tuple(reasons), tuple(notes), age)


def taken(stored: Stored) -> datetime | None:
    """When a record was taken; None where it is from a data sheet."""
    return _time(stored.record.taken_at)


def in_words(span: timedelta) -> str:
    """A length of time, as people say it."""
    seconds = span.total_seconds()
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _missing(store: RecordStore, kind: str, identity: Identity) -> Reason:
    for other in reversed(store.all()):
        known = other.about.identity
        if other.record.kind != kind or known is None:
            continue
        if (known.vendor, known.model) == (identity.vendor, identity.model):
            return Reason(
                "identity",
                f"there is one of {known.model} {known.serial}, and {identity.serial} is here: "
                "another device",
            )
    return Reason("missing", "never measured")


def _of_device(stored: Stored, identity: Identity) -> list[Reason]:
    then = stored.about.identity
    if then is None:
        return []
    found = []
    if (then.vendor, then.model) != (identity.vendor, identity.model):
        was, now = f"{then.vendor} {then.model}", f"{identity.vendor} {identity.model}"
        found.append(Reason("identity", f"taken of {was}; {now} is here"))
    if then.firmware != identity.firmware:
        found.append(
            Reason("firmware", f"taken with firmware {then.firmware!r}; it is {identity.firmware!r} now")
        )
    return found


def _of_settings(stored: Stored, settings: Mapping[str, Scalar]) -> list[Reason]:
    then = stored.record.settings
    return [
        Reason("settings", f"taken with {key} = {then[key]!r}; it is {value!r} now")
        for key, value in settings.items()
        if key in then and then[key] != value
    ]


def _of_upstream(store: RecordStore, stored: Stored, name: str) -> tuple[list[Reason], list[str]]:
    if not store.head_path(name).is_file():
        return [Reason("upstream", f"rests on record {name[:8]}, which is not in the store")], []
    old = store.get(name)
    new = store.newest(old.record.kind, old.record.device_serial)
    if new is None or new.id == old.id:
        return [], []
    compared = compare(old, new)
    if compared.agrees:
        return [], [f"{old.record.kind} is newer ({new.name}), and {compared.words}"]
    return [Reason("upstream", f"{old.record.kind} is newer ({new.name}), {compared.words}")], []


def _kinds(store: RecordStore, stored: Stored) -> set[str]:
    names = [name for name in stored.record.upstream if store.head_path(name).is_file()]
    return {store.get(name).record.kind for name in names}


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
