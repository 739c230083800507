"""The base of every driver of an instrument at the end of a cable.

A driver says how to connect, who answers, what to set again after a reconnect and what is safe, and puts its
questions through `_exchange`. Ownership, queueing, deadlines, recovery, the wire log and closing are here.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from labctl.config_files import first_problem
from labctl.devices import (
    Device,
    DeviceError,
    DeviceFault,
    DeviceTimeout,
    DeviceUnavailable,
    Identity,
)
from labctl_drivers.link.closing import close_at_exit, closed
from labctl_drivers.link.deadline import Deadline
from labctl_drivers.link.identity import WrongBox, require_same
from labctl_drivers.link.ownership import ResourceLock
from labctl_drivers.link.recovery import Condition, Patience, carry_out
from labctl_drivers.link.turns import Stuck, Turns
from labctl_drivers.link.wire_errors import WireBusy, WireError, WireGarbled, WireLost, WireTimeout
from labctl_drivers.link.wire_log import WireLog

T = TypeVar("T")
MAX_TIMEOUT_S = 3600.0
RETRY_S = 0.1  # between attempts to connect to an instrument that was there a moment ago
_MEANINGS: dict[type[WireError], type[DeviceError]] = {
    WireTimeout: DeviceTimeout,
    WireBusy: DeviceTimeout,
    WireGarbled: DeviceFault,
    WireLost: DeviceUnavailable,
}


class Wire(Protocol):
    """A connection, whatever it is made of."""

    def close(self) -> object:
        """Let go of it; also of one that is broken."""


W = TypeVar("W", bound=Wire)


class LinkSettings(BaseModel):
    """Settings that every wired driver has; a driver's own model derives from this one.

    timeout_s: for one answer. attempts: how often an exchange is tried in all. open_timeout_s: to connect and
    identify, and again for each reconnection. lock_wait_s: for another process to let go of the instrument.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    timeout_s: float = 2.0
    attempts: int = Field(default=3, ge=1, le=10)
    open_timeout_s: float = 3.0
    lock_wait_s: float = 0.5

    @field_validator("timeout_s", "open_timeout_s", "lock_wait_s")
    @classmethod
    def _finite(cls, value: float) -> float:
        """Also where a driver's own model has another default."""
        if not 0 < value <= MAX_TIMEOUT_S:
            raise ValueError(f"allowed: above 0 to {MAX_TIMEOUT_S:g} s")
        return value


