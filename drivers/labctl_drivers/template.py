"""A driver to copy: a laser that takes lines of text over a serial port or TCP. The instrument is made up.

Copy this file, and `labctl_sim_devices/wires/template.py` for its twin's face. Fill in the table from your
manual, with its pages; then the methods of your interface, one row each. docs/how-to/write-a-driver.md walks
through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from pydantic import Field

from labctl.devices import Identity, Scalar
from labctl.devices.instruments import Laser, LaserSpec
from labctl_drivers.lines import Grammar, Refused, Row, TextLines
from labctl_drivers.link import Deadline, LinkSettings, Wired, require_firmware, require_model

# From the manual (name, edition, pages); here: from nowhere.
GRAMMAR = Grammar(ends_out=b"\n", ends_in=b"\n", busy="BUSY", error=r"ERR (\d+) ?(.*)")
IDENTITY = Row("ID?", r"([^,]+),([^,]+),([^,]+),([^,]+)")  # maker, model, serial number, firmware
SET_POWER = Row("POW {:.4f}", "OK")  # mW
POWER = Row("POW?", r"(\d+\.\d{4})")
SWITCH = Row("OUT {:d}", "OK")
SWITCHED = Row("OUT?", r"([01])")
MODELS = ("LASER-20", "simulated laser")  # as IDENTITY says; the second is the twin's
OLDEST_FIRMWARE = "1"  # that this driver was tried with


class TemplateSettings(LinkSettings):
    """`baud`: of a serial port. max_power_mw: largest set-point, by the data sheet or as the bench bears."""

    baud: int = Field(default=9600, ge=300, le=4_000_000)
    max_power_mw: float = Field(default=20.0, gt=0)


class TemplateLaser(Wired[TextLines], Laser):
    """A laser at a serial port or `socket://HOST:PORT`.

    Its answers have no checksum: a damaged digit on the line cannot be told from a right one.
    """

    Settings: ClassVar[type[LinkSettings]] = TemplateSettings
    settings: TemplateSettings

    @property
    def spec(self) -> LaserSpec:
        """As the settings say."""
        return LaserSpec(self.settings.max_power_mw)

    # the link: how to connect, who answers, what is safe

    def _connect(self, deadline: Deadline) -> TextLines:
        return TextLines(self.address, self.settings.baud, GRAMMAR, self.wire_log)

    def _identify(self, wire: TextLines, deadline: Deadline) -> Identity:
        maker, model, serial, firmware = self._asking("open", IDENTITY)(wire, deadline)
        found = Identity(maker, model, serial, firmware, simulated=model.startswith("simulated"))
        require_model(found, *MODELS)
        require_firmware(found, OLDEST_FIRMWARE)
        return found

    def _make_safe(self, wire: TextLines, deadline: Deadline) -> None:
        self._asking("close", SWITCH, False)(wire, deadline)

    def _command_safe(self, wire: TextLines, deadline: Deadline) -> None:
        wire.tell(SWITCH, False)

    # the interface: a row each

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        return {"power_mw": self._read_mw("snapshot")}

    def _do_set_power_mw(self, power_mw: float) -> None:
        self._ask("set_power_mw", SET_POWER, power_mw)

    def _do_power_mw(self) -> float:
        return self._read_mw("power_mw")

    def _do_emit(self, on: bool) -> None:
        self._ask("emit", SWITCH, on)

    def _do_emitting(self) -> bool:
        (answer,) = self._ask("emitting", SWITCHED)
        return answer == "1"

    def _read_mw(self, operation: str) -> float:
        (answer,) = self._ask(operation, POWER)
        return float(answer)

    # what every driver of text lines has

    def _ask(self, operation: str, row: Row, *values: object) -> tuple[str, ...]:
        return self._exchange(operation, self._asking(operation, row, *values))

    def _asking(
        self, operation: str, row: Row, *values: object
    ) -> Callable[[TextLines, Deadline], tuple[str, ...]]:
        """The exchange of one row; the instrument's own error becomes this device's."""

        def work(wire: TextLines, deadline: Deadline) -> tuple[str, ...]:
            try:
                return wire.ask(row, deadline, *values)
            except Refused as error:
                raise self._fault(operation, f"it answers {error}") from error

        return work
