"""Control charts of many series at once: EWMA and CUSUM, limits from the rate of false alarms."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError
from labctl_calibration.drift.run_length import Design, limit_for

FloatArray = NDArray[np.float64]
EWMA = Design("ewma", 0.4)  # slow changes, small ones
CUSUM = Design("cusum", 1.5)  # steps of some 3 sd at once
DESIGNS = (EWMA, CUSUM)
DAY_S = 86400.0


@dataclass(frozen=True, eq=False)
class Baseline:
    """What m series read while nothing was wrong: names, mean [m], sd [m] of one reading around it, error [m]
    of the mean (standard), and degrees of freedom of the sd.

    Built from a stretch of readings by `of`, or from a record that states value and uncertainty.
    """

    names: tuple[str, ...]
    mean: FloatArray
    sd: FloatArray
    error: FloatArray
    degrees: float

    def __post_init__(self) -> None:
        shape = (len(self.names),)
        for name in ("mean", "sd", "error"):
            values = getattr(self, name)
            if np.shape(values) != shape or not np.isfinite(values).all():
                raise ConfigError(
                    f"baseline {name} has shape {np.shape(values)}; allowed: {shape}, finite numbers"
                )
        flat = [name for name, sd in zip(self.names, self.sd, strict=True) if not sd > 0]
        if flat:
            raise ConfigError(
                f"baseline of {', '.join(flat[:4])}: the sd is 0; allowed: readings that scatter"
            )

    @classmethod
    def of(cls, names: tuple[str, ...], readings: FloatArray, sd: FloatArray | None = None) -> Baseline:
        """From readings [N, m] of a time in which the device was in order; sd [m] in place of their own
        scatter. ConfigError for fewer than 8.
        """
        count = len(readings)
        if count < 8:
            raise ConfigError(f"a baseline of {count} readings; allowed: 8 or more")
        sd = readings.std(axis=0, ddof=1) if sd is None else sd
        return cls(names, readings.mean(axis=0), sd, sd / math.sqrt(count), count - 1.0)

    def standardised(self, reading: FloatArray) -> FloatArray:
        """A reading [m] in sd from the mean."""
        return np.asarray((reading - self.mean) / self.sd)

    def among(self, keep: NDArray[np.bool_]) -> Baseline:
        """Of these series [m] alone."""
        names = tuple(name for name, one in zip(self.names, keep, strict=True) if one)
        return Baseline(names, self.mean[keep], self.sd[keep], self.error[keep], self.degrees)


@dataclass(frozen=True)
class Alarm:
    """One series left its limits: which, the chart that saw it, its statistic over its limit (1 or more), the
    value and the baseline in the series' unit.
    """

    index: int
    name: str
    chart: str
    over: float
    value: float
    baseline: float

    @property
    def change(self) -> float:
        """Of the value against the baseline."""
        return self.value - self.baseline


@dataclass(frozen=True, eq=False)
class Charts:
    """The state of all charts after some readings: EWMA z [m], CUSUM up and down [m], readings so far.

    limits: of EWMA and CUSUM, in units of sd. Immutable; `after` gives the next state.
    """

    baseline: Baseline
    limits: tuple[float, float]
    z: FloatArray
    up: FloatArray
    down: FloatArray
    count: int = 0

    @classmethod
    def new(cls, baseline: Baseline, *, interval_s: float, alarms_per_day: float = 1.0) -> Charts:
        """Charts that together give `alarms_per_day` false alarms where they read every `interval_s`.

        The budget is shared equally between all series and both charts of each (a bound that holds however
        they go together). ConfigError for what cannot be had: see `limit_for`.
        """
        if not interval_s > 0:
            raise ConfigError(f"interval_s is {interval_s}; allowed: above 0")
        if not alarms_per_day > 0:
            raise ConfigError(f"alarms_per_day is {alarms_per_day}; allowed: above 0")
        m = len(baseline.names)
        rate = min(alarms_per_day * interval_s / DAY_S / (len(DESIGNS) * max(m, 1)), 0.2)
        worst = float((baseline.error / baseline.sd).max()) if m else 0.0
        # three digits: charts of like baselines share their limits' computation
        limits = tuple(
            limit_for(one, float(f"{rate:.3g}"), float(f"{worst:.3g}"), baseline.degrees) for one in DESIGNS
        )
        zero = np.zeros(m)
        return cls(baseline, (limits[0], limits[1]), zero, zero, zero)

    @property
    def over(self) -> FloatArray:
        """Each statistic over its limit [2, m]: EWMA, CUSUM; above 1 is an alarm."""
        reach = self.limits[0] * math.sqrt(EWMA.parameter / (2 - EWMA.parameter))
        return np.stack([np.abs(self.z) / reach, np.maximum(self.up, self.down) / self.limits[1]])

    def after(self, reading: FloatArray) -> tuple[Charts, tuple[Alarm, ...]]:
        """With one more reading [m]: the new state and its alarms, the farthest out first.

        A reading that is not a number is an alarm itself.
        """
        x = self.baseline.standardised(np.asarray(reading, np.float64))
        lost = ~np.isfinite(x)
        x = np.where(lost, 0.0, x)
        after = replace(
            self,
            z=(1 - EWMA.parameter) * self.z + EWMA.parameter * x,
            up=np.maximum(0.0, self.up + x - CUSUM.parameter),
            down=np.maximum(0.0, self.down - x - CUSUM.parameter),
            count=self.count + 1,
        )
        over = np.where(lost, np.inf, after.over)
        which = over.argmax(axis=0)
        alarms = [
            Alarm(
                i, self.baseline.names[i], DESIGNS[which[i]].kind, float(over[which[i], i]),
                float(reading[i]), float(self.baseline.mean[i]),
            )
            for i in map(int, np.flatnonzero(over.max(axis=0) > 1))
        ]  # fmt: skip
        return after, tuple(sorted(alarms, key=lambda alarm: -alarm.over))

    def afresh(self) -> Charts:
        """The same limits, nothing seen yet: after an alarm was dealt with."""
        zero = np.zeros(len(self.baseline.names))
        return replace(self, z=zero, up=zero, down=zero, count=0)
