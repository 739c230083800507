"""Interlocks: readings that must be good before, during and after a run; missing or frozen counts as bad."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labctl.config_files import nearest
from labctl.devices import ConfigError, Device, DeviceError, InterlockTripped, Scalar

MIN_LOOKS = 3  # at the same value: two looks far apart may meet it by chance
INTERVAL_S = 0.1  # between two looks during a run; a settle takes less


class InterlockConfig(BaseModel):
    """One reading of a device's snapshot, and what is good: `low` to `high`, or a value.

    heartbeat: the reading that shows that the device is alive (empty: the reading itself). frozen_s: so long
    it may stay the same; 0: for ever. absolute: no override passes it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    device: str
    reading: str = Field(min_length=1)
    low: float | None = None
    high: float | None = None
    equals: bool | int | float | str | None = None
    heartbeat: str = ""
    frozen_s: float = Field(default=60.0, ge=0)
    absolute: bool = False

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        ranged = self.low is not None or self.high is not None
        if ranged == (self.equals is not None):
            raise ValueError(f"interlock {self.name!r}: allowed: low, high or both, or equals")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"interlock {self.name!r}: low is {self.low:g}; allowed: at most {self.high:g}")
        if self.equals is not None and self.frozen_s and not self.heartbeat:
            raise ValueError(
                f"interlock {self.name!r}: a reading that only switches does not show that it is alive; "
                "allowed: a heartbeat, or frozen_s = 0"
            )
        return self

    @property
    def allowed(self) -> str:
        """What is good, in words."""
        if self.equals is not None:
            return repr(self.equals)
        low = "any" if self.low is None else f"{self.low:g}"
        return f"{low} to {'any' if self.high is None else f'{self.high:g}'}"


@dataclass
class _Beat:
    """A heartbeat's last value, since when it has been that, and how often it was seen."""

    value: Scalar
    since_s: float
    looks: int = 1


class Interlocks:
    """Looks at all interlocks of a rig. `overridden`: names that are let pass, and why; `passed`: which were,
    and what was wrong then. Raises ConfigError for an override of one that is absolute.
    """

    def __init__(
        self,
        interlocks: Sequence[InterlockConfig],
        devices: Mapping[str, Device],
        overridden: Mapping[str, str] | None = None,
        *,
        alive: Callable[[], str] = lambda: "",
    ) -> None:
        self._interlocks, self._devices, self._alive = tuple(interlocks), devices, alive
        self.overridden = dict(overridden or {})
        self.passed: dict[str, str] = {}
        self._beats: dict[str, _Beat] = {}
        self._looked_s = -math.inf
        for interlock in self._interlocks:
            if interlock.absolute and interlock.name in self.overridden:
                raise ConfigError(
                    f"override of interlock {interlock.name!r}: it is absolute, nothing passes it"
                )

    def check(self, moment: str) -> None:
        """Look now. InterlockTripped, naming every bad reading, unless it is overridden."""
        self._looked_s = time.monotonic()
        bad = [] if not (dead := self._alive()) else [dead]
        snapshots: dict[str, Mapping[str, Scalar] | str] = {}
        for interlock in self._interlocks:
            if interlock.device not in snapshots:
                snapshots[interlock.device] = self._snapshot(interlock.device)
            problem = self._problem(interlock, snapshots[interlock.device])
            if problem and interlock.name in self.overridden:
                self.passed[interlock.name] = problem
            elif problem:
                bad.append(f"interlock {interlock.name}: {problem}; allowed: {interlock.allowed}")
        if bad:
            raise InterlockTripped(f"{moment}: {'; '.join(bad)}")

    def check_now_and_then(self, moment: str) -> None:
        """As `check`, but not more often than every 0.1 s: a snapshot costs a question or more."""
        if time.monotonic() - self._looked_s >= INTERVAL_S:
            self.check(moment)

    def _snapshot(self, name: str) -> Mapping[str, Scalar] | str:
        if name not in self._devices:
            return "the rig is closed"
        try:
            return self._devices[name].snapshot()
        except DeviceError as error:
            return str(error)

    def _problem(self, interlock: InterlockConfig, snapshot: Mapping[str, Scalar] | str) -> str:
        """What is wrong with it; empty where nothing is."""
        if isinstance(snapshot, str):
            return f"{interlock.device}.{interlock.reading} is missing: {snapshot}"
        for key in filter(None, (interlock.reading, interlock.heartbeat)):
            if key not in snapshot:
                return f"{interlock.device}.{key} is missing{nearest(key, snapshot)}"
            if snapshot[key] != snapshot[key]:
                return f"{interlock.device}.{key} is nan: missing"
        value = snapshot[interlock.reading]
        if not self._good(interlock, value):
            return f"{interlock.device}.{interlock.reading} is {value!r}"
        return self._frozen(interlock, snapshot[interlock.heartbeat or interlock.reading])

    @staticmethod
    def _good(interlock: InterlockConfig, value: Scalar) -> bool:
        if interlock.equals is not None:
            return value == interlock.equals
        if isinstance(value, str):
            return False
        low = -math.inf if interlock.low is None else interlock.low
        return low <= value <= (math.inf if interlock.high is None else interlock.high)  # not nan

    def _frozen(self, interlock: InterlockConfig, value: Scalar) -> str:
        now_s = time.monotonic()
        beat = self._beats.get(interlock.name)
        if beat is None or beat.value != value:
            self._beats[interlock.name] = _Beat(value, now_s)
            return ""
        beat.looks += 1
        still_s = now_s - beat.since_s
        if not interlock.frozen_s or still_s <= interlock.frozen_s or beat.looks < MIN_LOOKS:
            return ""
        key = interlock.heartbeat or interlock.reading
        return f"{interlock.device}.{key} has been {value!r} for {still_s:.1f} s: frozen"


def overrides_of(
    texts: Sequence[str], names: Sequence[str], what: str = "software limit or interlock"
) -> dict[str, str]:
    """ "NAME: REASON" by name; `what`: the names are of. ConfigError unless the name is one of these, given
    once, with a reason.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, colon, reason = (part.strip() for part in text.partition(":"))
        if not (colon and name and reason):
            raise ConfigError(f'override {text!r}; allowed: "NAME: REASON"')
        if name not in names:
            raise ConfigError(
                f"override of {name!r}: this rig has no such {what}"
                f"{nearest(name, names)}; allowed: {', '.join(names) or 'none'}"
            )
        if name in found:
            raise ConfigError(f"override of {name!r} stands twice; allowed: once")
        found[name] = reason
    return found
