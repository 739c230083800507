"""One look at a device: raw readings, and the series that control charts follow, against a reference look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Device
from labctl_calibration.drift.charts import Baseline

FloatArray = NDArray[np.float64]
TINY = 1e-12
# Share of what is large (`UNIT_OF`) by which a machine may differ from look to look, sd: as much as the
# loop's own noise on the default rig (conventions, section 2), so that nobody sees it in a result.
HARMLESS = 0.001
# What is large in each unit: a full-scale weight's light or state, a radian, a microsecond.
UNIT_OF = {"": 1.0, "units": 1.0, "rad": 1.0, "us": 1.0}
MOST_SCATTER = 0.02  # of a relative series: what scatters more tells nothing of a change by 1%


@dataclass(frozen=True)
class Group:
    """Series of one sort. name: of a single one, or in front of "of row 7". kind, procedure and device: whose
    record is in doubt when they move. unit "" is relative to the reference. words: what has changed then.
    explained_by: names of groups whose change moves these too.
    """

    name: str
    kind: str
    procedure: str
    device: type[Device]
    unit: str
    words: str
    explained_by: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Look:
    """Raw readings by name, and the device time they took."""

    arrays: Mapping[str, FloatArray]
    device_us: float


@dataclass(frozen=True, eq=False)
class Reading:
    """Series by name, in order: values [m], which group each belongs to [m], and the least sd [m] that a
    reading has by its converters' steps: scatter of a few readings may not show it.
    """

    names: tuple[str, ...]
    values: FloatArray
    groups: tuple[Group, ...]
    least_sd: FloatArray


class Prober(Protocol):
    """A small fixed set of probes of one device, by its interface. What is on display or loaded stays."""

    @property
    def title(self) -> str:
        """What is looked at, for people."""
        ...

    @property
    def device_us(self) -> float:
        """Expected device time of one look."""
        ...

    def look(self) -> Look:
        """Read once; DeviceFault where the device cannot be read."""
        ...

    def reading(self, look: Look, reference: Look) -> Reading:
        """Series of a look against a reference."""
        ...


@dataclass(frozen=True, eq=False)
class Learnt:
    """What charts start from: the reference (mean of the looks), and every series' baseline; `groups` [m]."""

    reference: Look
    baseline: Baseline
    groups: tuple[Group, ...]
    keep: NDArray[np.bool_]

    def values(self, prober: Prober, look: Look) -> FloatArray:
        """The charted series [m] of a look."""
        return prober.reading(look, self.reference).values[self.keep]

    def with_stated(self, stated: Mapping[str, tuple[float, float]]) -> Learnt:
        """The same with means and their standard uncertainties as records state them, by name of series;
        where a record is less sure than a single reading, the looks stay.
        """
        mean, error = self.baseline.mean.copy(), self.baseline.error.copy()
        for at, name in enumerate(self.baseline.names):
            if name in stated and stated[name][1] <= self.baseline.sd[at]:
                mean[at], error[at] = stated[name]
        return replace(self, baseline=replace(self.baseline, mean=mean, error=error))


def learn(prober: Prober, looks: Sequence[Look], harmless: float = HARMLESS) -> Learnt:
    """Reference and baselines of looks at a device in order. ConfigError for fewer than 8.

    Left out are relative series that scatter by more than `MOST_SCATTER`, and those that never move.
    """
    names = looks[0].arrays if looks else ()
    reference = Look(
        {name: np.mean([look.arrays[name] for look in looks], axis=0) for name in names}, prober.device_us
    )
    values = np.stack([prober.reading(one, reference).values for one in looks])
    return learnt_of(prober, reference, values, harmless)


def learnt_of(prober: Prober, reference: Look, values: FloatArray, harmless: float = HARMLESS) -> Learnt:
    """From a reference and series [N, M] read against it. `harmless`: sd between days that matters to nobody,
    of relative series and, times `UNIT_OF`, of the others; it is added to the scatter.
    """
    reading = prober.reading(reference, reference)
    seen = values.std(axis=0, ddof=1)
    of_unit = np.array([UNIT_OF[group.unit] for group in reading.groups])
    sd = np.sqrt(np.maximum(seen, reading.least_sd) ** 2 + (harmless * of_unit) ** 2)
    relative = np.array([not group.unit for group in reading.groups])
    with np.errstate(invalid="ignore"):
        keep = np.isfinite(values).all(axis=0) & (sd > TINY) & ~(relative & (seen > MOST_SCATTER))
    names = tuple(name for name, one in zip(reading.names, keep, strict=True) if one)
    groups = tuple(group for group, one in zip(reading.groups, keep, strict=True) if one)
    found = Baseline.of(names, values[:, keep], sd[keep])
    if keep.any():  # only what was seen is uncertain of the sd (Welch and Satterthwaite)
        known = float(((sd[keep] / np.maximum(seen[keep], TINY)) ** 4).min())
        found = replace(found, degrees=found.degrees * known)
    return Learnt(reference, found, groups, keep)
