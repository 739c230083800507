"""The world of one simulated oscillator board: its unit, its clock, its temperature."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.physics import Stream
from labctl_sim_devices.clock_terms import Walk, warming_c
from labctl_sim_devices.damage import BOARD_RATED_C, DamageRecord
from labctl_sim_devices.oscillator_profile import OscillatorProfile
from labctl_sim_devices.oscillator_units import OSCILLATOR_TERMS, OscillatorTruth, draw_board
from labctl_sim_devices.terms import check_term_scales

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class BoardNoise:
    """Standard deviations of what changes from run to run, and the diffusion of the phases."""

    diffusion: float
    start_rad: float
    segment_us: float
    read_us: float
    reference_us: float


class OscillatorBench:
    """One simulated board with a stepped clock: each operation adds its own duration.

    `seed` is the day: noise, drift. `unit_seed` is the board, where the profile describes a population (None:
    the same as the day's). `noise_scale` multiplies every standard deviation of the profile's noise; 0
    switches noise off. The profile's `terms` scale its faults, as `set_terms` does.
    """

    def __init__(
        self,
        profile: OscillatorProfile,
        *,
        seed: int = 0,
        noise_scale: float = 1.0,
        unit_seed: int | None = None,
    ) -> None:
        self.profile = profile
        self.topology = profile.wiring
        self.seed = seed
        self.now_us = 0.0
        self.present = True
        self.damage = DamageRecord(np.ones(1))
        self.terms: dict[str, float] = dict(profile.terms)
        self.become(seed if unit_seed is None else unit_seed)
        self.scale_noise(noise_scale)
        words = Stream(seed, "clock", "phases").words(np.zeros(1, np.int64), 1)
        self._turns = float(words[0, 0] / 2.0**32)
        self._walk = Walk(seed, "detuning walk", self.topology.n)

    @property
    def serial(self) -> str:
        """Of the board, whatever the day: its unit seed and all that its profile says."""
        return f"{self.unit_seed}-{zlib.crc32(self.profile.model_dump_json().encode()):08x}"

    def become(self, unit_seed: int) -> None:
        """From now on the board of this number, its faults scaled as the last one's."""
        self.unit_seed = unit_seed
        self.drawn = draw_board(self.profile, unit_seed)
        self.set_terms({})

    def scale_noise(self, factor: float) -> None:
        """Multiply every standard deviation of the profile's noise."""
        p = self.profile
        self.noise = BoardNoise(
            diffusion=p.diffusion_rad2_per_unit * factor**2,
            start_rad=p.start_jitter_rad * factor,
            segment_us=p.segment_jitter_us * factor,
            read_us=p.read_jitter_us * factor,
            reference_us=p.reference_jitter_us * factor,
        )
        self.noise_scale = factor

    def set_terms(self, scales: Mapping[str, float]) -> None:
        """Scale faults by name, from now on: 0 is off, 1 as drawn; others stay.

        Raises ConfigError for a name that is no term, or a scale outside 0 .. 4.
        """
        both = {**self.terms, **scales}
        check_term_scales(both, OSCILLATOR_TERMS)
        self.terms = both
        self.unit: OscillatorTruth = self.drawn.with_terms(self.terms)

    def temperature_c(self) -> float:
        """Of the board, now."""
        unit, settings = self.unit, self.unit.settings
        if not unit.has("temperature"):
            return self.profile.temperature_c
        return self.profile.temperature_c + warming_c(
            self.now_us, float(unit.rise_c), settings["rise_us"], float(unit.room_c), settings["room_us"],
            self._turns,
        )  # fmt: skip

    def detuning(self) -> FloatArray:
        """Every oscillator's own detuning [n] against the reference now, units: mismatch and temperature."""
        warmer = self.temperature_c() - self.profile.temperature_c
        still = np.asarray(self.unit.detuning + self.unit.units_per_c * warmer)
        if not self.unit.detuning_walk:
            return still
        return np.asarray(still + float(self.unit.detuning_walk) * self._walk.at(self.now_us))

    def strain(self, device: str) -> None:
        """The oscillators run: a board that is too hot for that is damaged, and that is recorded."""
        warmth = self.temperature_c()
        self.damage.compare(device, self.now_us, {"temperature_c": warmth}, part="board")
        if self.damage.rate(device, self.now_us, "board", "temperature (°C)", warmth, BOARD_RATED_C):
            self.damage.alive[:] = 0.0

    def advance(self, duration_us: float) -> None:
        """Let time pass."""
        self.now_us += duration_us

    def unplug(self) -> None:
        """Take the board away: every later operation fails as a pulled cable would."""
        self.present = False
