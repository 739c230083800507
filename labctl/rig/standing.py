"""Whether a bench was brought up, by the records of its devices, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labctl_calibration.comparing import compare
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.rows_record import KIND as ROWS_KIND
from labctl_calibration.store import RecordStore, Stored


@dataclass(frozen=True)
class Standing:
    """The newest records of a bench's panel and electronics in a folder; None where there is none.

    measured_on: the panel's record that the rows rest on, where that is another and still there.
    """

    folder: str
    panel: Stored | None
    rows: Stored | None
    measured_on: Stored | None = None

    @classmethod
    def of(
        cls,
        store: RecordStore,
        find: Callable[[str, str], Stored | None],
        panel_serial: str,
        electronics_serial: str,
    ) -> Standing:
        """Look the two serial numbers up; `find` gives a kind's record of a device."""
        panel, rows = find(PANEL_KIND, panel_serial), find(ROWS_KIND, electronics_serial)
        below = () if rows is None else rows.record.upstream
        there = [store.get(name) for name in below if store.head_path(name).is_file()]
        measured_on = next((one for one in there if one.record.kind == PANEL_KIND), None)
        return cls(str(store.folder), panel, rows, measured_on)

    @property
    def pair(self) -> tuple[Stored, Stored] | None:
        """Panel and rows, the rows measured on that panel, or on one whose values agree with it within their
        uncertainty; None where a run has nothing to go by.
        """
        if self.panel is None or self.rows is None:
            return None
        if self.panel.id in self.rows.record.upstream:
            return self.panel, self.rows
        agree = self.measured_on is not None and compare(self.measured_on, self.panel).agrees
        return (self.panel, self.rows) if agree else None

    def words(self, *, compensated: bool = True) -> str:
        """When it was brought up, by which records, and what that means for runs."""
        if self.panel is None and self.rows is None:
            return f"not brought up: no records of it in {self.folder}; runs work by its design"
        if self.pair is None:
            return (
                f"the newest records in {self.folder} of panel and electronics do not belong together: runs "
                "work by the design until it is brought up again"
            )
        panel, rows = self.pair
        when = rows.record.taken_at.replace("T", " ").replace("+00:00", " UTC")
        ids = f"records {panel.id[:8]} and {rows.id[:8]} in {self.folder}"
        effect = "runs are compensated" if compensated else "not used: runs work by the design"
        return f"brought up {when}, {ids}: {effect}"
