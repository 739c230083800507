"""What hours do to a bench, as a function of the time since it was switched on: any hour can be asked for at once.

The room's temperature has a day's cycle and the air conditioner's. Emitters lose light with it, each by a
coefficient of its own, and fade with the logarithm of the hours burnt. The image moves with the temperature, and
creeps as mounts relax, logarithmically too. Emitters' drivers, detectors, gains and offsets wander: tones an
octave apart, from 48 h down to some minutes, whose power falls with the square of the frequency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foreign_bench.unit import ForeignUnit, N

FloatArray = NDArray[np.floating]
LONGEST_H, OCTAVES = 48.0, 10


@dataclass(frozen=True, eq=False)
class Wander:
    """Of values [...]: rms `sd`; phases [..., octaves] (rad) of the tones."""

    sd: float
    phases: FloatArray

    @classmethod
    def drawn(cls, rng: np.random.Generator, sd: float, *shape: int) -> Wander:
        """By chance."""
        return cls(sd, rng.uniform(0, 2 * math.pi, (*shape, OCTAVES)))

    def at(self, hours: float) -> FloatArray:
        """Values [...] then."""
        octave = 2.0 ** np.arange(OCTAVES)
        tones = np.sin(2 * math.pi * hours / LONGEST_H * octave + self.phases) / np.sqrt(octave)
        return np.asarray(self.sd * math.sqrt(2 / (1 / octave).sum()) * tones.sum(axis=-1))


@dataclass(frozen=True, eq=False)
class Ageing:
    """Of one bench. day_c, cycle_c: amplitudes (C) of the room's day and of its air conditioner, `cycle_h` long;
    phases [2]. light_per_c, fade [j]: relative loss of an emitter per degree and per e-fold of hours.
    px_per_c, creep_px [p, 2]: of the image, per degree and per e-fold. light [j], responsivity [p, i], gain [i]:
    relative; offset_units [i].
    """

    day_c: float
    cycle_c: float
    cycle_h: float
    phases: FloatArray
    light_per_c: FloatArray
    fade: FloatArray
    px_per_c: FloatArray
    creep_px: FloatArray
    light: Wander
    responsivity: Wander
    gain: Wander
    offset_units: Wander

    @classmethod
    def drawn(cls, seed: int) -> Ageing:
        """Of bench number `seed`; all sizes [A]."""
        rng = np.random.Generator(np.random.Philox(key=(seed, 0xA6E)))
        return cls(
            day_c=1.0,
            cycle_c=0.3,
            cycle_h=float(rng.uniform(0.25, 0.7)),
            phases=rng.uniform(0, 2 * math.pi, 2),
            light_per_c=rng.normal(0.004, 0.001, N),
            fade=np.abs(rng.normal(0.0015, 0.0007, N)),
            px_per_c=rng.normal(scale=0.03, size=(2, 2)),
            creep_px=rng.normal(scale=0.02, size=(2, 2)),
            light=Wander.drawn(rng, 0.02, N),
            responsivity=Wander.drawn(rng, 0.005, 2, N),
            gain=Wander.drawn(rng, 0.005, N),
            offset_units=Wander.drawn(rng, 0.01, N),
        )

    def room_c(self, hours: float) -> float:
        """The room's temperature above its mean."""
        turns = np.array([hours / 24, hours / self.cycle_h])
        return float(np.array([self.day_c, self.cycle_c]) @ np.sin(2 * math.pi * turns + self.phases))

    def aged(self, unit: ForeignUnit, hours: float) -> ForeignUnit:
        """What a unit, as built, is after so many hours."""
        warmer_c, burnt = self.room_c(hours), math.log1p(hours)
        return replace(
            unit,
            efficiency=unit.efficiency
            * np.exp(self.light.at(hours) - self.light_per_c * warmer_c - self.fade * burnt),
            shift_px=unit.shift_px + self.px_per_c * warmer_c + self.creep_px * burnt,
            responsivity=unit.responsivity * (1 + self.responsivity.at(hours)),
            gain_scale=unit.gain_scale * (1 + self.gain.at(hours)),
            offset_units=unit.offset_units + self.offset_units.at(hours),
        )
