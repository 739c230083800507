"""A source of even light in front of a camera: what photon transfer by the whole standard needs."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

from labctl.devices.device import Device
from labctl.devices.errors import DeviceValueError


@dataclass(frozen=True)
class FlatFieldSpec:
    """The most light, photons a microsecond on each pixel; how well that is known (relative, k = 1), and how
    far the light is from even over the sensor (rms share).
    """

    max_photons_per_us: float
    photons_error: float
    unevenness: float


class FlatField(Device):
    """Lights a camera's sensor evenly and steadily: an integrating sphere where the image would be."""

    safe_stage = "light"

    @property
    @abstractmethod
    def spec(self) -> FlatFieldSpec:
        """How bright, how well known, how even."""

    def set_photons_per_us(self, photons_per_us: float) -> None:
        """Light on each pixel; 0 is off. Raises DeviceValueError outside 0 .. `spec.max_photons_per_us`."""
        self._require_open("set_photons_per_us")
        highest = self.spec.max_photons_per_us
        if not (math.isfinite(photons_per_us) and 0 <= photons_per_us <= highest):
            raise DeviceValueError(
                f"photons_per_us is {photons_per_us}; allowed: 0 to {highest:g}",
                device=self.name, operation="set_photons_per_us",
            )  # fmt: skip
        self._do_set_photons_per_us(float(photons_per_us))

    @property
    def photons_per_us(self) -> float:
        """What is set, as read back."""
        self._require_open("photons_per_us")
        return self._do_photons_per_us()

    @abstractmethod
    def _do_set_photons_per_us(self, photons_per_us: float) -> None: ...

    @abstractmethod
    def _do_photons_per_us(self) -> float: ...
