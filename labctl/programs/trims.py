"""Row errors of a machine, taken out of what it is given: leak, gain and offset of every row.

Asked: leak z = gain y + bias. The machine does: (leak_scale leak' + leak_offset) z = gain_scale gain' y +
bias' + offset. With ratio = (leak_scale leak' + leak_offset) / leak for the nearest leak code there is, the
same state comes of gain' = ratio gain / gain_scale and bias' = ratio bias - offset: an equation may be
multiplied through, and so the leak's rounding is taken out as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RowTrims:
    """Measured errors of the rows [n] (`labctl_calibration.closed_loop`).

    light_offset_units stands in front of the gain and is taken out by the offset null.
    """

    leak_scale: FloatArray
    leak_offset: FloatArray
    gain_scale: FloatArray
    offset_units: FloatArray
    light_offset_units: FloatArray

    def on(self, channels: NDArray[np.int64]) -> RowTrims:
        """The errors of `channels` [n], in that order."""
        return RowTrims(
            self.leak_scale[channels], self.leak_offset[channels], self.gain_scale[channels],
            self.offset_units[channels], self.light_offset_units[channels],
        )  # fmt: skip

    def leak_to_set(self, leak: FloatArray) -> FloatArray:
        """The leak [n] to ask for, in 0 .. 1."""
        return np.clip((leak - self.leak_offset) / self.leak_scale, 0.0, 1.0)

    def ratio(self, leak: FloatArray, leak_set: FloatArray) -> FloatArray:
        """What the row's equation is multiplied by [n]: the leak that comes of `leak_set` over that wanted.

        Rows without any leak keep 1: they are integrators, whose offset is all there is to trim.
        """
        return np.where(leak > 0, self.comes(leak_set) / np.where(leak > 0, leak, 1.0), 1.0)

    def comes(self, leak_set: FloatArray) -> FloatArray:
        """The leak [n] that acts where `leak_set` was given."""
        return np.asarray(self.leak_scale * leak_set + self.leak_offset)
