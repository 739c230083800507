"""Bounded recovery: ask again over a wire that was put in order, a stated number of times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from labctl.devices import DeviceError
from labctl_drivers.link.deadline import Deadline
from labctl_drivers.link.wire_errors import WireBusy, WireError, WireLost

T = TypeVar("T")
W = TypeVar("W")
W_co = TypeVar("W_co", covariant=True)


class Condition(Enum):
    """Of a wire: between two answers; with something on it that nobody waits for; gone."""

    SOUND = "sound"
    UNSURE = "unsure"
    LOST = "lost"


class Line(Protocol[W_co]):
    """A wire that can be put in order. Both raise WireError where that fails."""

    condition: Condition

    def resync(self, deadline: Deadline) -> None:
        """Get rid of whatever still comes."""

    def reconnect(self, deadline: Deadline) -> None:
        """Connect again: the same box, programmed as before."""

    def wire(self) -> W_co:
        """The connected wire."""


@dataclass(frozen=True)
class Patience:
    """attempts in all, each of attempt_s; connecting again may take reopen_s each time."""

    attempts: int
    attempt_s: float
    reopen_s: float
    pause_s: float = 0.02  # between attempts, and between questions to a busy instrument

    @property
    def limit_s(self) -> float:
        """How long `carry_out` takes at the longest, if nothing overruns its own deadline."""
        return self.attempts * (self.reopen_s + 2 * self.attempt_s + self.pause_s) + 2 * self.attempt_s


def carry_out(
    line: Line[W], work: Callable[[W, Deadline], T], patience: Patience, *, once: bool = False
) -> T:
    """`work(wire, deadline)`, again after a WireError as long as there are attempts; then that error.

    A wire in doubt is put in order before each attempt, so that a failure leaves nothing to the next
    exchange. With `once`, work that began is not begun again. A busy instrument is asked again until
    attempt_s is over: that uses up no attempt.
    """
    busy_until: Deadline | None = None
    left = patience.attempts
    while True:
        begun = False
        try:
            _put_in_order(line, patience)
            begun, line.condition = True, Condition.UNSURE
            result = work(line.wire(), Deadline.after(patience.attempt_s))
            line.condition = Condition.SOUND
            return result
        except DeviceError:
            if begun:  # the instrument's own words: the exchange was whole
                line.condition = Condition.SOUND
            raise
        except WireBusy:
            if begun:
                line.condition = Condition.SOUND
            busy_until = busy_until or Deadline.after(patience.attempt_s)
            if busy_until.passed:
                raise
        except WireError as error:
            if isinstance(error, WireLost):
                line.condition = Condition.LOST
            left -= 1
            if left <= 0 or (once and begun):
                raise
        time.sleep(patience.pause_s)


def _put_in_order(line: Line[W], patience: Patience) -> None:
    if line.condition is Condition.UNSURE:
        try:
            line.resync(Deadline.after(patience.attempt_s))
        except WireError:
            line.condition = Condition.LOST
        else:
            line.condition = Condition.SOUND
    if line.condition is Condition.LOST:
        line.reconnect(Deadline.after(patience.reopen_s))
        line.condition = Condition.SOUND