class Wired(Device, Generic[W]):
    """A device behind a wire of type W. Put it before the interface: class Laser(Wired[TcpWire], InputDrive).

    The constructor checks `settings` against `Settings` (ConfigError names device, field, value, range) and
    talks to nobody. `address` is the resource in the library's own words.
    """

    Settings: ClassVar[type[LinkSettings]] = LinkSettings

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        super().__init__(name)
        self.address = address
        self.wire_log = WireLog()
        self._wire: W | None = None
        self._condition = Condition.SOUND  # of that wire
        self._known: Identity | None = None  # who answered first
        self._turns = Turns()
        self._lock = ResourceLock(address, device=name)
        try:
            self._settings = self.Settings(**settings)
        except ValidationError as error:
            raise first_problem(error, f"device {name!r}: settings", self.Settings) from None

    @property
    def settings(self) -> Any:
        """How the link is set; a Camera's `settings` are the camera's own, and take its place."""
        return self._settings

    # what a driver writes; nothing else talks to the instrument meanwhile

    @abstractmethod
    def _connect(self, deadline: Deadline) -> W:
        """A fresh connection; WireLost where there is none. No question is asked yet."""

    @abstractmethod
    def _identify(self, wire: W, deadline: Deadline) -> Identity:
        """Ask who it is, and for its spec. WrongBox (`require_model`, `require_firmware`) for another."""

    def _program(self, wire: W, deadline: Deadline) -> None:
        """Set what the instrument needs and forgets without power: after connecting and every reconnection.

        Nothing by default.
        """

    @abstractmethod
    def _make_safe(self, wire: W, deadline: Deadline) -> None:
        """Bring it to its safe state: the last thing that `close` asks of it."""

    def _command_safe(self, wire: W, deadline: Deadline) -> None:
        """Command the safe state without waiting for an answer: the last resort of `close`, over a fresh
        connection to an instrument that has not been asked who it is. WireLost where there is no such way.
        """
        raise WireLost("it has no safe state that could be commanded without an answer")

    def _resync(self, wire: W, deadline: Deadline) -> None:
        """Get rid of what still comes of a failed exchange; by default only a new connection does that."""
        raise WireLost("put in order by a new connection")

    # what a driver calls

    def _exchange(
        self,
        operation: str,
        work: Callable[[W, Deadline], T],
        *,
        once: bool = False,
        timeout_s: float | None = None,
    ) -> T:
        """What `work(wire, deadline)` returns, once all that came before it is done.

        After a WireError the wire is put in order (`_resync`, or a new connection to the same box, programmed
        again) and work done again, `attempts` times in all; then DeviceTimeout, DeviceFault (garbled) or
        DeviceUnavailable (lost), with the bytes. `once`: for what must not happen twice; work that has begun
        is not begun again. timeout_s: of one attempt, where it is not the usual one.
        """
        settings = self._settings
        attempt_s = settings.timeout_s if timeout_s is None else timeout_s
        patience = Patience(settings.attempts, attempt_s, settings.open_timeout_s)
        return self._carried_out(operation, work, patience, once=once)

    def _fault(self, operation: str, message: str, kind: type[DeviceError] = DeviceFault) -> DeviceError:
        """An error that names device, operation, resource and bytes, for a driver to raise."""
        return kind(
            f"{message} ({self.address}; {self.wire_log.words()})",
            device=self.name, operation=operation, wire=self.wire_log.last(),
        )  # fmt: skip

    # Device

    def _do_open(self) -> Identity:
        settings = self._settings
        self._lock.acquire(Deadline.after(settings.lock_wait_s))
        try:
            each_s = settings.open_timeout_s / settings.attempts
            patience = Patience(settings.attempts, each_s, each_s)
            who = self._carried_out("open", self._who, patience)
        except BaseException:
            self._let_go()
            raise
        close_at_exit(self)
        return who

    def _who(self, _wire: W, _deadline: Deadline) -> Identity:
        """Who answered when the connection was made."""
        if self._known is None:
            raise WireLost("nobody answered")
        return self._known

    def _do_close(self) -> None:
        settings = self._settings
        try:
            # one more attempt, over a new connection, must do: the next device waits for its turn
            patience = Patience(min(2, settings.attempts), settings.timeout_s, settings.open_timeout_s)
            self._carried_out("close", self._make_safe, patience)
        except BaseException as error:  # an impatient Ctrl-C, too
            if not self._another_answers(error):
                error.add_note(f"{self.name}: its safe state {self.command_unanswered()}")
            raise
        finally:
            self._let_go()

    def _another_answers(self, error: BaseException) -> bool:
        """Whether another box is in this one's place, which is nothing to switch off: asked once more, it
        says the same of itself. A name that comes damaged is another one each time.
        """
        if not isinstance(error.__cause__, WrongBox):
            return False
        settings = self._settings
        try:
            self._carried_out("close", self._who, Patience(1, settings.timeout_s, settings.open_timeout_s))
        except DeviceError as again:
            return isinstance(again.__cause__, WrongBox) and str(again.__cause__) == str(error.__cause__)
        return False

    def command_unanswered(self) -> str:
        """Command the safe state over a fresh connection without waiting for an answer; how that went."""
        deadline = Deadline.after(self._settings.timeout_s)
        self._drop_wire()
        try:
            self._wire = self._connect(deadline)
            self._turns.do("close", partial(self._command_safe, self._wire, deadline), deadline.total_s)
        except (WireError, DeviceError) as error:
            return f"could not be commanded: {error}"
        finally:
            self._drop_wire()
        return "was commanded, without an answer"

    def _carried_out(
        self, operation: str, work: Callable[[W, Deadline], T], patience: Patience, *, once: bool = False
    ) -> T:
        bounded = partial(carry_out, self, work, patience, once=once)
        try:
            return self._turns.do(operation, bounded, patience.limit_s)
        except WireError as error:
            if isinstance(error, Stuck):
                self._drop_wire()  # its connection is taken from it: it comes back, or the next one says so
            kind = next(kind for wire, kind in _MEANINGS.items() if isinstance(error, wire))
            raise self._fault(operation, str(error), kind) from error
        except DeviceError as error:
            if error.wire is None:
                error.wire = self.wire_log.last()
            raise

    def _let_go(self) -> None:
        closed(self)
        self._drop_wire()
        self._lock.release()
        self._known = None

    def _drop_wire(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(Exception):  # a library may raise anything over a broken connection
                wire.close()

    # the Line of `carry_out`

    @property
    def condition(self) -> Condition:
        """Of the wire; LOST without one, whatever was noted of the last."""
        return Condition.LOST if self._wire is None else self._condition

    @condition.setter
    def condition(self, condition: Condition) -> None:
        self._condition = condition

    def wire(self) -> W:
        """The connection; WireLost without one."""
        if self._wire is None:
            raise WireLost("not connected")
        return self._wire

    def resync(self, deadline: Deadline) -> None:
        """See `_resync`."""
        self._resync(self.wire(), deadline)

    def reconnect(self, deadline: Deadline) -> None:
        """Connect (again, until the deadline), identify the same box, program it."""
        self._drop_wire()
        wire = self._connected(deadline)
        try:
            found = self._identify(wire, deadline)
            if self._known is not None:
                require_same(found, self._known)
            self._program(wire, deadline)
        except BaseException:
            with suppress(Exception):
                wire.close()
            raise
        self._wire, self._known = wire, found

    def _connected(self, deadline: Deadline) -> W:
        """A cable may be back in a moment; one that never was there is not waited for."""
        while True:
            try:
                return self._connect(deadline)
            except WireLost as error:
                if self._known is None:
                    raise self._fault("open", str(error), DeviceUnavailable) from error
                if deadline.left_s < RETRY_S:
                    raise
            time.sleep(RETRY_S)
