"""Dark levels of the detectors: what they read, and how it scatters, with every emitter off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Wiring
from labctl_calibration.probing import Probing

FloatArray = NDArray[np.float64]
REPEATS = 64


@dataclass(frozen=True, eq=False)
class Darks:
    """level_units and its standard error [n]; noise_units [n]: sd of one window. Photocurrent units, by read
    channel.
    """

    level_units: FloatArray
    error_units: FloatArray
    noise_units: FloatArray

    def by_row(self, wiring: Wiring) -> Darks:
        """The same by the panel's rows, as they subtract."""
        channels = wiring.channel_of_row
        return Darks(wiring.rows(self.level_units), self.error_units[channels], self.noise_units[channels])

    @property
    def found(self) -> str:
        """In words."""
        return (
            f"dark levels within {np.abs(self.level_units).max():.2g} units of zero, "
            f"noise {np.median(self.noise_units):.2g} units a window"
        )


def measure_darks(probing: Probing) -> Darks:
    """Probe with all emitters off, `REPEATS` windows; the frame on display does not matter."""
    seen = probing.probe(np.zeros((REPEATS, probing.spec.n_channels)))
    noise = seen.std(axis=0, ddof=1)
    return Darks(seen.mean(axis=0), noise / np.sqrt(REPEATS), noise)
