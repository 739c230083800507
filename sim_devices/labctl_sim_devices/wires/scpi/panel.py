"""A modulator behind a controller that takes frames as SCPI blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from labctl.devices import Identity, WeightModulator
from labctl.devices.wire.scpi_commands import PROTOCOL
from labctl.devices.wire.scpi_records import Levels, PanelDescription, Planes
from labctl_sim_devices.wires.scpi.arguments import Arguments
from labctl_sim_devices.wires.scpi.instrument import Handler
from labctl_sim_devices.wires.scpi.sealed_face import SealedFace


class ScpiPanelFace(SealedFace[WeightModulator]):
    """`labctl.devices.wire.scpi_commands.PANEL` in front of any modulator."""

    DRIVER: ClassVar[str] = "scpi.panel"

    def _description(self, identity: Identity) -> PanelDescription:
        return PanelDescription("panel", PROTOCOL, identity.simulated, self._device.spec)

    def _own_commands(self) -> Mapping[str, Handler]:
        return {
            "PANel:SHOW?": self._show,
            "PANel:SEQuence?": self._sequence,
            "PANel:FRAMe?": self._shown,
            "PANel:REPeat?": self._repeat,
        }

    def _show(self, arguments: Arguments) -> bytes:
        arguments.expect(2)
        wait, levels = arguments.boolean(0), arguments.record(1, Levels).levels
        return self._record(lambda: self._open().show(levels, wait=wait))

    def _sequence(self, arguments: Arguments) -> bytes:
        arguments.expect(2)
        wait, sequence = arguments.boolean(0), arguments.record(1, Planes)
        return self._record(
            lambda: self._open().show_sequence(sequence.planes, sequence.durations_us, wait=wait)
        )

    def _shown(self, arguments: Arguments) -> bytes:
        arguments.expect(0)
        return self._record(lambda: Levels(self._open().shown()))

    def _repeat(self, arguments: Arguments) -> str:
        arguments.expect(0)
        return repr(float(self._told(lambda: self._open().repeat_us)))
