"""An oscillator board at the end of a serial line, by the open protocol of this project.

docs/reference/oscillator-board-protocol.md says what goes over the line, docs/how-to/serial-board.md how to
connect a board.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labctl.devices import (
    BoardImage,
    BoardSpec,
    DeviceError,
    DeviceFault,
    DeviceStateError,
    DeviceTimeout,
    DeviceUnavailable,
    DeviceValueError,
    FrequencyCount,
    Identity,
    LoadReceipt,
    OscillatorBoard,
    Phases,
    RunCodes,
    Scalar,
    UnsupportedFeature,
)
from labctl.devices.oscillator_wire import blocks
from labctl.devices.oscillator_wire.frames import MAX_ENCODED, MAX_PAYLOAD, FormatError
from labctl.devices.oscillator_wire.messages import (
    VERSIONS,
    Close,
    Count,
    Counted,
    Empty,
    ErrorCode,
    Held,
    Hello,
    LineStatus,
    Load,
    Message,
    Open,
    Opened,
    Ran,
    Recall,
    Recalled,
    Region,
    Run,
    Settings,
    Snapshot,
    Status,
    Temperature,
    Warmth,
    Welcome,
)
from labctl_drivers.board_wire import FIRST_PAYLOAD, BoardWire, Refused, Session
from labctl_drivers.link import (
    Deadline,
    LinkSettings,
    WireBusy,
    Wired,
    WireGarbled,
    WireLost,
    WrongBox,
    require_firmware,
)
from labctl_drivers.serial_line import SerialLine, pyserial

T = TypeVar("T")
A = TypeVar("A", bound=Message)
OLDEST_FIRMWARE = "1"
AGAIN_S = 0.1
# what the board's own refusals are here; the others are faults of the protocol
REFUSALS: dict[int, type[DeviceError]] = {
    ErrorCode.VERSION: DeviceUnavailable,
    ErrorCode.VALUE: DeviceValueError,
    ErrorCode.STATE: DeviceStateError,
    ErrorCode.UNAVAILABLE: DeviceUnavailable,
    ErrorCode.TIMEOUT: DeviceTimeout,
    ErrorCode.FAULT: DeviceFault,
    ErrorCode.UNSUPPORTED: UnsupportedFeature,
}


class SerialBoardSettings(LinkSettings):
    """`baud`: bits a second on the line, as the board is set. timeout_s: how long it may stay silent; one at
    work says so now and then. longest_s: of one load, run or count, however busy. `serial`: the serial
    number that must answer (empty: any).
    """

    timeout_s: float = 1.0
    open_timeout_s: float = 30.0
    baud: int = Field(default=921_600, ge=1200, le=12_000_000)
    longest_s: float = Field(default=600.0, gt=0, le=86_400)
    serial: str = ""


class SerialOscillatorBoard(Wired[BoardWire], OscillatorBoard):
    """Everything the board knows of itself, its data sheet too, it is asked at `open`."""

    Settings: ClassVar[type[LinkSettings]] = SerialBoardSettings
    settings: SerialBoardSettings

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        super().__init__(name, address, **settings)
        self._spec: BoardSpec | None = None
        self._spec_crc = 0
        self._session: Session | None = None
        self._forgot = False  # a session began anew: nothing is loaded

    @property
    def spec(self) -> BoardSpec:
        """The board's own data sheet; DeviceStateError before the first `open`."""
        if self._spec is None:
            raise DeviceStateError(
                "the board tells its data sheet when it is opened; call open() first",
                device=self.name, operation="spec",
            )  # fmt: skip
        return self._spec

    def line_status(self) -> LineStatus:
        """Frames that the board took and dropped since it was switched on."""
        self._require_open("line_status")
        return self._asked("line_status", Status(), LineStatus)

    # Wired

    def _connect(self, deadline: Deadline) -> BoardWire:
        library = pyserial()
        if library is None:
            message = "pyserial is not installed; pip install 'analog-labctl[serial]'"
            raise DeviceUnavailable(message, device=self.name, operation="open")
        settings = self.settings
        line = SerialLine(library, self.address, settings.baud, self.wire_log, MAX_ENCODED)
        return BoardWire(line, settings.timeout_s, self._session or Session(0))

    def _identify(self, wire: BoardWire, deadline: Deadline) -> Identity:
        with self._told("open"):
            return self._identified(wire, deadline)

    def _identified(self, wire: BoardWire, deadline: Deadline) -> Identity:
        opened = self._resumed(wire, deadline) or self._begun(wire, deadline)
        identity = blocks.decode_identity(opened.identity)
        wanted = self.settings.serial
        if wanted and identity.serial != wanted:
            raise WrongBox(f"serial number {identity.serial} answers; the rig file says {wanted}")
        require_firmware(identity, OLDEST_FIRMWARE)
        if self._spec is None or self._spec_crc != opened.spec_crc:
            document = wire.download(Region.SPEC, opened.spec_total, opened.spec_crc, deadline)
            self._spec, self._spec_crc = blocks.decode_spec(document), opened.spec_crc
        return identity

    def _resumed(self, wire: BoardWire, deadline: Deadline) -> Opened | None:
        """The answer of a board that still knows the session: a cable was pulled, no more."""
        if self._session is None:
            return None
        try:
            return wire.ask(Open(), Opened, deadline, number=0)
        except Refused:
            self._session = None
            return None

    def _begun(self, wire: BoardWire, deadline: Deadline) -> Opened:
        """A new session; what was loaded is loaded again by `_program`."""
        session = wire.session = Session(1 + secrets.randbelow(0xFFFF))
        welcome = wire.ask(Hello(*VERSIONS), Welcome, deadline, number=0)
        if not VERSIONS[0] <= welcome.version <= VERSIONS[1]:
            raise WireGarbled(f"the board chose version {welcome.version} of {VERSIONS}")
        if not FIRST_PAYLOAD <= welcome.max_payload <= MAX_PAYLOAD:
            raise WireGarbled(f"the board takes {welcome.max_payload} bytes a frame")
        session.version, session.max_payload = welcome.version, welcome.max_payload
        opened = wire.ask(Open(), Opened, deadline, number=0)
        self._session, self._forgot = session, True
        return opened

    def _program(self, wire: BoardWire, deadline: Deadline) -> None:
        image, forgot = self._image, self._forgot
        if forgot and image is not None:
            with self._told("load"):
                self._loaded_over(wire, image, wire.session.next_number(), deadline)
        self._forgot = False

    def _resync(self, wire: BoardWire, deadline: Deadline) -> None:
        wire.drain()  # an answer that still comes has another number than any later question

    def _make_safe(self, wire: BoardWire, deadline: Deadline) -> None:
        with self._told("close"):
            wire.ask(Close(), Empty, deadline)

    def _command_safe(self, wire: BoardWire, deadline: Deadline) -> None:
        if self._session is None:
            raise WireLost("no session is open in which the board could be told to close")
        wire.tell(Close())

    def command_unanswered(self) -> str:
        """As for any wire, and once more: a line that is plugged in again loses what was on it."""
        first = super().command_unanswered()
        time.sleep(AGAIN_S)
        second = super().command_unanswered()
        return first if first.startswith("was") else second

    def _do_close(self) -> None:
        try:
            super()._do_close()
        finally:
            self._session = None

    @contextmanager
    def _told(self, operation: str) -> Iterator[None]:
        """What the board refuses becomes the error that it is; what makes no sense counts as garbled."""
        try:
            yield
        except FormatError as error:
            raise WireGarbled(str(error)) from error
        except Refused as refused:
            code, text = refused.error.code, refused.error.text or "(without a text)"
            if code == ErrorCode.SESSION:
                self._session = None
                raise WireLost("the board was switched on again, or another host opened it") from None
            if code == ErrorCode.INTEGRITY:
                raise WireGarbled(f"a block did not arrive whole: {text}") from None
            if code == ErrorCode.BUSY:
                raise WireBusy(text) from None
            kind = REFUSALS.get(code, DeviceFault)
            about = "" if code in REFUSALS else f"error {code}: "
            raise self._fault(operation, f"{about}{text}", kind) from None

    def _exchange(
        self,
        operation: str,
        work: Callable[[BoardWire, Deadline], T],
        *,
        once: bool = False,
        timeout_s: float | None = None,
    ) -> T:
        def told(wire: BoardWire, deadline: Deadline) -> T:
            with self._told(operation):
                return work(wire, deadline)

        return super()._exchange(operation, told, once=once, timeout_s=timeout_s)

    def _asked(self, operation: str, request: Message, answer: type[A]) -> A:
        return self._exchange(operation, lambda wire, deadline: wire.ask(request, answer, deadline))

    # OscillatorBoard

    def _do_load(self, image: BoardImage) -> LoadReceipt:
        number = _Numbers()

        def work(wire: BoardWire, deadline: Deadline) -> LoadReceipt:
            return self._loaded_over(wire, image, number.of(wire.session), deadline)

        return self._exchange("load", work, timeout_s=self.settings.longest_s)

    def _loaded_over(
        self, wire: BoardWire, image: BoardImage, number: int, deadline: Deadline
    ) -> LoadReceipt:
        wire.upload(Region.IMAGE, blocks.encode_image(self.spec, image), deadline)
        order = Load(image.segments, int(image.topology_hash[:8], 16))
        held = wire.ask(order, Held, deadline, number)
        return LoadReceipt(
            crc=f"{held.image_crc:08x}",
            read_back=bool(held.read_back),
            n_bytes=held.n_bytes,
            duration_us=held.duration_us,
        )

    def _do_loaded(self, operation: str) -> BoardImage | None:
        def work(wire: BoardWire, deadline: Deadline) -> BoardImage | None:
            found = wire.ask(Recall(), Recalled, deadline)
            if not found.segments:
                return None
            block = wire.download(Region.IMAGE, found.total, found.crc, deadline)
            return blocks.decode_image(self.spec, found.segments, block)

        return self._exchange(operation, work, timeout_s=self.settings.longest_s)

    def _do_run(self, codes: RunCodes, read_at_us: NDArray[np.float64]) -> Phases:
        ticks = np.rint(read_at_us / self.spec.tick_us).astype(np.int64)
        try:
            queue = blocks.encode_queue(self.spec, codes, ticks)
        except FormatError as error:
            raise self._refused("run", str(error)) from error
        return self._ordered("run", queue, Run(), Ran, partial(blocks.decode_phases, self.spec))

    def _do_count_frequency(self, gate_us: float, detuning: NDArray[np.int64]) -> FrequencyCount:
        gate = blocks.encode_gate(gate_us, detuning)
        decode = partial(blocks.decode_counts, self.spec)
        return self._ordered("count_frequency", gate, Count(), Counted, decode)

    def _ordered(
        self,
        operation: str,
        block: bytes,
        order: Message,
        answer: type[Ran] | type[Counted],
        decode: Callable[[bytes], T],
    ) -> T:
        """Write what is to be done, have it done once, read what came of it."""
        number = _Numbers()

        def work(wire: BoardWire, deadline: Deadline) -> T:
            wire.upload(Region.QUEUE, block, deadline)
            done = wire.ask(order, answer, deadline, number.of(wire.session))
            result = wire.download(Region.RESULT, done.total, done.crc, deadline)
            return decode(result)

        return self._exchange(operation, work, timeout_s=self.settings.longest_s)

    def _do_temperature_c(self) -> float:
        return self._asked("temperature_c", Temperature(), Warmth).temperature_c

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        answer = self._asked("snapshot", Snapshot(), Settings)
        return blocks.decode_settings(answer.json)


class _Numbers:
    """One order's number in each session that it was tried in: in the same one the board knows it again."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}

    def of(self, session: Session) -> int:
        if session.id not in self._of:
            self._of[session.id] = session.next_number()
        return self._of[session.id]
