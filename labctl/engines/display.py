"""A program's matrices on the panel: frames in its order of rows, offset nulls, what the light then does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, LoopElectronics, ShowReceipt, WeightModulator
from labctl.engines.channel_order import OrderedElectronics
from labctl.physics import FittedMap
from labctl.programs import EncodedFrame, PlacedWeights, RowTrims, encode_frame

FloatArray = NDArray[np.float64]
LightOf = Callable[[LoopElectronics, NDArray[np.int64]], FittedMap]


@dataclass(frozen=True)
class ReadNoise:
    """Measured at load, worst watched row: sd inside a window, rms difference of its halves (units)."""

    spread: float = 0.0
    half_difference: float = 0.0


@dataclass(frozen=True, eq=False)
class Shown:
    """One matrix as it was shown and measured: frame, the panel's checksum, the record of it, W as the light
    shows it [n, n] (network units), on a bench that was brought up the map of it, read noise by kind of
    segment, and how long the frame took.
    """

    frame: EncodedFrame
    checksum: str
    record: CalibrationRecord
    weights: FloatArray
    light: FittedMap | None
    upload_us: float
    read_noise: dict[str, ReadNoise] = field(default_factory=dict)


class Display:
    """Puts matrices on the panel and measures what they become.

    `panel_record` is the panel's, by design or measured (then with the photocurrent of a full-scale weight);
    `after_show(electronics)` measures offset null and effective weights. `electronics` are in the program's
    order of rows, `trims` too (None: rows as the data sheet has them).
    """

    def __init__(
        self,
        modulator: WeightModulator,
        electronics: LoopElectronics,
        panel_record: CalibrationRecord,
        after_show: Callable[[LoopElectronics], CalibrationRecord],
    ) -> None:
        self._modulator, self._channels = modulator, electronics
        self._panel_record, self._after_show = panel_record, after_show
        self._order = np.arange(electronics.spec.n_channels)
        self._channel_trims: RowTrims | None = None
        self._light_of: LightOf | None = None
        self.electronics = electronics
        self.trims: RowTrims | None = None
        self.full_scale_units = 1.0
        if "full_scale_units" in panel_record.arrays:
            self.full_scale_units = float(panel_record.array("full_scale_units")[0])

    def use_bench(self, trims: RowTrims, light_of: LightOf) -> None:
        """Take the channels' measured errors into `trims`; have `light_of` measure each matrix's map, given
        the electronics and the channel of every row.
        """
        self._channel_trims, self._light_of = trims, light_of
        self.use_order(self._order)

    def use_trims(self, trims: RowTrims) -> None:
        """Take the channels' errors as measured anew, from the next frame on."""
        self._channel_trims = trims
        self.trims = trims.on(self._order)

    @property
    def channel_trims(self) -> RowTrims | None:
        """Errors of the channels, in their own order; None where the bench was not brought up."""
        return self._channel_trims

    def use_order(self, order: NDArray[np.int64]) -> None:
        """Put a program's row i on channel order[i], from the next frame on."""
        self._order = order
        self.electronics = OrderedElectronics(self._channels, order)
        self.electronics.open()
        if self._channel_trims is not None:
            self.trims = self._channel_trims.on(order)

    def show(self, matrix: PlacedWeights) -> Shown:
        """Display a matrix, null its offsets, measure its weights and its map."""
        frame, receipt, record = self.put(matrix)
        weights = record.array("effective_fractions") * matrix.scale_out[:, None] / self.full_scale_units
        light = None if self._light_of is None else self._light_of(self.electronics, self._order)
        return Shown(frame, receipt.checksum, record, weights, light, receipt.duration_us)

    def put(self, matrix: PlacedWeights) -> tuple[EncodedFrame, ShowReceipt, CalibrationRecord]:
        """Display a matrix and null its offsets, no more: for whoever measures the rest."""
        frame = self._frame_of(matrix.fractions)
        receipt = self._modulator.show(frame.levels)
        return frame, receipt, self._nulled(self._after_show(self.electronics))

    def show_again(self, shown: Shown) -> float:
        """Display a matrix that was measured before, with its own null; the time it took, us."""
        duration_us = self._modulator.show(shown.frame.levels).duration_us
        self.electronics.set_offset_null(shown.record.array("null_codes").astype(np.int64))
        return duration_us

    def null_of(self, shown: Shown) -> FloatArray:
        """Codes of a matrix's offset null [n], in the channels' own order."""
        codes = np.zeros(len(self._order))
        codes[self._order] = shown.record.array("null_codes")
        return codes

    def _frame_of(self, fractions: FloatArray) -> EncodedFrame:
        """The frame for fractions [n, n] in the program's rows."""
        row_of = np.argsort(self._order)
        frame = encode_frame(fractions[np.ix_(row_of, row_of)], self._modulator.spec, self._panel_record)
        return replace(frame, realised=frame.realised[np.ix_(self._order, self._order)])

    def _nulled(self, record: CalibrationRecord) -> CalibrationRecord:
        """The record with its null moved by what only the closed loop shows, where that was measured."""
        if self.trims is None:
            return record
        moved = self.trims.light_offset_units / self.electronics.spec.offset_dac.units_per_code
        codes = record.array("null_codes") + np.rint(moved)
        self.electronics.set_offset_null(codes.astype(np.int64))
        return replace(record, arrays={**record.arrays, "null_codes": codes})
