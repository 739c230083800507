"""What faces of labctl's own SCPI instruments share: docs/reference/scpi.md has their commands."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from labctl.devices import Hold, Identity
from labctl.devices.wire.records import record_bytes
from labctl.devices.wire.scpi_commands import OPERATION_MEASURED
from labctl.devices.wire.scpi_records import Readings
from labctl.devices.wire.scpi_syntax import block
from labctl_sim_devices.wires.scpi.arguments import Arguments, ScpiError
from labctl_sim_devices.wires.scpi.face import AnyDevice, ScpiFace
from labctl_sim_devices.wires.scpi.instrument import Handler


class SealedFace(ScpiFace[AnyDevice]):
    """A device that describes itself, and answers in records."""

    _hold: Hold | None = None

    def _commands(self) -> Mapping[str, Handler]:
        return {
            "SYSTem:DESCribe?": self._describe,
            "SYSTem:SNAPshot?": self._snapshot,
            "SYSTem:TEMPerature?": self._temperature,
            "SYSTem:SAFE": self._safe,
            **self._own_commands(),
        }

    @abstractmethod
    def _own_commands(self) -> Mapping[str, Handler]:
        """Those of the device's kind."""

    def _reset(self) -> None:
        self._hold = None
        super()._reset()

    @abstractmethod
    def _description(self, identity: Identity) -> Any:
        """The record that SYSTem:DESCribe? gives."""

    def _record(self, work: Callable[[], Any]) -> bytes:
        """The record that `work` gives, as a block; a measurement has ended then."""
        answer = block(record_bytes(self._told(work)))
        self.instrument.status.operation.pulse(OPERATION_MEASURED)
        return answer

    def _describe(self, arguments: Arguments) -> bytes:
        arguments.expect(0)
        return block(record_bytes(self._description(self._identity())))

    def _snapshot(self, arguments: Arguments) -> bytes:
        arguments.expect(0)
        return block(record_bytes(Readings(self._told(lambda: self._open().snapshot()))))

    def _temperature(self, arguments: Arguments) -> str:
        arguments.expect(0)
        read = getattr(self._device, "temperature_c", None)
        if read is None:
            raise ScpiError(-241, "no thermometer")
        self._told(self._open)
        return repr(float(self._told(read)))

    def _safe(self, arguments: Arguments) -> None:
        arguments.expect(0)
        self._reset()

    def _set_hold(self, arguments: Arguments) -> None:
        arguments.expect(1, 2)
        if len(arguments.elements) == 1:
            arguments.word(0, ("OFF",))
            self._hold = None
        else:
            self._hold = Hold(arguments.number(0, 0.0), arguments.number(1, 0.0))

    def _get_hold(self, arguments: Arguments) -> str:
        arguments.expect(0)
        return "OFF" if self._hold is None else f"{self._hold.hold_us!r},{self._hold.period_us!r}"
