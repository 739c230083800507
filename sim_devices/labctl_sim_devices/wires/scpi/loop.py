"""Loop electronics as an SCPI instrument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from labctl.devices import Identity, LoopElectronics, LoopReadout, SettleCodes
from labctl.devices.wire.records import crc_of
from labctl.devices.wire.scpi_commands import PROTOCOL
from labctl.devices.wire.scpi_records import (
    ChainQueue,
    ChainTables,
    CodeTable,
    LoopDescription,
    Trace,
    joined_chain,
)
from labctl.devices.wire.scpi_syntax import payload_of
from labctl_sim_devices.wires.scpi.arguments import Arguments, ScpiError
from labctl_sim_devices.wires.scpi.instrument import Handler
from labctl_sim_devices.wires.scpi.sealed_face import SealedFace

PLACES: dict[str, Literal["phi", "emitter"]] = {"PHI": "phi", "EMIT": "emitter"}


class ScpiLoopFace(SealedFace[LoopElectronics]):
    """`labctl.devices.wire.scpi_commands.LOOP` in front of any loop electronics."""

    DRIVER: ClassVar[str] = "scpi.loop-electronics"
    _wait_us: float | None = None
    _tracing = False
    _trace: Trace | None = None
    _tables: ChainTables | None = None
    _tables_crc = "NONE"

    def _description(self, identity: Identity) -> LoopDescription:
        return LoopDescription("loop-electronics", PROTOCOL, identity.simulated, self._device.spec)

    def _own_commands(self) -> Mapping[str, Handler]:
        return {
            "LOOP:NULL": self._null,
            "LOOP:PROBe?": self._probe,
            "LOOP:WAIT": self._set_wait,
            "LOOP:WAIT?": self._get_wait,
            "LOOP:TRACe": self._set_trace,
            "LOOP:TRACe?": self._get_trace,
            "LOOP:TRACe:DATA?": self._trace_data,
            "LOOP:HOLD": self._set_hold,
            "LOOP:HOLD?": self._get_hold,
            "LOOP:SETTle?": self._settle,
            "LOOP:CHAin:PROGram": self._program,
            "LOOP:CHAin:PROGram?": self._programmed,
            "LOOP:CHAin:RUN?": self._run_chain,
        }

    def _reset(self) -> None:
        super()._reset()
        self._wait_us, self._tracing, self._trace = None, False, None
        self._tables, self._tables_crc = None, "NONE"

    def _null(self, arguments: Arguments) -> None:
        arguments.expect(1)
        codes = arguments.record(0, CodeTable).codes
        self._told(lambda: self._open().set_offset_null(codes))

    def _probe(self, arguments: Arguments) -> bytes:
        arguments.expect(3)
        at = PLACES[arguments.word(0, ("PHI",), ("EMIT", "EMITTER"))]
        repeats = arguments.whole(1, 1, 2**31)
        codes = arguments.record(2, CodeTable).codes
        hold = self._hold
        return self._record(lambda: self._open().probe(codes, at=at, repeats=repeats, hold=hold))

    def _set_wait(self, arguments: Arguments) -> None:
        arguments.expect(1)
        self._wait_us = arguments.number(0, 0.0, 1e6)

    def _get_wait(self, arguments: Arguments) -> str:
        arguments.expect(0)
        return repr(self._device.spec.wait_us if self._wait_us is None else self._wait_us)

    def _set_trace(self, arguments: Arguments) -> None:
        arguments.expect(1)
        self._tracing = arguments.boolean(0)

    def _get_trace(self, arguments: Arguments) -> str:
        arguments.expect(0)
        return str(int(self._tracing))

    def _trace_data(self, arguments: Arguments) -> bytes:
        arguments.expect(0)
        trace = self._trace
        if trace is None:
            raise ScpiError(-230, "the last queue was not traced")
        return self._record(lambda: trace)

    def _settle(self, arguments: Arguments) -> bytes:
        arguments.expect(1)
        codes = arguments.record(0, SettleCodes)

        def settled() -> LoopReadout:
            readout = self._open().settle(codes, wait_us=self._wait_us, trace=self._tracing, hold=self._hold)
            traced, times = readout.trace_counts, readout.trace_time_us
            self._trace = None if traced is None or times is None else Trace(traced, times)
            return replace(readout, trace_counts=None, trace_time_us=None)

        return self._record(settled)

    def _program(self, arguments: Arguments) -> None:
        arguments.expect(1)
        self._tables = arguments.record(0, ChainTables)
        self._tables_crc = crc_of(payload_of(arguments.elements[0]))

    def _programmed(self, arguments: Arguments) -> str:
        arguments.expect(0)
        return self._tables_crc

    def _run_chain(self, arguments: Arguments) -> bytes:
        arguments.expect(1)
        tables, queue = self._tables, arguments.record(0, ChainQueue)
        if tables is None:
            raise ScpiError(-221, "no chain is programmed")

        def run() -> Any:
            return self._open().run_chain(joined_chain(tables, queue))

        return self._record(run)
