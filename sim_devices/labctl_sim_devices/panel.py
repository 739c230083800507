"""Twin of a panel: LCOS, and the common part of any modulator that shows frames on the bench."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from labctl.devices import (
    ConfigError,
    DeviceUnavailable,
    Identity,
    ModulatorSpec,
    Scalar,
    ShowReceipt,
    WeightModulator,
)
from labctl.devices.weight_modulator import LevelArray, frame_checksum
from labctl_sim_devices.bench import OpticalBench


class PanelTwin(WeightModulator):
    """Shows a frame on the bench; the optics see that frame and nothing else.

    Needs a profile whose panel_kind is this twin's; ConfigError otherwise.
    """

    KIND: ClassVar[Literal["lcos-intensity", "lcos-phase", "dmd"]] = "lcos-intensity"
    MODEL: ClassVar[tuple[str, str]] = ("simulated LCOS panel", "SIM-LCOS")

    def __init__(self, name: str, bench: OpticalBench) -> None:
        super().__init__(name)
        if bench.profile.panel_kind != self.KIND:
            raise ConfigError(
                f"{name}: the profile's panel_kind is {bench.profile.panel_kind!r}; allowed: {self.KIND!r}"
            )
        self._bench = bench
        self._frame: LevelArray = np.zeros(bench.profile.panel_shape_px, np.uint16)
        self._frame_id = 0

    @property
    def spec(self) -> ModulatorSpec:
        """As the twin's data sheet says."""
        p = self._bench.profile
        return ModulatorSpec(
            p.panel_shape_px, p.panel_levels, p.panel_settle_us, p.panel_refresh_hz, self.KIND
        )

    def _do_open(self) -> Identity:
        self._require_bench("open")
        model, serial = self.MODEL
        return Identity("labctl", model, f"{serial}-{self._bench.serial}", "1", simulated=True)

    def _do_close(self) -> None:
        if self._bench.present:  # safe state: dark
            self._display(np.zeros_like(self._frame))

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._require_bench("snapshot")
        return {"frame_id": self._frame_id, "frame_crc32": frame_checksum(self._frame)}

    def _do_show(self, levels: LevelArray, wait: bool) -> ShowReceipt:
        self._require_bench("show")
        self._display(levels)
        duration_us = self._bench.profile.panel_settle_us if wait else 0.0
        self._bench.advance(duration_us)
        return ShowReceipt(self._frame_id, frame_checksum(self._frame), True, wait, duration_us)

    def _do_shown(self) -> LevelArray:
        self._require_bench("shown")
        return self._frame.copy()

    def _display(self, levels: LevelArray) -> None:
        self._frame = levels.copy()
        self._frame_id += 1
        self._bench.frames_shown += 1
        self._bench.optics.frame_changed(self._frame, self._bench.now_us)

    def _require_bench(self, operation: str) -> None:
        if not self._bench.present:
            raise DeviceUnavailable("the bench has disappeared", device=self.name, operation=operation)
