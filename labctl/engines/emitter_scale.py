"""Signed values on emitters that cannot go negative: a pedestal, and so many codes a unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError, DriveSpec

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class EmitterScale:
    """codes = pedestal_codes + unit_codes phi, both whole, so that phi = 0 and phi = +-1 are exact."""

    unit_codes: int
    pedestal_codes: int

    @classmethod
    def of(cls, spec: DriveSpec, pedestal_units: float) -> EmitterScale:
        """As bright as the drivers' limits allow with every channel at phi = 1."""
        if pedestal_units < 1:
            raise ConfigError(
                f"pedestal_units is {pedestal_units:g}; allowed: 1 or more: phi reaches -1, light has no sign"
            )
        most_ma = min(spec.max_channel_ma, spec.max_total_ma / spec.n_channels)
        unit = int(min(most_ma / spec.ma_per_code, spec.n_codes - 1) / (1 + pedestal_units))
        return cls(unit, int(unit * pedestal_units))

    def dimmed(self, share: float) -> EmitterScale:
        """The same pedestal in units, of less light a unit."""
        unit = int(self.unit_codes * share)
        return EmitterScale(unit, int(unit * self.pedestal_units))

    @property
    def pedestal_units(self) -> float:
        """The pedestal in units of phi."""
        return self.pedestal_codes / self.unit_codes

    def codes(self, phi: FloatArray) -> NDArray[np.int64]:
        """Emitter codes of phi in -1 .. 1, nearest."""
        return np.rint(self.pedestal_codes + self.unit_codes * phi).astype(np.int64)

    @property
    def rounding_units(self) -> float:
        """Standard deviation of phi by the codes' rounding: a step over sqrt(12)."""
        return float(1 / (self.unit_codes * np.sqrt(12)))
