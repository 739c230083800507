"""Loop electronics on SCPI: queues, read-outs, traces and chains travel as one block each."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.devices import (
    ChainCodes,
    ChainReadout,
    Hold,
    LoopElectronics,
    LoopReadout,
    LoopSpec,
    ProbeReadout,
    SettleCodes,
)
from labctl.devices.wire.records import crc_of, record_bytes
from labctl.devices.wire.scpi_records import CodeTable, LoopDescription, Trace, split_chain
from labctl.devices.wire.scpi_syntax import block
from labctl_drivers.link import Deadline
from labctl_drivers.scpi.sealed import Sealed, as_block, hold_words, record_in
from labctl_drivers.scpi.visa_wire import VisaWire

Codes = NDArray[np.int64]


class ScpiLoopElectronics(Sealed, LoopElectronics):
    """Speaks `labctl.devices.wire.scpi_commands.LOOP`."""

    KIND = "loop-electronics"
    DESCRIPTION = LoopDescription
    _null: Codes | None = None

    @property
    def spec(self) -> LoopSpec:
        """As the instrument says."""
        spec: LoopSpec = self._description().spec
        return spec

    def _program(self, wire: VisaWire, deadline: Deadline) -> None:
        if self._null is not None:  # chains bring their tables with them
            self._sealed("open", (b"LOOP:NULL " + as_block(CodeTable(self._null)),), wire, deadline)

    def _do_close(self) -> None:
        self._null = None
        super()._do_close()

    def _do_set_offset_null(self, codes: Codes) -> None:
        self._ask("set_offset_null", b"LOOP:NULL " + as_block(CodeTable(codes)))
        self._null = codes

    def _do_probe(
        self, codes: Codes, at: Literal["phi", "emitter"], repeats: int, hold: Hold | None
    ) -> ProbeReadout:
        place = b"PHI" if at == "phi" else b"EMIT"
        asked = b"PROB? %b,%d,%b" % (place, repeats, as_block(CodeTable(codes)))
        return self._record("probe", ProbeReadout, b"LOOP:HOLD " + hold_words(hold), asked, batch=True)

    def _do_settle(self, codes: SettleCodes, wait_us: float, trace: bool, hold: Hold | None) -> LoopReadout:
        units = [
            f"LOOP:WAIT {float(wait_us)!r}".encode(),
            b"TRAC ON" if trace else b"TRAC OFF",
            b"HOLD " + hold_words(hold),
            b"SETT? " + as_block(codes),
        ]
        if trace:
            units.append(b"TRAC:DATA?")

        def work(wire: VisaWire, deadline: Deadline) -> LoopReadout:
            readout, *traced = self._sealed("settle", tuple(units), wire, deadline)
            settled = record_in(LoopReadout, readout)
            if not traced:
                return settled
            seen = record_in(Trace, traced[0])
            return replace(settled, trace_counts=seen.trace_counts, trace_time_us=seen.trace_time_us)

        return self._exchange("settle", work, timeout_s=self._own.batch_timeout_s)

    def _do_run_chain(self, codes: ChainCodes) -> ChainReadout:
        tables, queue = (record_bytes(half) for half in split_chain(codes))

        def work(wire: VisaWire, deadline: Deadline) -> ChainReadout:
            (held,) = self._sealed("run_chain", (b"LOOP:CHA:PROG?",), wire, deadline)
            if held != crc_of(tables).encode():
                self._sealed("run_chain", (b"LOOP:CHA:PROG " + block(tables),), wire, deadline)
            units = (b"LOOP:CHA:RUN? " + block(queue),)
            return self._sealed_record("run_chain", ChainReadout, units, wire, deadline)

        return self._exchange("run_chain", work, timeout_s=self._own.batch_timeout_s)
