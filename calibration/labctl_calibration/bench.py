"""A bench as its records have it, in the form that engines and compensation use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, LoopElectronics
from labctl.physics import FittedCurve, FittedMap
from labctl.programs import RowTrims
from labctl_calibration.closed_loop import loop_constant
from labctl_calibration.effective_map import measure_map
from labctl_calibration.rows_record import curve_of, trims_of

LOAD_PROBES = 1600  # of every load: the map that the host forms its last layer with


@dataclass(frozen=True, eq=False)
class Bench:
    """The panel's record, errors of the rows, the curve of every channel, and the ids of the records."""

    panel: CalibrationRecord
    trims: RowTrims
    curve: FittedCurve
    record_ids: tuple[str, ...]

    @classmethod
    def of(cls, panel: CalibrationRecord, rows: CalibrationRecord, ids: tuple[str, ...]) -> Bench:
        """From the two records of a bring-up."""
        return cls(panel, trims_of(rows), curve_of(rows), ids)

    @property
    def full_scale_units(self) -> float:
        """Light of a full-scale weight."""
        return float(self.panel.array("full_scale_units")[0])

    @property
    def channels(self) -> NDArray[np.int64]:
        """Channels [n] from best to worst."""
        return self.panel.array("channel_order").astype(np.int64)

    def map_of(self, electronics: LoopElectronics, order: NDArray[np.int64], *, probes: int) -> FittedMap:
        """Measure what the frame on display makes of states, in units of a full-scale weight.

        `electronics` are in the program's order: row i is on channel order[i].

        What the null left of the frame's offset, and of the closed loop's own, is the map's constant.
        """
        light, curve = measure_map(electronics, probes=probes), self.curve.on(torch.from_numpy(order))
        left = loop_constant(electronics, light, curve, self.trims.on(order))
        return FittedMap(
            torch.from_numpy(light.powers / self.full_scale_units),
            curve,
            torch.from_numpy(left / self.full_scale_units),
        )
