"""The base of drivers of labctl's own SCPI instruments: every exchange proves that it belongs together.

A message ends with :SYSTem:SEAL?, so that one round trip carries the command, its answer, how many errors the
instrument has queued, and a tag with a CRC over all of it. A late, repeated, foreign or damaged answer is
never taken for the right one; queued errors are drained and raised.

The protocol is ours: docs/reference/scpi.md.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from labctl.devices import (
    DeviceError,
    DeviceFault,
    DeviceStateError,
    DeviceTimeout,
    DeviceUnavailable,
    DeviceValueError,
    Hold,
    Identity,
    Scalar,
    UnsupportedFeature,
)
from labctl.devices.wire.records import RecordProblem, crc_of, record_bytes, record_of
from labctl.devices.wire.scpi_commands import PROTOCOL
from labctl.devices.wire.scpi_records import About, Readings
from labctl.devices.wire.scpi_syntax import SyntaxProblem, block, number_of, parts, payload_of
from labctl_drivers.link import (
    Deadline,
    LinkSettings,
    WireBusy,
    Wired,
    WireGarbled,
    WrongBox,
    require_firmware,
)
from labctl_drivers.scpi.visa_wire import VisaWire

T = TypeVar("T")
OLDEST_FIRMWARE = "1"
BUSY, BAD_BLOCK = 302, -161
ERROR = re.compile(r'(?<!\d)([+-]?\d{1,9}),"((?:[^"]|"")*)"')
MEANINGS: dict[int, type[DeviceError]] = {
    -113: UnsupportedFeature,
    -221: DeviceStateError,
    -222: DeviceValueError,
    -241: UnsupportedFeature,
    -365: DeviceTimeout,
    301: DeviceUnavailable,
}


class SealedSettings(LinkSettings):
    """visa_library: pyvisa's choice where empty. batch_timeout_s: for a queue or a frame, where others have
    timeout_s. baud_rate: of a serial port.
    """

    timeout_s: float = Field(default=5.0, gt=0, le=3600)
    batch_timeout_s: float = Field(default=60.0, gt=0, le=36000)
    visa_library: str = ""
    baud_rate: int = Field(default=115200, ge=300, le=4_000_000)


class Sealed(Wired[VisaWire]):
    """Put it before the interface. `KIND` is the instrument's, `DESCRIPTION` the record that it gives."""

    Settings = SealedSettings
    KIND: ClassVar[str]
    DESCRIPTION: ClassVar[type[About]]

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        super().__init__(name, address, **settings)
        self._tags = count(1)
        self._described: Any = None

    @property
    @abstractmethod
    def spec(self) -> Any:
        """Its data sheet, as the instrument says; DeviceStateError before it was first opened."""

    def _connect(self, deadline: Deadline) -> VisaWire:
        serial = {"baud_rate": self._own.baud_rate} if self.address.upper().startswith("ASRL") else {}
        return VisaWire(self.address, self._own.visa_library, self.wire_log, deadline, serial)

    def _identify(self, wire: VisaWire, deadline: Deadline) -> Identity:
        names, described = self._sealed("open", (b"*IDN?", b"SYST:DESC?"), wire, deadline)
        fields = names.decode("ascii", "replace").split(",")
        if len(fields) != 4:
            raise WireGarbled(f"*IDN? gives {names!r}")
        try:
            about = record_of(self.DESCRIPTION, payload_of(described))
        except (SyntaxProblem, RecordProblem) as error:
            raise WrongBox(f"{fields[1]} describes itself as no {self.KIND} of protocol 1: {error}") from None
        if about.kind != self.KIND or about.protocol[0] != PROTOCOL[0]:
            raise WrongBox(
                f"{fields[1]} is {about.kind} of protocol {about.protocol[0]}; allowed: {self.KIND} of "
                f"protocol {PROTOCOL[0]}"
            )
        vendor, model, serial, firmware = fields
        found = Identity(vendor, model, serial, firmware, simulated=about.simulated)
        require_firmware(found, OLDEST_FIRMWARE)
        self._described = about
        return found

    def _make_safe(self, wire: VisaWire, deadline: Deadline) -> None:
        self._sealed("close", (b"SYST:SAFE",), wire, deadline)

    def _command_safe(self, wire: VisaWire, deadline: Deadline) -> None:
        wire.tell(b"SYST:SAFE\n", deadline)

    def _resync(self, wire: VisaWire, deadline: Deadline) -> None:
        if not wire.has_end:
            super()._resync(wire, deadline)  # on a socket nobody knows where the next answer begins
        wire.clear(deadline)

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        return self._record("snapshot", Readings, b"SYST:SNAP?").values

    def _do_temperature_c(self) -> float:
        (answer,) = self._ask("temperature_c", b"SYST:TEMP?")
        return self._number("temperature_c", answer)

    @property
    def _own(self) -> SealedSettings:
        settings = self.settings
        if not isinstance(settings, SealedSettings):
            raise TypeError(f"{type(self).__name__}.Settings must derive from SealedSettings")
        return settings

    def _description(self) -> Any:
        """What the instrument said of itself."""
        if self._described is None:
            raise DeviceStateError(
                "its data sheet comes from the instrument; call open() first",
                device=self.name,
                operation="spec",
            )
        return self._described

    def _ask(self, operation: str, *units: bytes, batch: bool = False) -> list[bytes]:
        """What the queries among these commands answer."""
        timeout_s = self._own.batch_timeout_s if batch else None
        return self._exchange(operation, partial(self._sealed, operation, units), timeout_s=timeout_s)

    def _record(self, operation: str, kind: type[T], *units: bytes, batch: bool = False) -> T:
        """The record that the only query among these commands answers."""
        timeout_s = self._own.batch_timeout_s if batch else None
        work = partial(self._sealed_record, operation, kind, units)
        return self._exchange(operation, work, timeout_s=timeout_s)

    def _sealed_record(
        self, operation: str, kind: type[T], units: tuple[bytes, ...], wire: VisaWire, deadline: Deadline
    ) -> T:
        (answer,) = self._sealed(operation, units, wire, deadline)
        return record_in(kind, answer)

    def _sealed(
        self, operation: str, units: tuple[bytes, ...], wire: VisaWire, deadline: Deadline
    ) -> list[bytes]:
        """One message with its seal: the answers of its queries. Raises the instrument's errors."""
        tag, asked = next(self._tags) % 2**32, b";".join(units)
        whole = wire.ask(b"%b;:SYST:SEAL? %d\n" % (asked, tag), deadline)
        answered, _, seal = whole.rpartition(b";")
        head, _, crc = seal.rpartition(b",")
        if crc != crc_of(b"|".join((asked, answered, head))).encode():
            raise WireGarbled(f"the answer to question {tag} ends with {seal[:40]!r}, which is not its seal")
        said, _, errors = head.partition(b",")
        if int(said) != tag:
            raise WireGarbled(f"the answer to question {said.decode()} came, asked was {tag}")
        if errors != b"0":
            self._refuse(operation, wire, deadline)
        return parts(answered, b";") if answered else []

    def _refuse(self, operation: str, wire: VisaWire, deadline: Deadline) -> None:
        """Drain the instrument's error queue and raise its first error; the others are named with it."""
        drained = wire.ask(b"SYST:ERR:ALL?\n", deadline).decode("ascii", "replace")
        errors = [(int(number), text) for number, text in ERROR.findall(drained)]
        if not errors:
            raise WireGarbled(f"the instrument's errors read {drained[:60]!r}")
        (number, text), *more = errors
        if number == BUSY:
            raise WireBusy("the instrument is busy")
        if number == BAD_BLOCK:
            raise WireGarbled(f"the instrument could not read a block: {text}")
        words = f"the instrument reports {number}, {text or '(without a text)'}"
        if more:
            words += "; then " + "; ".join(f"{one}, {told}" for one, told in more)
        raise self._fault(operation, words, MEANINGS.get(number, DeviceFault))

    def _number(self, operation: str, answer: bytes) -> float:
        try:
            return number_of(answer)
        except SyntaxProblem as error:
            raise self._fault(operation, str(error)) from None


def as_block(record: Any) -> bytes:
    """A record as a block."""
    return block(record_bytes(record))


def record_in(kind: type[T], answer: bytes) -> T:
    """The record in an answer; WireGarbled where it holds none."""
    try:
        return record_of(kind, payload_of(answer))
    except (SyntaxProblem, RecordProblem) as error:
        raise WireGarbled(str(error)) from None


def hold_words(hold: Hold | None) -> bytes:
    """Parameters of the HOLD commands."""
    return b"OFF" if hold is None else f"{float(hold.hold_us)!r},{float(hold.period_us)!r}".encode()
