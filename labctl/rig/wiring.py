"""`[wiring]` of a rig file: where each channel of the loop electronics stands at the panel."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from labctl.devices import Wiring

Flip = Literal["none", "rows", "columns", "both"]


class WiringConfig(BaseModel):
    """Which cell each channel has, as `labctl commission` finds it, or a person writes it down.

    `drive`: the column of the panel, from the left of each half, that drive channel 0, 1, ... lights; `read`:
    the row, from the top, that read channel 0, 1, ... sees; empty: each its own. `panel_flip`: counted on a
    panel that is turned over top to bottom ("rows"), left to right ("columns") or both. `halves_exchanged`:
    the right half is the positive one. `inverted_drive`, `inverted_read`: channels whose phi arrives inverted
    and whose two detectors are exchanged. `dead`: drive channels that give no light; their columns stand as
    what was left over.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    drive: tuple[int, ...] = ()
    read: tuple[int, ...] = ()
    inverted_drive: tuple[int, ...] = ()
    inverted_read: tuple[int, ...] = ()
    dead: tuple[int, ...] = ()
    panel_flip: Flip = "none"
    halves_exchanged: bool = Field(default=False)

    def check(self, n: int) -> None:
        """ValueError, naming the field, for what is no wiring of n channels."""
        for name in ("drive", "read"):
            places = getattr(self, name)
            if places and sorted(places) != list(range(n)):
                wrong = next((v for v in places if not 0 <= v < n or places.count(v) > 1), None)
                what = f"has {len(places)} places" if wrong is None else f"has {wrong}"
                what += " twice" if wrong is not None and places.count(wrong) > 1 else ""
                raise ValueError(f"wiring.{name} {what}; allowed: each of 0 to {n - 1} once, or nothing")
        for name in ("inverted_drive", "inverted_read", "dead"):
            channels = getattr(self, name)
            for value in channels:
                if not 0 <= value < n or channels.count(value) > 1:
                    raise ValueError(
                        f"wiring.{name} has {value}{' twice' if channels.count(value) > 1 else ''}; allowed: "
                        f"channels 0 to {n - 1}, each once"
                    )

    def resolved(self, n: int) -> Wiring:
        """As programs and calibration use it: by the panel's own pixels."""
        column, row = (np.array(v or range(n), np.int64) for v in (self.drive, self.read))
        signs = np.ones((2, n))
        for sign, inverted in zip(signs, (self.inverted_drive, self.inverted_read), strict=True):
            sign[list(inverted)] = -1.0
        return Wiring(
            column=n - 1 - column if self.panel_flip in ("columns", "both") else column,
            row=n - 1 - row if self.panel_flip in ("rows", "both") else row,
            drive_sign=signs[0],
            read_sign=-signs[1] if self.halves_exchanged else signs[1],
        )

    @classmethod
    def of(cls, wiring: Wiring, dead: tuple[int, ...] = ()) -> WiringConfig:
        """The same, told as simply as it can be: a panel turned over rather than all cables in reverse."""
        n = wiring.n_channels
        row, column = wiring.row, wiring.column
        turned = _reversed(row), _reversed(column)
        flips: dict[tuple[bool, bool], Flip] = {
            (False, False): "none", (True, False): "rows", (False, True): "columns", (True, True): "both",
        }  # fmt: skip
        exchanged = bool((wiring.read_sign < 0).mean() > 0.5)
        read_sign = -wiring.read_sign if exchanged else wiring.read_sign
        return cls(
            drive=tuple(int(v) for v in (n - 1 - column if turned[1] else column)),
            read=tuple(int(v) for v in (n - 1 - row if turned[0] else row)),
            inverted_drive=tuple(int(v) for v in np.flatnonzero(wiring.drive_sign < 0)),
            inverted_read=tuple(int(v) for v in np.flatnonzero(read_sign < 0)),
            dead=dead,
            panel_flip=flips[turned],
            halves_exchanged=exchanged,
        )


def _reversed(place: np.ndarray) -> bool:
    """Whether places [n] are nearer to counting down than to counting up."""
    steps = np.arange(len(place))
    return bool(np.abs(len(place) - 1 - place - steps).sum() < np.abs(place - steps).sum())
