"""Electronics in another channel order: what the machine's best channels carry is a program's to choose.

A program's row i runs on channel order[i]. Everything that goes to the electronics or comes from them passes
through here, so that programs, records of a program and read-outs all speak in rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.devices import (
    ChainCodes,
    ChainReadout,
    Hold,
    Identity,
    LoopElectronics,
    LoopReadout,
    LoopSpec,
    ProbeReadout,
    Scalar,
    SettleCodes,
)

IntArray = NDArray[np.int64]


class OrderedElectronics(LoopElectronics):
    """`electronics` with row i on channel order[i] (a permutation [n]). Closing it only zeroes
    their trims."""

    def __init__(self, electronics: LoopElectronics, order: IntArray) -> None:
        super().__init__(electronics.name)
        self._inner, self._order = electronics, order
        self._row_of = np.argsort(order)

    @property
    def spec(self) -> LoopSpec:
        """The same machine."""
        return self._inner.spec

    def _do_open(self) -> Identity:
        return self._inner.open()

    def _do_close(self) -> None:
        """Trims at zero; the electronics themselves are their owner's to close."""
        self._inner.set_offset_null(np.zeros(self.spec.n_channels, np.int64))

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        return self._inner.snapshot()

    def _do_temperature_c(self) -> float:
        return self._inner.temperature_c()

    def _do_set_offset_null(self, codes: IntArray) -> None:
        self._inner.set_offset_null(codes[self._row_of])

    def _do_probe(
        self, codes: IntArray, at: Literal["phi", "emitter"], repeats: int, hold: Hold | None
    ) -> ProbeReadout:
        read = self._inner.probe(codes[:, self._row_of], at=at, repeats=repeats, hold=hold)
        return replace(read, counts=read.counts[:, self._order], clipped=read.clipped[:, self._order])

    def _do_settle(self, codes: SettleCodes, wait_us: float, trace: bool, hold: Hold | None) -> LoopReadout:
        channels = replace(
            codes,
            bias=codes.bias[:, self._row_of],
            gain=codes.gain[:, self._row_of],
            leak=codes.leak[:, self._row_of],
            gain_range=codes.gain_range[self._row_of],
            start=codes.start[:, self._row_of],
        )
        return self._rows(self._inner.settle(channels, wait_us=wait_us, trace=trace, hold=hold))

    def _do_run_chain(self, codes: ChainCodes) -> ChainReadout:
        channels = replace(
            codes,
            bias=codes.bias[..., self._row_of],
            gain=codes.gain[..., self._row_of],
            leak=codes.leak[..., self._row_of],
            gain_range=codes.gain_range[..., self._row_of],
            start=codes.start[:, self._row_of],
            rows=self._order[codes.rows],
        )
        ran = self._inner.run_chain(channels)
        return replace(
            ran,
            start=ran.start[..., self._order],
            settles=tuple(self._rows(read) for read in ran.settles),
        )

    def _rows(self, read: LoopReadout) -> LoopReadout:
        trace = read.trace_counts
        return replace(
            read,
            counts=read.counts[:, self._order],
            half_counts=read.half_counts[..., self._order],
            spread_counts=read.spread_counts[:, self._order],
            adc_clipped=read.adc_clipped[:, self._order],
            trace_counts=None if trace is None else trace[..., self._order],
        )
