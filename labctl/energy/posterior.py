"""What must be true: intervals of a result, and which constants a claim would move, and how far.

Constants are drawn independently from their intervals (`Constants.draws`). A claim is an event about the
result; the posterior is the prior's draws for which it holds (rejection). Where it holds in hardly any, the
hundredth of the draws that comes nearest to it stands in, and that is said. For each constant that the result
reads:

- moved: the largest difference between the distribution functions of posterior and prior, 0 to 1 (Kolmogorov
  and Smirnov). Below `floor` it is not told from chance: the 5% level, divided among the constants.
- its posterior median and 90% interval, in its own unit.
- share: of the prior variance of ln(result), what this constant alone explains (first-order Sobol index, from
  conditional means in equal bins, less what the bins' noise gives).
- alone: the value within its interval at which the claim holds with every other constant at its own value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labctl.devices.errors import ConfigError
from labctl.energy.constants import Draws, FloatArray, Value

LEVEL = 0.05  # of the test against chance
BISECTIONS = 60
Result = Callable[[Mapping[str, Value]], Value]  # constants -> what the claim is about
FEWEST_KEPT = 50  # draws that a posterior can be told from
NEAREST = 0.01  # share of the draws that stands in where fewer are kept
BINS = 32


@dataclass(frozen=True)
class Interval:
    """A result: at the constants' own values, and the draws' 5%, 50% and 95% quantiles."""

    value: float
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Moved:
    """One constant under a claim; see the module. low, median, high: posterior 5%, 50%, 95%.

    alone is None where no value of its interval is enough, or where the claim holds as it is.
    """

    name: str
    moved: float
    low: float
    median: float
    high: float
    prior_median: float
    share: float
    alone: float | None


@dataclass(frozen=True)
class Posterior:
    """A claim held against the draws. prior_share: of them for which it holds.

    at_own: the result at the constants' own values; at_own_holds: whether the claim holds there. lowest,
    highest: the result with every constant at the end of its interval that lowers, or raises, it.
    nearest: lowest and highest result of the draws that stand in, None where the claim's own are taken.
    ranking: constants, the most moved first; empty where the claim holds in all draws.
    explained: sum of the shares; the rest is of constants acting together.
    """

    claim: str
    draws: int
    kept: int
    at_own: float
    at_own_holds: bool
    lowest: float
    highest: float
    nearest: tuple[float, float] | None
    floor: float
    explained: float
    ranking: tuple[Moved, ...]

    @property
    def prior_share(self) -> float:
        """Share of the draws for which the claim holds."""
        return self.kept / self.draws


def interval(value: Value, drawn: Value) -> Interval:
    """A result at the constants' own values, beside its draws [S] (or one number, where all are certain)."""
    low, median, high = np.quantile(np.atleast_1d(drawn), (0.05, 0.5, 0.95))
    return Interval(float(value), float(low), float(median), float(high))


@dataclass(frozen=True)
class Target:
    """Where a claim holds: low <= result <= high, with `slack` (a share) to both sides for the draws."""

    low: float
    high: float = math.inf
    slack: float = 0.0

    def holds(self, result: FloatArray) -> NDArray[np.bool_]:
        """For each draw [S]."""
        return np.asarray((result >= self.low / (1 + self.slack)) & (result <= self.high * (1 + self.slack)))

    def beside(self, result: float) -> float:
        """Which end the result must come to: low from below, high from above; itself inside."""
        return min(max(result, self.low), self.high)


