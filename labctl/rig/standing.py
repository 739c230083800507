"""Whether a bench was brought up, by the records of its devices, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.rows_record import KIND as ROWS_KIND
from labctl_calibration.store import Stored


@dataclass(frozen=True)
class Standing:
    """The newest records of a bench's panel and electronics in a folder; None where there is none."""

    folder: str
    panel: Stored | None
    rows: Stored | None

    @classmethod
    def of(
        cls,
        folder: Path,
        find: Callable[[str, str], Stored | None],
        panel_serial: str,
        electronics_serial: str,
    ) -> Standing:
        """Look the two serial numbers up; `find` gives a kind's record of a device."""
        return cls(str(folder), find(PANEL_KIND, panel_serial), find(ROWS_KIND, electronics_serial))

    @property
    def pair(self) -> tuple[Stored, Stored] | None:
        """Panel and rows, the rows measured on that panel; None where a run has nothing to go by."""
        if self.panel is None or self.rows is None or self.rows.record.upstream != (self.panel.id,):
            return None
        return self.panel, self.rows

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
