"""Flicker of the frame on display, row by row.

A panel that is fully open says little of it: where cells retard light by half a wave, a change of the
retardance changes nothing, and in between each cell has a slope and a sign of its own. So what flicker does
to a row is asked of the very frame that is to run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import LoopElectronics
from labctl_calibration.series import find_lines

FloatArray = NDArray[np.floating]
WINDOWS = 4096  # of steady light: a spectrum down to 100 Hz at usual windows


@dataclass(frozen=True, eq=False)
class FrameFlicker:
    """frequency_hz [L]; amplitude [L, n], complex (rms is its magnitude / sqrt 2), of every row's
    photocurrent in units of a full-scale weight.
    """

    frequency_hz: FloatArray
    amplitude: NDArray[np.complex128]

    def at(self, time_us: FloatArray, turns: FloatArray) -> FloatArray:
        """Photocurrents [T, n] at times; every line is `turns` [L] of a period ahead."""
        phase = 2 * np.pi * (1e-6 * np.outer(time_us, self.frequency_hz) + turns)
        return np.asarray((np.exp(1j * phase) @ self.amplitude).real)


def measure_flicker(electronics: LoopElectronics, full_scale_units: float) -> FrameFlicker:
    """Lines in the light at phi = 0 of the frame on display, which is nulled; rows as the electronics have
    them.
    """
    seen = electronics.probe(np.zeros((WINDOWS, electronics.spec.n_channels), np.int64))
    units = seen.counts * electronics.spec.offset_dac.units_per_code / full_scale_units
    lines = find_lines(units, seen.duration_us)
    return FrameFlicker(lines.frequency_hz, lines.amplitude)
