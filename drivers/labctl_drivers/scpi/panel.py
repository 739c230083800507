"""A modulator behind a controller that takes frames as SCPI blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ModulatorSpec, ShowReceipt, WeightModulator
from labctl.devices.weight_modulator import LevelArray
from labctl.devices.wire.scpi_records import Levels, PanelDescription, Planes
from labctl_drivers.scpi.sealed import Sealed, as_block


class ScpiPanel(Sealed, WeightModulator):
    """Speaks `labctl.devices.wire.scpi_commands.PANEL`."""

    KIND = "panel"
    DESCRIPTION = PanelDescription

    @property
    def spec(self) -> ModulatorSpec:
        """As the instrument says."""
        spec: ModulatorSpec = self._description().spec
        return spec

    def _do_show(self, levels: LevelArray, wait: bool) -> ShowReceipt:
        asked = b"PAN:SHOW? %d,%b" % (wait, as_block(Levels(levels)))
        return self._record("show", ShowReceipt, asked, batch=True)

    def _do_show_sequence(
        self, planes: LevelArray, durations_us: NDArray[np.float64], wait: bool
    ) -> ShowReceipt:
        asked = b"PAN:SEQ? %d,%b" % (wait, as_block(Planes(planes, durations_us)))
        return self._record("show_sequence", ShowReceipt, asked, batch=True)

    def _do_repeat_us(self) -> float:
        (answer,) = self._ask("repeat_us", b"PAN:REP?")
        return self._number("repeat_us", answer)

    def _do_shown(self) -> LevelArray:
        return self._record("shown", Levels, b"PAN:FRAM?", batch=True).levels
