"""Whether the records that a rig works by may be trusted, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from labctl_calibration.optical.loop_procedures import ANSWERS
from labctl_calibration.staleness import Reason, explain
from labctl_calibration.store import RecordStore, Stored

from labctl.devices import Identity

RECORDS = "records"  # what an override names to run all the same


@dataclass(frozen=True)
class Trust:
    """wrong: values out of their range, known answers that were missed: no run without a person's reason.
    stale: older than they are valid for, another firmware, drifted: worth a warning.
    """

    wrong: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, store: RecordStore, used: Iterable[Stored], identities: Mapping[str, Identity], now: datetime
    ) -> Trust:
        """Of the records in use, by the identities of their devices by serial number; and of the known
        answers that were asked of them, where there are any.
        """
        wrong, stale = list[str](), list[str]()
        looked_at = list(used)
        answers = (_answers(store, one) for one in looked_at)
        for stored in (*looked_at, *(one for one in answers if one is not None)):
            record = stored.record
            named = f"{record.kind} {stored.name}"
            for reason in _reasons(store, stored, identities.get(record.device_serial), now):
                (wrong if reason.why == "acceptance" else stale).append(f"{named}: {reason.words}")
        return cls(tuple(wrong), tuple(stale))


def _reasons(
    store: RecordStore, stored: Stored, identity: Identity | None, now: datetime
) -> tuple[Reason, ...]:
    """Against a record; of one that is not the newest, and was asked for, only what it says itself."""
    if identity is not None:
        standing = explain(store, stored.record.kind, identity, now)
        if standing.stored is not None and standing.stored.id == stored.id:
            return standing.reasons
    return tuple(
        Reason(
            "acceptance", f"{one.name} is {one.value:.4g} {one.unit}".rstrip() + f"; allowed: {one.allowed}"
        )
        for one in stored.about.quantities
        if not one.accepted
    )


def _answers(store: RecordStore, rows: Stored) -> Stored | None:
    """The newest known answers asked of this record; None where nobody did."""
    found = store.newest(ANSWERS, rows.record.device_serial)
    return found if found is not None and rows.id in found.record.upstream else None
