"""What a fault changes where a unit has no constant for it; as built, nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
Levels = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Broken:
    """stuck: an emitter whose driver gives so many units whatever it is asked. frame: what a panel makes of levels
    [height, width]. passed [2, out, in]: share of each cell's light that comes through. detector_units [2, n]:
    current without light. noise [n]: factor on each row's own noise. adc_units: on every converter. stuck_bit:
    (row, bit, held at) of one converter. early_us: read so long before it should be. warmer_c: of all.
    """

    stuck: tuple[int, float] | None = None
    frame: Callable[[Levels], Levels] | None = None
    passed: FloatArray | None = None
    detector_units: FloatArray | None = None
    noise: FloatArray | None = None
    adc_units: float = 0.0
    stuck_bit: tuple[int, int, int] | None = None
    early_us: float = 0.0
    warmer_c: float = 0.0

    def read(self, states: FloatArray, unit: float, top: int) -> FloatArray:
        """Counts [..., n] of states [..., n], not yet clipped."""
        counts = np.rint((states + np.float32(self.adc_units)) / np.float32(unit))
        if self.stuck_bit is not None:
            row, bit, held = self.stuck_bit
            offset_binary = np.clip(counts[..., row], -top, top).astype(np.int64) + top + 1
            kept = offset_binary | (1 << bit) if held else offset_binary & ~(1 << bit)
            counts[..., row] = kept - top - 1
        return np.asarray(counts)
