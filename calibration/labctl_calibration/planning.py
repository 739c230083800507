"""What of a calibration is to be done, in the order in which one thing rests on the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from labctl.config_files import nearest
from labctl.devices import ConfigError, DataError
from labctl_calibration.procedure import Devices, Procedure
from labctl_calibration.staleness import Standing, Why, explain
from labctl_calibration.store import RecordStore
from labctl_calibration.taking import Circumstances, identity_of

NEVER_PASSED: tuple[Why, ...] = ("missing", "clock")  # no reason that a person gives makes up for these


@dataclass(frozen=True)
class Wish:
    """What a person asked for. only: this procedure alone. again: this one, whether it is in order or not.
    overrides: reasons, by procedure, to go on with a record that is stale or was not accepted.
    """

    only: str | None = None
    again: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)

    def check(self, procedures: Sequence[Procedure]) -> None:
        """ConfigError for a name that is no procedure of this rig."""
        names = [procedure.name for procedure in procedures]
        asked = (("--only", self.only), ("--again", self.again), *(("--override", n) for n in self.overrides))
        for option, name in asked:
            if name is not None and name not in names:
                raise ConfigError(
                    f"{option} is {name!r}, which is no procedure of this rig{nearest(name, names)}; "
                    f"allowed: {', '.join(names) or 'none'}"
                )
        if self.only and self.again and self.only != self.again:
            raise ConfigError(f"--only is {self.only!r} and --again {self.again!r}; allowed: the same")


@dataclass(frozen=True)
class Step:
    """A procedure, how its record stands, and how long it takes (device time)."""

    procedure: Procedure
    standing: Standing
    duration_s: float


@dataclass(frozen=True)
class Plan:
    """due: to be measured, in order. perhaps: in order by themselves, and to be measured only if what they
    rest on turns out to have changed beyond its uncertainty. in_use: to be left alone.
    """

    due: tuple[Step, ...]
    perhaps: tuple[Step, ...]
    in_use: tuple[Step, ...]

    @property
    def duration_s(self) -> float:
        """Of what is due."""
        return sum(step.duration_s for step in self.due)


class Bench:
    """The procedures of a set of devices and the records they left: how each of them stands."""

    def __init__(
        self,
        procedures: Sequence[Procedure],
        devices: Devices,
        store: RecordStore,
        circumstances: Circumstances | None = None,
    ) -> None:
        self.procedures = in_order(procedures)
        self.devices, self.store = devices, store
        self.circumstances = circumstances or Circumstances()
        self.by_kind = {procedure.kind: procedure for procedure in self.procedures}

    def standing(self, procedure: Procedure, now: datetime) -> Standing:
        """How its record stands."""
        return explain(
            self.store,
            procedure.kind,
            identity_of(procedure, self.devices),
            now,
            self.circumstances.settings_for(procedure),
            needs=procedure.needs,
        )

    def due(self, procedure: Procedure, standing: Standing, wish: Wish) -> bool:
        """Whether it is to be measured."""
        if wish.only is not None and procedure.name != wish.only:
            return False
        if wish.again == procedure.name:
            return True
        return not standing.in_order and not passed(procedure, standing, wish)

    def plan(self, now: datetime, wish: Wish | None = None) -> Plan:
        """What is due now. Raises what `Wish.check` and `require_clock` do, and ConfigError where the one
        procedure asked for rests on what is missing or not in order.
        """
        asked = wish or Wish()
        asked.check(self.procedures)
        standings = {one.kind: self.standing(one, now) for one in self.procedures}
        require_clock(standings.values())
        due, perhaps, in_use = [], [], []
        touched: set[str] = set()
        for procedure in self.procedures:
            standing = standings[procedure.kind]
            step = Step(procedure, standing, procedure.duration_s(self.devices))
            if self.due(procedure, standing, asked):
                if asked.only:
                    self._require_needs(procedure, standings, asked)
                due.append(step)
                touched.add(procedure.kind)
            elif asked.only is None and touched & set(procedure.needs):
                perhaps.append(step)
                touched.add(procedure.kind)
            else:
                in_use.append(step)
        return Plan(tuple(due), tuple(perhaps), tuple(in_use))

    def _require_needs(self, procedure: Procedure, standings: Mapping[str, Standing], wish: Wish) -> None:
        for kind in procedure.needs:
            below, standing = self.by_kind[kind], standings[kind]
            if standing.in_order or passed(below, standing, wish):
                continue
            way = "" if standing.stored is None else f', or --override "{below.name}: REASON"'
            raise ConfigError(
                f"{procedure.name} rests on {below.name}, which is not in order: {standing.words}; allowed: "
                f"without --only{way}"
            )


def passed(procedure: Procedure, standing: Standing, wish: Wish) -> bool:
    """Whether a person's reason lets a record that is not in order be used."""
    return (
        procedure.name in wish.overrides and not standing.because_of(*NEVER_PASSED) and bool(standing.stored)
    )


def require_clock(standings: Iterable[Standing]) -> None:
    """DataError for a record that was taken in the future: new ones would sort before it."""
    for standing in standings:
        for reason in standing.reasons:
            if reason.why == "clock":
                raise DataError(
                    f"{standing.kind} of {standing.device_serial}: {reason.words}; allowed: a clock that is "
                    "right, or a folder of records without it"
                )


def in_order(procedures: Sequence[Procedure]) -> tuple[Procedure, ...]:
    """Each after all that it needs, and otherwise as they came. ConfigError for a name or kind that stands
    twice, for a need that none of them leaves, and for procedures that need each other.
    """
    for what in ("name", "kind"):
        seen: set[str] = set()
        for procedure in procedures:
            value = getattr(procedure, what)
            if value in seen:
                raise ConfigError(f"two procedures have the {what} {value!r}; allowed: one")
            seen.add(value)
    waiting, done = list(procedures), list[Procedure]()
    kinds = {procedure.kind for procedure in procedures}
    for procedure in waiting:
        for need in procedure.needs:
            if need not in kinds:
                raise ConfigError(
                    f"procedure {procedure.name!r} needs {need!r}; allowed: {', '.join(sorted(kinds))}"
                )
    while waiting:
        have = {procedure.kind for procedure in done}
        ready = next((one for one in waiting if set(one.needs) <= have), None)
        if ready is None:
            raise ConfigError(
                f"procedures {', '.join(one.name for one in waiting)} need each other; allowed: an order"
            )
        waiting.remove(ready)
        done.append(ready)
    return tuple(done)
