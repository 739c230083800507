"""Planes of mirrors that a panel repeats: what of each is in an exposure, whenever it begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PlaneSequence:
    """Transmittances [P, 2, n, n] shown in turn from since_us on, each for its duration_us [P].

    While the mirrors turn, at the beginning of each plane for blank_us, light is less by `dip`.
    """

    transmittances: FloatArray
    duration_us: FloatArray
    blank_us: float
    dip: float
    since_us: float

    @property
    def period_us(self) -> float:
        """Length of the sequence."""
        return float(self.duration_us.sum())

    def at(self, now_us: float) -> FloatArray:
        """Transmittances [2, n, n] of the moment."""
        within = np.mod(now_us - self.since_us, self.period_us)
        plane = int(np.searchsorted(np.cumsum(self.duration_us), within, side="right"))
        plane = min(plane, len(self.duration_us) - 1)
        begun = within - (self.duration_us[:plane].sum())
        return np.asarray(self.transmittances[plane] * (1 - self.dip if begun < self.blank_us else 1.0))

    def shares(self, begin_us: FloatArray, end_us: FloatArray) -> FloatArray:
        """Share of the time from begin to end [B] in which each plane gives its light [B, P]."""
        return (self._lit(end_us) - self._lit(begin_us)) / (end_us - begin_us)[:, None]

    def _lit(self, time_us: FloatArray) -> FloatArray:
        """Time that each plane has given light up to `time_us` [B, P]."""
        turns, within = np.divmod(time_us - self.since_us, self.period_us)
        first = np.cumsum(self.duration_us) - self.duration_us
        begun = np.clip(within[:, None] - first, 0.0, self.duration_us)
        lit = begun - self.dip * np.minimum(begun, self.blank_us)
        whole = self.duration_us - self.dip * np.minimum(self.duration_us, self.blank_us)
        return np.asarray(turns[:, None] * whole + lit)
