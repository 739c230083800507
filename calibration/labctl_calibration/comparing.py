"""Two records of a kind side by side: what changed, in units of what both of them are uncertain by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl_calibration.procedure import SD, Quantity
from labctl_calibration.store import Stored

FloatArray = NDArray[np.float64]
# In combined standard uncertainties. Uncertainties are estimates themselves, and a device drifts a little
# between any two looks: the limits stand well clear of both.
SINGLE = 3.0  # of one number
TYPICAL = 2.0  # of an array, root mean square
WORST = 8.0  # of an array's worst element: one channel that died is a change


@dataclass(frozen=True)
class Change:
    """One number of two records, or an array by its mean and its worst element.

    sigmas: the change over the combined standard uncertainty (of an array: root mean square); worst: of the
    element that changed most. Both are infinite where something changed that is stated to be certain, and NaN
    where no uncertainty is stated.
    """

    name: str
    old: float
    new: float
    unit: str
    sigmas: float
    worst: float
    single: bool

    @property
    def agrees(self) -> bool:
        """Whether old and new are the same as far as they are known; False where nothing is known."""
        if self.single:
            return bool(abs(self.sigmas) <= SINGLE)
        return bool(self.sigmas <= TYPICAL and self.worst <= WORST)

    @property
    def words(self) -> str:
        """The change in words."""
        if self.single:
            return f"{self.name} by {self.sigmas:+.1f} combined uncertainties"
        return f"{self.name} by {self.sigmas:.1f} combined uncertainties rms, {self.worst:.1f} at worst"


@dataclass(frozen=True)
class Comparison:
    """All that can be compared; `reshaped` names arrays that only one of them has, or in another shape."""

    changes: tuple[Change, ...]
    reshaped: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether what is stated with an uncertainty agrees; False where nothing is."""
        stated = self.stated
        return bool(stated) and not self.reshaped and all(change.agrees for change in stated)

    @property
    def stated(self) -> tuple[Change, ...]:
        """Those with an uncertainty."""
        return tuple(change for change in self.changes if not np.isnan(change.sigmas))

    @property
    def words(self) -> str:
        """Why they agree or not."""
        if self.reshaped:
            return f"{', '.join(self.reshaped)} of another shape"
        if not self.stated:
            return "it states no uncertainty by which to compare"
        moved = [change for change in self.stated if not change.agrees]
        if not moved:
            return "its values agree within their uncertainty"
        first = sorted(moved, key=lambda change: -abs(change.sigmas))[:3]
        more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
        return "changed: " + "; ".join(change.words for change in first) + more


def compare(old: Stored, new: Stored) -> Comparison:
    """Quantities that both state, and arrays that both have with an array of standard uncertainties."""
    before = {one.name: one for one in old.about.quantities}
    changes = [_of_quantity(before[one.name], one) for one in new.about.quantities if one.name in before]
    reshaped = []
    ours, theirs = old.record.arrays, new.record.arrays
    for name in sorted(set(ours) | set(theirs)):
        if name.endswith(SD) and name.removesuffix(SD) in theirs:
            continue
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape:
            reshaped.append(name)
        elif name + SD in ours and name + SD in theirs:
            old_parts = np.asarray(ours[name], np.float64), np.asarray(ours[name + SD], np.float64)
            new_parts = np.asarray(theirs[name], np.float64), np.asarray(theirs[name + SD], np.float64)
            changes.append(_of_arrays(name, *old_parts, *new_parts))
    return Comparison(tuple(changes), tuple(reshaped))


def _of_quantity(old: Quantity, new: Quantity) -> Change:
    combined = float(np.hypot(old.sd, new.sd))
    sigmas = float(_in_sigmas(np.array(new.value - old.value), np.array(combined)))
    if not np.isfinite(old.value) and old.value == new.value:
        sigmas = 0.0
    return Change(new.name, old.value, new.value, new.unit, sigmas, abs(sigmas), True)


def _of_arrays(name: str, old: FloatArray, old_sd: FloatArray, new: FloatArray, new_sd: FloatArray) -> Change:
    sigmas = np.abs(_in_sigmas(new - old, np.hypot(old_sd, new_sd)))
    known = sigmas[~np.isnan(sigmas)]
    rms = float(np.sqrt(np.mean(known**2))) if known.size else np.nan
    worst = float(known.max()) if known.size else np.nan
    before, after = (float(np.mean(a)) if a.size else np.nan for a in (old, new))
    return Change(name, before, after, "", rms, worst, False)


def _in_sigmas(change: FloatArray, combined: FloatArray) -> FloatArray:
    """0 where nothing changed, infinite where something certain did, NaN without an uncertainty."""
    sure = combined == 0
    with np.errstate(invalid="ignore"):
        inside = change / np.where(sure, 1.0, combined)
    certain = np.where(change == 0, 0.0, np.where(change > 0, np.inf, -np.inf))
    return np.where(sure, certain, inside)
