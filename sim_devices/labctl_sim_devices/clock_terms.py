"""What changes with the bench's clock: temperature, random walks, flicker, mains, the emitters' own heat.

Functions of the clock, seeded: asked in any order, they answer the same. Only the emitters' heat remembers:
what they gave before is part of the bench's state.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.physics import Stream
from labctl_sim_devices.profile import OpticalProfile
from labctl_sim_devices.units import UnitTruth

FloatArray = NDArray[np.float64]
KNOT_US = 1e6  # the walks' step; between knots they run straight
HOUR_US = 3.6e9
KNOTS = 1024  # drawn together
WALKS = ("light walk", "offset walk", "gain walk", "creep walk")


def warming_c(
    now_us: float, rise_c: float, rise_us: float, room_c: float, room_us: float, turns: float
) -> float:
    """Degrees above the profile's temperature: warming up since switching on, plus the room's slow swing,
    which starts at `turns` of its period.
    """
    risen = rise_c * -math.expm1(-now_us / rise_us)
    return float(risen + room_c * math.sin(2 * math.pi * (now_us / room_us + turns)))


class Walk:
    """A Wiener path of n channels in units of one per square root of an hour, by seed and name."""

    def __init__(self, seed: int, name: str, n: int) -> None:
        self._stream = Stream(seed, "clock", name)
        self._known: FloatArray = np.zeros((1, n))

    def at(self, now_us: float) -> FloatArray:
        """[n] at a time; 0 at the beginning."""
        place = max(now_us, 0.0) / KNOT_US
        low = int(place)
        known = self._known
        while low + 1 >= len(known):
            first = len(known) - 1
            steps = self._stream.normal(np.arange(first, first + KNOTS), known.shape[1], dtype=torch.float64)
            grown = known[-1] + np.cumsum(steps.numpy() * math.sqrt(KNOT_US / HOUR_US), axis=0)
            known = self._known = np.concatenate([known, grown])
        return np.asarray(known[low] + (place - low) * (known[low + 1] - known[low]))


class ClockTerms:
    """The clock's part of one bench's truth."""

    def __init__(self, profile: OpticalProfile, unit: UnitTruth, seed: int, warmer_c: float = 0.0) -> None:
        """`warmer_c`: so much above what the unit and its room make of it."""
        self._profile, self._unit, self._seed, self._warmer_c = profile, unit, seed, warmer_c
        self._walks = {name: Walk(seed, name, profile.n_channels) for name in WALKS}
        self._phases: FloatArray = self._uniform("phases", 5)
        self._warms, self.heats = unit.has("warm_up"), unit.has("self_heating")
        self._heat: FloatArray = np.zeros(profile.n_channels)
        self._heat_us = 0.0

    def temperature_c(self, now_us: float) -> float:
        """Of the bench: the profile's, plus warming up, plus the room's swing."""
        u, s = self._unit, self._unit.settings
        if not self._warms:
            return self._profile.temperature_c + self._warmer_c
        warmer = warming_c(
            now_us, float(u.warm_up_c), s["warm_up_us"], float(u.room_c), s["room_us"], self._phases[0]
        )
        return self._profile.temperature_c + warmer + self._warmer_c

    def light(self, now_us: float) -> FloatArray:
        """Factor [n] on each emitter's light: walk, temperature, and its own heat."""
        u = self._unit
        walk = 1 + float(u.light_walk) * self._walk("light walk", now_us) if u.light_walk else 1.0
        warmer = self.temperature_c(now_us) - self._profile.temperature_c
        cool = 1 + float(u.light_per_c) * warmer
        given = walk * cool * (1 - u.heating_depth * self._heat_at(now_us))
        if u.fade_per_hour.any():
            given = given * np.maximum(1 - u.fade_per_hour * (now_us / HOUR_US), 0.0)
        return np.maximum(given, 0.0)

    def offset(self, now_us: float) -> FloatArray:
        """Walk [n] of the loop's offset, network units."""
        if not self._unit.offset_walk:
            return np.zeros(self._profile.n_channels)
        return float(self._unit.offset_walk) * self._walk("offset walk", now_us)

    def gain(self, now_us: float) -> FloatArray | None:
        """Factor [n] on the rows' gains; None where they stay."""
        if not self._unit.gain_walk:
            return None
        return np.asarray(1 + float(self._unit.gain_walk) * self._walk("gain walk", now_us))

    def creep_px(self, now_us: float) -> FloatArray:
        """How far the image has crept over the panel: y, x."""
        if not self._unit.creep_px:
            return np.zeros(2)
        return np.asarray(float(self._unit.creep_px) * self._walk("creep walk", now_us)[:2])

    def flicker(self, time_us: NDArray[np.floating], duration_us: float = 0.0) -> FloatArray:
        """Mean factor [B] on all light from these times on, for so long."""
        period_us = self._unit.settings.get("flicker_us", 1.0)
        angle = 2 * np.pi * ((time_us + duration_us / 2) / period_us + self._phases[1])
        left = np.sinc(duration_us / period_us)  # of the swing: whole periods average out
        return np.asarray(1 + float(self._unit.flicker_share) * left * np.cos(angle))

    def modulation(self, time_us: NDArray[np.floating], duration_us: float) -> FloatArray:
        """Mean factor [B] on all light over operations that begin at these times."""
        swing = self.flicker(time_us, duration_us)
        if not self._unit.mirror_dip:
            return swing
        reset_us, period_us = self._resets()
        ends = (np.mod(time_us, period_us), np.mod(time_us, period_us) + duration_us)
        dark_us = self._dark_until(ends[1], reset_us, period_us) - self._dark_until(
            ends[0], reset_us, period_us
        )
        return np.asarray(swing * (1 - float(self._unit.mirror_dip) * dark_us / duration_us))

    def dips(self, time_us: NDArray[np.floating]) -> FloatArray:
        """Factor [B] of the mirrors' resets at these times."""
        reset_us, period_us = self._resets()
        return np.where(np.mod(time_us, period_us) < reset_us, 1 - float(self._unit.mirror_dip), 1.0)

    def gated(self, now_us: float, spacing_us: float, length_us: float, count: int) -> FloatArray | None:
        """When each operation of a queue [count] begins if none may meet a reset of the mirrors.

        None where nothing is gated: no resets, no gate, or operations longer than the time between resets.
        """
        if not self._unit.mirror_dip or not self._unit.settings["reset_gated"]:
            return None
        reset_us, period_us = self._resets()
        if length_us > period_us - reset_us:
            return None
        each = int((period_us - reset_us - length_us) // spacing_us) + 1
        first = math.ceil(now_us / period_us)
        index = np.arange(count)
        return np.asarray((first + index // each) * period_us + reset_us + (index % each) * spacing_us)

    def _resets(self) -> tuple[float, float]:
        return self._unit.settings["reset_us"], self._unit.settings["reset_period_us"]

    @staticmethod
    def _dark_until(time_us: FloatArray, reset_us: float, period_us: float) -> FloatArray:
        """Time spent in resets up to a time since one began."""
        return np.floor(time_us / period_us) * reset_us + np.minimum(np.mod(time_us, period_us), reset_us)

    def mains(self, time_us: NDArray[np.floating]) -> FloatArray:
        """Pickup [B, n] on the state's input, network units: fundamental and two harmonics."""
        turns = time_us * 1e-6 * self._unit.settings.get("mains_hz", 50.0)
        order = np.arange(1, 4)
        angle = 2 * np.pi * (turns[:, None] * order + self._phases[2:])
        return np.asarray(np.sin(angle) @ self._unit.mains.T)

    def emitted(self, mean_light: NDArray[np.floating], from_us: float, duration_us: float) -> None:
        """The emitters gave this light [n] on average for a while: they are as warm as that makes them."""
        if not self.heats:
            return
        left = math.exp(-duration_us / self._unit.settings["heating_us"])
        self._heat = np.asarray(mean_light + (self._heat_at(from_us) - mean_light) * left, np.float64)
        self._heat_us = from_us + duration_us

    def _heat_at(self, now_us: float) -> FloatArray:
        """Recent mean light [n]; between operations the emitters are taken as dark."""
        rest_us = max(now_us - self._heat_us, 0.0)
        return np.asarray(self._heat * math.exp(-rest_us / self._unit.settings.get("heating_us", 1.0)))

    def _walk(self, name: str, now_us: float) -> FloatArray:
        return self._walks[name].at(now_us)

    def _uniform(self, name: str, count: int) -> FloatArray:
        words = Stream(self._seed, "clock", name).words(np.zeros(1, np.int64), count)
        return np.asarray(words[0, :count] / 2.0**32)
