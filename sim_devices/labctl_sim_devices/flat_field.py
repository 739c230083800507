"""Twin of an integrating sphere where the image would be: even light for a camera on the same bench."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.devices import DeviceUnavailable, FlatField, FlatFieldSpec, Identity, Scalar
from labctl_sim_devices.bench import OpticalBench

MOST_PHOTONS_PER_US = 2000.0  # [A] fills a well of 32,000 electrons in some 20 us
PHOTONS_ERROR = 0.01  # [A] of a calibrated photodiode
UNEVENNESS = 1e-3  # [A] data sheet of a sphere; the twin's light is even


class FlatFieldTwin(FlatField):
    """Adds its light to every exposure of the bench's cameras, exactly as set."""

    def __init__(self, name: str, bench: OpticalBench) -> None:
        super().__init__(name)
        self._bench = bench

    @property
    def spec(self) -> FlatFieldSpec:
        """As the twin's data sheet says."""
        return FlatFieldSpec(MOST_PHOTONS_PER_US, PHOTONS_ERROR, UNEVENNESS)

    def _do_open(self) -> Identity:
        self._require_bench("open")
        serial = f"SIM-FLAT-{self._bench.serial}"
        return Identity("labctl", "simulated flat field", serial, "1", simulated=True)

    def _do_close(self) -> None:
        if self._bench.present:  # safe state: dark
            self._bench.flat_photons_per_us = 0.0

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._require_bench("snapshot")
        return {"photons_per_us": self._bench.flat_photons_per_us}

    def _do_set_photons_per_us(self, photons_per_us: float) -> None:
        self._require_bench("set_photons_per_us")
        self._bench.flat_photons_per_us = photons_per_us

    def _do_photons_per_us(self) -> float:
        self._require_bench("photons_per_us")
        return self._bench.flat_photons_per_us

    def _require_bench(self, operation: str) -> None:
        if not self._bench.present:
            raise DeviceUnavailable("the bench has disappeared", device=self.name, operation=operation)
