"""Emitter drivers as a device of their own: many benches have emitters and no loop electronics."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.checks import check_hold
from labctl.devices.device import Device
from labctl.devices.errors import DeviceValueError
from labctl.devices.specs import DriveSpec
from labctl.devices.values import DriveReceipt, Hold


class InputDrive(Device):
    """Drives n emitters with currents; absolute limits are refused, never clipped."""

    safe_stage = "light"

    @property
    @abstractmethod
    def spec(self) -> DriveSpec:
        """Channels, codes, full scale and absolute limits (mA)."""

    def drive(
        self,
        codes: ArrayLike,
        *,
        hold: Hold | None = None,
        step_id: int = 0,
        sample_id: ArrayLike | None = None,
    ) -> DriveReceipt:
        """Apply a queue of patterns [B, n]; the last one stays on.

        With `hold`, each pattern triggers a camera as it comes on and stays on for that long. step_id and
        sample_id [B] tell a twin which noise to draw, so that a sample's draws do not depend on its batch;
        hardware ignores them. Raises DeviceValueError where a channel or the sum exceeds its absolute limit;
        nothing is driven.
        """
        self._require_open("drive")
        spec = self.spec
        checked = self._codes("drive", "codes", codes, (None, spec.n_channels), 0, spec.n_codes - 1)
        current_ma = checked * spec.ma_per_code
        self._refuse_over("channel current", float(current_ma.max()), spec.max_channel_ma)
        self._refuse_over("total current", float(current_ma.sum(axis=1).max()), spec.max_total_ma)
        if self.guard is not None:
            self.guard.current(self, "drive", current_ma)
        check_hold(hold, spec.max_hold_us, device=self.name, operation="drive", whose="these emitter drivers")
        if sample_id is None:
            return self._do_drive(checked, hold, int(step_id), None)
        ids = self._codes("drive", "sample_id", sample_id, (len(checked),), 0, 2**32 - 1)
        return self._do_drive(checked, hold, int(step_id), ids)

    def temperature_c(self) -> float:
        """Emitter temperature in degrees Celsius."""
        self._require_open("temperature_c")
        return self._do_temperature_c()

    def _refuse_over(self, what: str, value_ma: float, limit_ma: float) -> None:
        if value_ma > limit_ma * (1 + 1e-12):
            raise DeviceValueError(
                f"{what} would be {value_ma:.4g} mA; allowed: 0 to {limit_ma:.4g} mA",
                device=self.name,
                operation="drive",
            )

    @abstractmethod
    def _do_drive(
        self, codes: NDArray[np.int64], hold: Hold | None, step_id: int, sample_id: NDArray[np.int64] | None
    ) -> DriveReceipt: ...

    @abstractmethod
    def _do_temperature_c(self) -> float: ...
