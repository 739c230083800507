"""Where each channel of loop electronics stands at the panel: cables, polarities, mounting.

The loop's channels keep the electronics' order and polarity. What is made for the panel (frames, probes that
measure it) is in the panel's order: columns from the left of each half, rows from the top, the left half
positive. This is where the two meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Wiring:
    """Of channel c: column [n] of the panel that its drive lights, row [n] that it sees; drive_sign [n]: -1
    where phi arrives inverted, read_sign [n]: -1 where light through the left half reads negative.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ("cell_column", "cell_row", "drive_sign", "read_sign")

    column: IntArray
    row: IntArray
    drive_sign: FloatArray
    read_sign: FloatArray

    @classmethod
    def straight(cls, n: int) -> Wiring:
        """Each channel at its own place."""
        return cls(np.arange(n), np.arange(n), np.ones(n), np.ones(n))

    @property
    def n_channels(self) -> int:
        """Channels."""
        return len(self.column)

    @property
    def channel_of_column(self) -> IntArray:
        """[n]: which drive channel lights column k."""
        return np.argsort(self.column)

    @property
    def channel_of_row(self) -> IntArray:
        """[n]: which read channel sees row k."""
        return np.argsort(self.row)

    def drives(self, by_column: FloatArray, *, at_phi: bool) -> FloatArray:
        """Drives [B, n] of the columns as the channels are to give them."""
        by_channel = by_column[:, self.column]
        return np.asarray(by_channel * self.drive_sign if at_phi else by_channel)

    def rows(self, by_channel: FloatArray) -> FloatArray:
        """What the channels read [..., n], by row, positive where the left half is brighter."""
        return np.asarray((by_channel * self.read_sign)[..., self.channel_of_row])

    def cells(self, weights: FloatArray) -> FloatArray:
        """Weights [n, n] of the loop (read channel, drive channel) as signed light of the panel's cells."""
        signed = self.read_sign[:, None] * weights * self.drive_sign
        return np.asarray(signed[np.ix_(self.channel_of_row, self.channel_of_column)])

    def weights(self, cells: FloatArray) -> FloatArray:
        """The inverse of `cells`."""
        return np.asarray(cells[np.ix_(self.row, self.column)] * self.read_sign[:, None] * self.drive_sign)

    def arrays(self) -> dict[str, FloatArray]:
        """As a panel's record holds it."""
        values = (
            self.column.astype(np.float64),
            self.row.astype(np.float64),
            self.drive_sign,
            self.read_sign,
        )
        return dict(zip(self.ARRAYS, values, strict=True))

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Wiring | None:
        """Of a record's arrays; None where they say nothing of it."""
        if "cell_column" not in arrays:
            return None
        column, row, drive_sign, read_sign = (np.asarray(arrays[name]) for name in cls.ARRAYS)
        return cls(column.astype(np.int64), row.astype(np.int64), drive_sign, read_sign)
