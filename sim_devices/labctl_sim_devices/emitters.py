"""Twin of the emitter drivers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceUnavailable, DriveReceipt, DriveSpec, Hold, Identity, InputDrive, Scalar
from labctl_sim_devices.bench import OpticalBench
from labctl_sim_devices.shutter import Triggers


class EmitterTwin(InputDrive):
    """Turns codes into currents; the bench's emitters turn those into light. Drive in units of phi = 1."""

    def __init__(self, name: str, bench: OpticalBench) -> None:
        super().__init__(name)
        self._bench = bench
        self._last_ma = np.zeros(bench.profile.n_channels)
        self._queues, self._driven_frame = 0, -1

    @property
    def spec(self) -> DriveSpec:
        """As the twin's data sheet says."""
        p = self._bench.profile
        return DriveSpec(
            p.n_channels, p.emitter_codes, p.emitter_max_channel_ma, p.emitter_max_channel_ma,
            p.emitter_max_total_ma, p.max_hold_us,
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

    def _do_drive(
        self, codes: NDArray[np.int64], hold: Hold | None, step_id: int, sample_id: NDArray[np.int64] | None
    ) -> DriveReceipt:
        self._require_bench("drive")
        bench = self._bench
        current_ma = codes.astype(np.float64) * self.spec.ma_per_code
        self._emit(current_ma)
        bench.strain(self.name, bench.emitted_units)
        spacing_us = 1 / bench.profile.sample_rate_mhz
        if hold is not None:
            spacing_us = max(spacing_us, hold.hold_us, hold.period_us)
            self._image(spacing_us, step_id, sample_id)
        bench.spend(len(codes) * spacing_us, bench.emitted_units.mean(axis=0))
        return DriveReceipt(current_ma)

    def _image(self, spacing_us: float, step_id: int, sample_id: NDArray[np.int64] | None) -> None:
        """Each pattern of the queue triggers a camera and is on until the next; the last one stays on."""
        bench, count = self._bench, len(self._bench.emitted_units)
        times_us = bench.now_us + np.arange(count) * spacing_us
        if sample_id is not None:
            triggers = Triggers(times_us, "drive", sample_id, step_id)
        else:  # draws count from the frame: same program, same record
            if self._driven_frame != bench.frames_shown:
                self._queues, self._driven_frame = 0, bench.frames_shown
            triggers = Triggers(times_us, "patterns", np.arange(count), self._queues)
            self._queues += 1
        light = bench.light_of(bench.emitted_units)
        bench.image(self.name, triggers, light, spacing_us, light[-1])

    def _do_temperature_c(self) -> float:
        self._require_bench("temperature_c")
        return self._bench.temperature_c()

    def _emit(self, current_ma: NDArray[np.float64]) -> None:
        self._last_ma = current_ma[-1]
        cables = self._bench.cables
        at_emitters = current_ma if cables is None else cables.to_emitters(current_ma)
        self._bench.emitted_units = at_emitters / self._bench.profile.emitter_ma_per_unit

    def _require_bench(self, operation: str) -> None:
        if not self._bench.present:
            raise DeviceUnavailable("the bench has disappeared", device=self.name, operation=operation)
