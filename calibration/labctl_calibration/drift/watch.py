"""A watch: looks at a device now and then within a share of its time, charts them, says what left them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from labctl.devices import ConfigError
from labctl_calibration.drift.charts import Alarm, Charts
from labctl_calibration.drift.look import Group, Learnt, Look, Prober, learn

LEARN = 32  # looks of a baseline
MOST_DUTY = 0.02  # of device time


@dataclass(frozen=True)
class Pace:
    """How often to look. every_s: device time from look to look, at least. duty: the share of it that looks
    may take. alarms_per_day: false ones, expected in 24 h at that interval.
    """

    every_s: float = 1.0
    duty: float = MOST_DUTY
    alarms_per_day: float = 0.5

    def __post_init__(self) -> None:
        if not self.every_s >= 0:
            raise ConfigError(f"every_s is {self.every_s}; allowed: 0 or more")
        if not 0 < self.duty <= MOST_DUTY:
            raise ConfigError(f"duty is {self.duty}; allowed: above 0, up to {MOST_DUTY}")
        if not 0 < self.alarms_per_day <= 1:
            raise ConfigError(f"alarms_per_day is {self.alarms_per_day}; allowed: above 0, up to 1")

    def interval_s(self, look_us: float) -> float:
        """From look to look, where looks take so long."""
        return max(self.every_s, look_us * 1e-6 / self.duty)


@dataclass(frozen=True)
class Drifted:
    """Series of one group left their charts at the same look: the record of `group.kind` is in doubt.

    alarms: the farthest out first.
    """

    group: Group
    alarms: tuple[Alarm, ...]

    @property
    def words(self) -> str:
        """What is different, and by how much."""
        return f"{self.group.words} changed: {in_words(self.alarms, self.group)}"


def in_words(alarms: Sequence[Alarm], group: Group) -> str:
    """The farthest series, its change, and how many more."""
    first = alarms[0]
    change = f"{100 * first.change:+.2g}%" if not group.unit else f"{first.change:+.2g} {group.unit}"
    more = f", and {len(alarms) - 1} more" if len(alarms) > 1 else ""
    return f"{first.name} by {change}{more}"


def by_group(alarms: Sequence[Alarm], groups: Sequence[Group]) -> tuple[Drifted, ...]:
    """Alarms of one look, one entry for each record in doubt, the farthest out first; what another group's
    change explains is left to that.
    """
    moved = {groups[alarm.index].name for alarm in alarms}
    found: dict[str, list[Alarm]] = {}
    of: dict[str, Group] = {}
    for alarm in alarms:
        group = groups[alarm.index]
        if moved & set(group.explained_by):
            continue
        found.setdefault(group.kind, []).append(alarm)
        of.setdefault(group.kind, group)
    return tuple(Drifted(of[kind], tuple(ones)) for kind, ones in found.items())


@dataclass
class Watch:
    """Looks, and charts them. Without `learnt` the first `LEARN` looks are its baseline.

    device_us: what looks took; those of the baseline stand apart, in `learning_us`. muted: kinds of records
    of which nothing more is told: that they drifted is known, and nothing was done.
    """

    prober: Prober
    pace: Pace = field(default_factory=Pace)
    learnt: Learnt | None = None
    looks: int = 0
    device_us: float = 0.0
    learning_us: float = 0.0
    charts: Charts | None = None
    muted: set[str] = field(default_factory=set)
    _last_s: float = -float("inf")

    def learn(self, count: int = LEARN) -> tuple[Look, ...]:
        """Read a baseline at once, from which charts start anew; its looks."""

        looks = tuple(self.prober.look() for _ in range(count))
        self.learning_us += sum(look.device_us for look in looks)
        self.use(learn(self.prober, looks))
        return looks

    def use(self, learnt: Learnt) -> None:
        """Start charts from a baseline. ConfigError where no limits give the rate that is asked for."""
        self.learnt = learnt
        self.charts = Charts.new(
            learnt.baseline,
            interval_s=self.pace.interval_s(self.prober.device_us),
            alarms_per_day=self.pace.alarms_per_day,
        )

    def due(self, now_s: float, used_us: float) -> bool:
        """Whether to look at this time, where the device worked `used_us` beside the looks."""
        budget_us = self.pace.duty * (used_us + self.device_us)
        later = now_s - self._last_s >= self.pace.interval_s(self.prober.device_us)
        return self.charts is not None and later and self.device_us + self.prober.device_us <= budget_us

    def look(self, now_s: float) -> tuple[Drifted, ...]:
        """Read once, and say what left its charts. ConfigError before there is a baseline."""
        if self.learnt is None or self.charts is None:
            raise ConfigError("the watch has no baseline; allowed: after learn() or use()")
        seen = self.prober.look()
        self.looks, self._last_s = self.looks + 1, now_s
        self.device_us += seen.device_us
        self.charts, alarms = self.charts.after(self.learnt.values(self.prober, seen))
        found = by_group(alarms, self.learnt.groups)
        return tuple(one for one in found if one.group.kind not in self.muted)

    @property
    def worst(self) -> float:
        """The statistic nearest to its limit, over it (1 is an alarm)."""
        return 0.0 if self.charts is None else float(self.charts.over.max(initial=0.0))
