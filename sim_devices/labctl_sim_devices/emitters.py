"""Twin of the emitter drivers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceUnavailable, DriveReceipt, DriveSpec, Identity, InputDrive, Scalar
from labctl_sim_devices.bench import OpticalBench


class EmitterTwin(InputDrive):
    """Turns codes into currents; the bench's emitters turn those into light. Drive in units of phi = 1."""

    def __init__(self, name: str, bench: OpticalBench) -> None:
        super().__init__(name)
        self._bench = bench
        self._last_ma = np.zeros(bench.profile.n_channels)

    @property
    def spec(self) -> DriveSpec:
        """As the twin's data sheet says."""
        p = self._bench.profile
        return DriveSpec(
            p.n_channels, p.emitter_codes, p.emitter_max_channel_ma, p.emitter_max_channel_ma,
            p.emitter_max_total_ma,
        )  # fmt: skip

    def _do_open(self) -> Identity:
        self._require_bench("open")
        serial = f"SIM-LED-{self._bench.serial}"
        return Identity("labctl", "simulated emitters", serial, "1", simulated=True)

    def _do_close(self) -> None:
        if self._bench.present:  # safe state: all off
            self._emit(np.zeros((1, self._bench.profile.n_channels)))

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._require_bench("snapshot")
        return {"total_current_ma": float(self._last_ma.sum()), "temperature_c": self._do_temperature_c()}

    def _do_drive(self, codes: NDArray[np.int64]) -> DriveReceipt:
        self._require_bench("drive")
        current_ma = codes.astype(np.float64) * self.spec.ma_per_code
        self._emit(current_ma)
        self._bench.strain(self.name, self._bench.emitted_units)
        mean = self._bench.emitted_units.mean(axis=0)
        self._bench.spend(len(codes) / self._bench.profile.sample_rate_mhz, mean)
        return DriveReceipt(current_ma)

    def _do_temperature_c(self) -> float:
        self._require_bench("temperature_c")
        return self._bench.temperature_c()

    def _emit(self, current_ma: NDArray[np.float64]) -> None:
        self._last_ma = current_ma[-1]
        self._bench.emitted_units = current_ma / self._bench.profile.emitter_ma_per_unit

    def _require_bench(self, operation: str) -> None:
        if not self._bench.present:
            raise DeviceUnavailable("the bench has disappeared", device=self.name, operation=operation)
