"""Twin of a micromirror device: frames of mirrors that are on or off, weights as area patterns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError, ModulatorSpec, ShowReceipt
from labctl.devices.weight_modulator import LevelArray, frame_checksum
from labctl_sim_devices.bench import OpticalBench
from labctl_sim_devices.panel import PanelTwin

FloatArray = NDArray[np.float64]
MAX_PLANES = 24  # [A] of the pattern memory


class DmdTwin(PanelTwin):
    """A panel of two levels whose light dips while the mirrors are reset (term `mirror_resets`).

    A cell's weight is the share of its mirrors that are on; of a sequence of planes, the mean over it. Needs
    a profile whose panel_kind is "dmd"; ConfigError otherwise.
    """

    KIND = "dmd"
    MODEL = ("simulated micromirror device", "SIM-DMD")

    def __init__(self, name: str, bench: OpticalBench) -> None:
        super().__init__(name, bench)
        self._sequence_us = 0.0
        if bench.profile.panel_levels != 2:
            raise ConfigError(f"{name}: panel_levels is {bench.profile.panel_levels}; a mirror has 2")

    @property
    def spec(self) -> ModulatorSpec:
        """As the twin's data sheet says: a plane lasts a period of the binary pattern rate or longer."""
        unit, spec = self._bench.unit, super().spec
        resets = unit.has("mirror_resets")
        return replace(
            spec,
            repeat_us=float(unit.settings["reset_period_us"]) if resets else 0.0,
            max_planes=MAX_PLANES,
            min_plane_us=1e6 / spec.refresh_hz,
            blank_us=float(unit.settings["reset_us"]) if resets else 0.0,
        )

    def _do_show_sequence(self, planes: LevelArray, durations_us: FloatArray, wait: bool) -> ShowReceipt:
        self._require_bench("show_sequence")
        self._frame = planes.reshape(-1, planes.shape[2]).copy()
        self._frame_id += 1
        bench = self._bench
        bench.frames_shown += 1
        on = np.average(planes.reshape(len(planes), -1).mean(axis=1), weights=durations_us)
        bench.damage.compare(self.name, bench.now_us, {"mirror_duty": float(on)}, part="mirrors")
        bench.optics.sequence_begun(planes, durations_us, self.spec.blank_us, bench.now_us)
        self._sequence_us = float(durations_us.sum())
        duration_us = len(planes) * bench.profile.panel_settle_us if wait else 0.0
        bench.advance(duration_us)
        return ShowReceipt(self._frame_id, frame_checksum(self._frame), True, wait, duration_us)

    def _display(self, levels: LevelArray) -> None:
        self._sequence_us = 0.0
        duty = {"mirror_duty": float(np.mean(levels))}
        self._bench.damage.compare(self.name, self._bench.now_us, duty, part="mirrors")
        super()._display(levels)

    def _do_close(self) -> None:
        if self._bench.present:
            self._display(np.zeros(self._bench.profile.panel_shape_px, np.uint16))

    def _do_repeat_us(self) -> float:
        self._require_bench("repeat_us")
        return self._sequence_us or self.spec.repeat_us

    @property
    def duty(self) -> float:
        """Share of the time that light is steady: outside the mirrors' resets."""
        settings = self._bench.unit.settings
        if not self._bench.unit.has("mirror_resets"):
            return 1.0
        return 1.0 - float(settings["reset_us"]) / float(settings["reset_period_us"])