def posterior(claim: str, draws: Draws, result: Result, target: Target) -> Posterior:
    """Condition the draws on the claim; rank the constants that the result reads.

    Raises ConfigError for a result that is not positive, whose logarithm the shares need.
    """
    drawn = np.broadcast_to(np.asarray(result(draws.values), float), (draws.count,))
    if not (np.isfinite(drawn) & (drawn > 0)).all():
        raise ConfigError(f"{claim}: the result must be above 0 in every draw")
    holds = target.holds(drawn)
    kept, count = int(holds.sum()), len(drawn)
    own = draws.constants.values()
    read = [name for name in draws.u if _reads(result, own, draws, name)]
    at_own = float(result(own))
    at_own_holds = bool(target.holds(np.array([at_own]))[0])
    lowest, highest = _extremes(result, own, draws, read)
    told = Posterior(claim, count, kept, at_own, at_own_holds, lowest, highest, None, math.inf, math.nan, ())
    if kept == count or not read:
        return told
    if kept < FEWEST_KEPT:
        holds = _nearest(drawn, target)
        told = replace(told, nearest=(float(drawn[holds].min()), float(drawn[holds].max())))
    floor = math.sqrt(-math.log(LEVEL / len(read) / 2) / 2 / holds.sum())  # the distance's asymptotic law
    ranking = []
    for name in read:
        constant, u = draws.constants[name], draws.u[name]
        low, median, high = constant.at(np.quantile(u[holds], (0.05, 0.5, 0.95)))
        ranking.append(
            Moved(
                name,
                distance(u[holds]),
                float(low),
                float(median),
                float(high),
                float(constant.at(np.array([0.5]))[0]),
                explained_share(u, np.log(drawn)),
                None if at_own_holds else _alone(result, own, draws, name, target),
            )
        )
    ranking.sort(key=lambda one: -one.moved)
    explained = sum(one.share for one in ranking)
    return replace(told, floor=floor, explained=explained, ranking=tuple(ranking))


def _nearest(drawn: FloatArray, target: Target) -> NDArray[np.bool_]:
    """The draws [S] whose result is the fewest factors away from the target."""
    off = np.abs(np.log(drawn / np.clip(drawn, target.low, target.high)))
    return np.asarray(off <= np.quantile(off, NEAREST))


def _at(result: Result, own: Mapping[str, Value], draws: Draws, name: str, u: float) -> float:
    """The result with one constant at its quantile u and every other at its own value."""
    value = float(draws.constants[name].at(np.array([u]))[0])
    return float(result({**own, name: value}))


def _reads(result: Result, own: Mapping[str, Value], draws: Draws, name: str) -> bool:
    return _at(result, own, draws, name, 0.0) != _at(result, own, draws, name, 1.0)


def _extremes(result: Result, own: Mapping[str, Value], draws: Draws, read: list[str]) -> tuple[float, float]:
    """The result with every constant at its lowering end, and at its raising end, as each acts alone."""
    lowering, raising = dict(own), dict(own)
    for name in read:
        ends = sorted((_at(result, own, draws, name, u), u) for u in (0.0, 1.0))
        lowering[name] = float(draws.constants[name].at(np.array([ends[0][1]]))[0])
        raising[name] = float(draws.constants[name].at(np.array([ends[1][1]]))[0])
    return float(result(lowering)), float(result(raising))


def _alone(result: Result, own: Mapping[str, Value], draws: Draws, name: str, target: Target) -> float | None:
    """By bisection: every result of the ledger is monotone in each constant."""
    wanted = target.beside(float(result(own)))
    low, high = 0.0, 1.0
    at_low, at_high = (_at(result, own, draws, name, end) for end in (low, high))
    if not min(at_low, at_high) <= wanted <= max(at_low, at_high):
        return None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if (_at(result, own, draws, name, middle) < wanted) == (at_low < at_high):
            low = middle
        else:
            high = middle
    return float(draws.constants[name].at(np.array([(low + high) / 2]))[0])


def distance(u: FloatArray) -> float:
    """Kolmogorov-Smirnov distance of quantiles u [K] from uniform on [0, 1]."""
    ordered, k = np.sort(u), len(u)
    steps = np.arange(k)
    return float(max(np.max((steps + 1) / k - ordered), np.max(ordered - steps / k)))


def explained_share(u: FloatArray, y: FloatArray) -> float:
    """Share of the variance of y [S] that the mean of y given u explains; 0 where chance explains as much."""
    variance = float(np.var(y))
    if variance == 0.0:
        return 0.0
    which = np.minimum((u * BINS).astype(np.int64), BINS - 1)
    sizes = np.bincount(which, minlength=BINS)
    full = sizes > 1
    means = np.bincount(which, y, BINS)[full] / sizes[full]
    squares = np.bincount(which, y * y, BINS)[full] / sizes[full]
    within = np.maximum(squares - means**2, 0.0) * sizes[full] / (sizes[full] - 1)
    between = np.average((means - y.mean()) ** 2, weights=sizes[full])
    chance = np.average(within / sizes[full], weights=sizes[full])
    return float(np.clip((between - chance) / variance, 0.0, 1.0))


def told_apart(found: Posterior) -> tuple[Moved, ...]:
    """The constants that the claim moves by more than chance."""
    return tuple(one for one in found.ranking if one.moved > found.floor)
