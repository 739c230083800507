"""A board as its records say it is: what codes do on it, and what its reads mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import BoardImage, BoardSpec, CalibrationRecord, ConfigError
from labctl_calibration.oscillators.anchors import KIND as ANCHOR_KIND
from labctl_calibration.oscillators.couplings import KIND as COUPLING_KIND
from labctl_calibration.oscillators.frequency import KIND as FREQUENCY_KIND
from labctl_calibration.oscillators.skew import KIND as SKEW_KIND
from labctl_calibration.oscillators.skew import ReadPaths
from labctl_calibration.procedure import require

FloatArray = NDArray[np.float64]
KINDS = (FREQUENCY_KIND, SKEW_KIND, ANCHOR_KIND, COUPLING_KIND)


@dataclass(frozen=True, eq=False)
class FittedBoard:
    """Parameters of one board of n oscillators and E cells, from its records alone.

    cells [E, 4]: 1 + gain, offset (units), even and odd bow; lag_rad [E]; detuning, trim_gain, anchor_gain,
    anchor_phase_rad, supply [n].
    """

    spec: BoardSpec
    cells: FloatArray
    dead: NDArray[np.bool_]
    lag_rad: FloatArray
    detuning: FloatArray
    trim_gain: FloatArray
    anchor_gain: FloatArray
    anchor_phase_rad: FloatArray
    supply: FloatArray
    paths: ReadPaths

    @classmethod
    def of(cls, spec: BoardSpec, records: Mapping[str, CalibrationRecord]) -> FittedBoard:
        """From records by kind; CalibrationMissing where one of the four is not there, ConfigError for those
        of a board of another size.
        """
        frequency, skew, anchor, coupling = (require(records, kind) for kind in KINDS)
        for record, array, size in (
            (frequency, "detuning_units", spec.n),
            (skew, "skew_rad", spec.n),
            (anchor, "gain", spec.n),
            (coupling, "gain", spec.topology.n_edges),
        ):
            if record.array(array).shape != (size,):
                raise ConfigError(
                    f"record {record.kind!r}: {array} has shape {record.array(array).shape}; allowed: "
                    f"({size},), as this board is {spec.topology.summary}"
                )
        dead = coupling.array("dead") > 0.5
        cells = np.stack(
            [
                1 + coupling.array("gain"),
                coupling.array("offset_units"),
                coupling.array("bow_even"),
                coupling.array("bow_odd"),
            ],
            axis=1,
        )
        return cls(
            spec=spec,
            cells=np.where(dead[:, None], 0.0, cells),
            dead=dead,
            lag_rad=np.where(dead, 0.0, coupling.array("lag_rad")),
            detuning=frequency.array("detuning_units"),
            trim_gain=frequency.array("trim_gain"),
            anchor_gain=anchor.array("gain"),
            anchor_phase_rad=anchor.array("phase_rad"),
            supply=coupling.array("supply"),
            paths=ReadPaths(skew),
        )

    def values(self, scale_units: float) -> FloatArray:
        """Every cell's coupling at every code [E, 2 top + 1], units; `scale_units` at full scale."""
        top = self.spec.max_coupling_code
        share = np.arange(-top, top + 1) / top
        bow = 1 - share**2
        basis = np.stack(
            [scale_units * share, np.ones_like(share), scale_units * bow, scale_units * share * bow]
        )
        return np.asarray(self.cells @ basis)

    def couplings(self, image: BoardImage) -> FloatArray:
        """What an image's codes couple on this board [K, E], units."""
        top = self.spec.max_coupling_code
        scale = image.scale * self.spec.scale_units_per_code
        edges = np.arange(len(self.cells))
        return np.stack([
            self.values(float(s))[edges, codes + top] for s, codes in zip(scale, image.coupling, strict=True)
        ])  # fmt: skip
