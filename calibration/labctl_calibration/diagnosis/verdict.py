"""Which of the named faults an examination speaks for: every one fitted to the signs, compared, with odds.

A fault changes some readings and leaves the others alone. What it changes is predicted with the place and the
size that fit best, and pays for that freedom; what it leaves alone has to be as it was. Odds follow from the
misfits, tempered, since readings are not as independent as the sum takes them to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from labctl_calibration.diagnosis.faults import FAULTS, HEALTHY, NAMES
from labctl_calibration.diagnosis.light_fits import LightFit, LightFits
from labctl_calibration.diagnosis.likelihood import ASIDE, MOST_BEYOND, beyond, misfit, of_places
from labctl_calibration.diagnosis.signs import Signs
from labctl_calibration.drift.look import FloatArray

TEMPER = 2.0  # misfits are divided by it; chosen on units that are not scored
HEALTH = 0.5  # of all mornings, before anything is seen; the faults share the rest
DEAD_WITHIN = 0.03  # sd of what is seen of a dead emitter
WORTH = 0.005  # odds below which a suspect is not named beside the first


@dataclass(frozen=True)
class Suspect:
    """One fault: its odds, its size and place as fitted (meaning: `labctl_calibration.diagnosis.faults`)."""

    name: str
    probability: float
    size: float = 0.0
    place: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """What is wrong."""
        return FAULTS[self.name].words

    @property
    def evidence(self) -> str:
        """What speaks for it, in words."""
        return FAULTS[self.name].seen(self.size, self.place)

    @property
    def remedy(self) -> str:
        """What a person does about it first."""
        return FAULTS[self.name].remedy

    @property
    def percent(self) -> str:
        """Its odds, for people; never certain."""
        return "over 99.9%" if self.probability > 0.999 else f"{100 * self.probability:.1f}%"


@dataclass(frozen=True)
class Diagnosis:
    """All suspects, the likeliest first."""

    suspects: tuple[Suspect, ...]

    @property
    def first(self) -> Suspect:
        """The likeliest."""
        return self.suspects[0]

    @property
    def others(self) -> tuple[Suspect, ...]:
        """The next ones that are worth a look."""
        return tuple(one for one in self.suspects[1:4] if one.probability >= WORTH)

    @property
    def healthy(self) -> bool:
        """Whether nothing is likelier than that all is well."""
        return self.first.name == HEALTHY


@dataclass(frozen=True, eq=False)
class _Fit:
    """-2 log likelihood; size and place."""

    misfit: float
    size: float = 0.0
    place: tuple[int, ...] = ()


class _Fits:
    """All hypotheses on one set of signs. `light` is the misfit of the light with nothing wrong."""

    def __init__(self, signs: Signs) -> None:
        self.signs, self.n = signs, len(signs)
        self.light = LightFits(signs)
        self.calm = self.light.healthy().misfit

    def _others(self, *changed: str) -> float:
        """Misfit of all blocks but these."""
        return sum(float(each.sum()) for name, each in self.signs.healthy.items() if name not in changed)

    def of_light(self, rule: Callable[[LightFits], LightFit]) -> _Fit:
        """A fault that changes the light alone."""
        fit = rule(self.light)
        return _Fit(fit.misfit + self._others(), fit.size, fit.place)

    def healthy(self) -> _Fit:
        return _Fit(self.calm + self._others())

    def _common(self, block: str, low: float, high: float, *, sign: bool = False) -> _Fit:
        """All elements of a block by the same amount, between low and high (either way where `sign`)."""
        part = self.signs.blocks[block]
        size = float(np.median(part.values))
        left = float(misfit(part.values - size, np.hypot(part.sd, 0.1 * abs(size))).sum())
        cost = beyond(abs(size) if sign else size, low, high)
        return _Fit(self.calm + self._others(block) + left + cost, size)

    def _row(self, block: str, low: float, high: float, spoilt: tuple[str, ...] = ()) -> _Fit:
        """One row of a block; what else its electronics may spoil in that row stands aside."""
        part = self.signs.blocks[block]
        row = int(np.argmax(np.abs(part.values) / part.sd))
        size = float(abs(part.values[row]))
        aside = 0.0
        for name in (block, *spoilt):
            aside += ASIDE - float(self.signs.healthy[name][row])
        total = self.calm + self._others() + aside + 0.5 * len(spoilt)
        return _Fit(total + of_places(self.n) + beyond(size, low, high), float(part.values[row]), (row,))

    def too_warm(self) -> _Fit:
        found = self._common("temperature", 9.0, 26.0)
        return _Fit(found.misfit - self.calm + self.light.warm().misfit, found.size)

    def drive_stuck(self) -> _Fit:
        """A column that is gone, and its light in the dark."""
        gone = self.light.one_emitter()
        column, dark = gone.place[0], self.signs.blocks["dark"]
        pattern = self.signs.before[:, column]
        size = float((pattern * dark.values).sum() / max(float((pattern**2).sum()), 1e-12))
        left = misfit(dark.values - size * pattern, np.hypot(dark.sd, 0.25 * np.abs(size * pattern))).sum()
        cost = beyond(size, 0.3, 1.3) + beyond(gone.size, 0.9, 1.1)
        return _Fit(gone.misfit + self._others("dark") + float(left) + cost, size, gone.place)

    def emitter(self, low: float, high: float) -> _Fit:
        """One that has lost so much of its light; what is dead is so to a few percent."""
        found = self.light.one_emitter()
        cost = beyond(found.size, low, high) if low < high else ((found.size - low) / DEAD_WITHIN) ** 2
        cost = min(cost, MOST_BEYOND)
        return _Fit(found.misfit + self._others() + cost, found.size, found.place)

    def ambient(self) -> _Fit:
        """Smooth over the rows."""
        dark = self.signs.blocks["dark"]
        place = np.linspace(-1, 1, self.n)
        design = np.stack([np.ones(self.n), place], axis=1)
        fit, *_ = np.linalg.lstsq(design, dark.values, rcond=None)
        made = design @ fit
        left = misfit(dark.values - made, np.hypot(dark.sd, 0.1 * np.abs(made))).sum()
        cost = beyond(abs(float(fit[0])), 0.06, 1.1)
        return _Fit(self.calm + self._others("dark") + float(left) + cost, float(fit[0]))

    def mains_hum(self) -> _Fit:
        part = self.signs.blocks["hum"]
        size = float(np.median(part.values))
        left = float(misfit(part.values - size, np.hypot(part.sd, 0.4 * abs(size))).sum())
        return _Fit(self.calm + self._others("hum") + left + beyond(size, 0.03, 0.17), size)

    def shutter(self) -> _Fit:
        """Nothing to see; neither is there anything to settle or to flicker."""
        found = self.light.dark()
        spared = self._others("unsettled", "flicker", "gain") + ASIDE * 2
        return _Fit(found.misfit + spared, found.size)

    def flicker(self) -> _Fit:
        found = self._common("flicker", 0.01, 0.07)
        return found

    def all(self) -> dict[str, _Fit]:
        """Every hypothesis by name."""
        light = {
            "supply-sag": LightFits.sag, "drives-swapped": LightFits.drives_swapped,
            "image-shifted": LightFits.shifted, "image-turned": LightFits.turned,
            "image-flipped": LightFits.flipped, "defocused": LightFits.defocused,
            "panel-row-stuck": LightFits.panel_row, "panel-column-stuck": LightFits.panel_column,
            "level-table-wrong": LightFits.levels, "dust": LightFits.dust,
            "detector-dead": LightFits.photodiode, "row-gain": LightFits.row,
            "detectors-swapped": LightFits.detectors_swapped, "crosstalk": LightFits.crosstalk,
        }  # fmt: skip
        return {
            HEALTHY: self.healthy(),
            **{name: self.of_light(rule) for name, rule in light.items()},
            "emitter-dead": self.emitter(1.0, 1.0),
            "emitter-dim": self.emitter(0.17, 0.65),
            "drive-stuck": self.drive_stuck(),
            "panel-flicker": self.flicker(),
            "panel-slow": self._common("unsettled", 0.02, 0.3),
            "shutter-closed": self.shutter(),
            "ambient-light": self.ambient(),
            "dark-current": self._row("dark", 0.18, 1.1),
            "adc-offset": self._common("adc", 0.05, 0.22, sign=True),
            "adc-stuck-bit": self._row("bit", 0.008, 0.4, ("adc", "noise", "tau", "gain")),
            "loop-gain": self._common("gain", 0.08, 0.32, sign=True),
            "row-slow": self._row("tau", 0.3, 1.0, ("noise",)),
            "mains-hum": self.mains_hum(),
            "row-noisy": self._row("noise", 1.0, 3.0, ("bit", "tau")),
            "too-warm": self.too_warm(),
            "reads-early": self._common("delay", 3.0, 7.0),
        }


def diagnose(signs: Signs, odds: Mapping[str, float] | None = None) -> Diagnosis:
    """Suspects of an examination. `odds`: factors by name that something else says, a run's file for one."""
    fits = _Fits(signs).all()
    names = list(fits)
    prior = np.array([HEALTH if name == HEALTHY else (1 - HEALTH) / len(NAMES) for name in names])
    said = np.array([(odds or {}).get(name, 1.0) for name in names])
    log = -0.5 * np.array([fits[name].misfit for name in names]) / TEMPER + np.log(prior * said)
    share: FloatArray = np.exp(log - log.max())
    share /= share.sum()
    order = np.argsort(-share, kind="stable")
    return Diagnosis(
        tuple(Suspect(names[k], float(share[k]), fits[names[k]].size, fits[names[k]].place) for k in order)
    )
