"""The world that twins on one optical bench share: light, clock, seed. One process, operations in order."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.physics import BenchLaw, LightPath, LoopNoise, Stream
from labctl_sim_devices.broken import SOUND, Broken, BrokenPath
from labctl_sim_devices.cables import Cables
from labctl_sim_devices.clock_terms import ClockTerms
from labctl_sim_devices.damage import DamageRecord
from labctl_sim_devices.loop_light import EmissionTable
from labctl_sim_devices.optics import PanelOptics
from labctl_sim_devices.physical_faults import Injected, inject
from labctl_sim_devices.profile import OpticalProfile
from labctl_sim_devices.shutter import Gathered, Shutter, Triggers
from labctl_sim_devices.truth import (
    LIGHT_TERMS,
    LOOP_TERMS,
    BenchTruth,
    curve,
    light_path,
    loop_errors,
    tensor,
)
from labctl_sim_devices.units import check_scales, draw_unit

FloatArray = NDArray[np.float64]
Floats = NDArray[np.floating]


class OpticalBench:
    """One simulated bench with a stepped clock: each operation adds its own duration.

    `seed` is the day: noise, phases, drift. `unit_seed` is the machine, where the profile describes a
    population (None: the same as the day's). `noise_scale` multiplies every standard deviation of the
    profile's noise; 0 switches noise off. The profile's `terms` scale its faults, as `set_terms` does.
    `cables` lie between optics and electronics (None: each channel to its own); all here is in the optics'
    order.
    """

    def __init__(
        self,
        profile: OpticalProfile,
        *,
        seed: int = 0,
        noise_scale: float = 1.0,
        unit_seed: int | None = None,
        cables: Cables | None = None,
    ) -> None:
        self.profile = profile
        self.cables = cables
        self.seed = seed
        self.unit_seed = seed if unit_seed is None else unit_seed
        self.dtype = torch.float64 if profile.precision == "float64" else torch.float32
        self.now_us = 0.0
        self.drawn = draw_unit(profile, self.unit_seed)
        self.terms: dict[str, float] = {}
        self.fault: Injected | None = None
        self.broken: Broken = SOUND
        self.damage = DamageRecord(np.ones(profile.n_channels))
        self.optics = PanelOptics(profile)
        self.set_terms(profile.terms)
        self.emitted_units: FloatArray = np.zeros((1, profile.n_channels))
        self.shutter: Shutter | None = None  # a camera that waits for triggers
        self.camera_faults: dict[int, Literal["dropped", "stale"]] = {}  # by frame of the next acquisition
        self.flat_photons_per_us = 0.0  # even light on every pixel of the camera
        self.present = True
        self.frames_shown = 0
        self.scale_noise(noise_scale)

    @property
    def serial(self) -> str:
        """Of the machine, whatever the day: its unit seed and all that its profile says."""
        return f"{self.unit_seed}-{zlib.crc32(self.profile.model_dump_json().encode()):08x}"

    def scale_noise(self, factor: float) -> None:
        """Multiply every standard deviation of the profile's noise: loop and camera."""
        self.noise: LoopNoise = self.profile.noise.scaled(factor)
        self.noise_scale = factor

    def set_terms(self, scales: Mapping[str, float]) -> None:
        """Scale faults by name, from now on: 0 is off, 1 as drawn; others stay. The frame stays on display.

        Raises ConfigError for a name that is no term, or a scale outside 0 .. 4.
        """
        check_scales(scales)
        self.terms = {**self.terms, **scales}
        self.unit, self.broken = self.drawn.scaled(self.terms), SOUND
        if self.fault is not None:
            self.fault = inject(self.fault.name, self.fault.seed, self.profile, self.unit)
            self.unit, self.broken = self.fault.unit, self.fault.broken
        self.clock = ClockTerms(self.profile, self.unit, self.seed, self.broken.warmer_c)
        shown = self.optics.levels
        self.optics = PanelOptics(
            self.profile,
            self.unit,
            self.unit_seed,
            self.clock.temperature_c,
            self.clock.creep_px,
            self.broken,
        )
        if shown is not None:
            self.optics.restore(shown, self.now_us)
        self._emission: EmissionTable | None = None
        sound = self.fault is None
        self._plain = sound and not self.unit.has(*LIGHT_TERMS), sound and not self.unit.has(*LOOP_TERMS)
        self._unit_path = self._path(np.ones(self.profile.n_channels))

    def break_part(self, name: str | None, seed: int = 0) -> None:
        """One physical fault by name, drawn by seed, from now on; None mends the bench.

        Raises ConfigError for a name that is no fault (`labctl_sim_devices.physical_faults`).
        """
        unit = self.drawn.scaled(self.terms)
        self.fault = None if name is None else inject(name, seed, self.profile, unit)
        self.set_terms({})

    def _path(self, light: FloatArray) -> LightPath:
        path = light_path(self.profile, self.unit, light)
        return path if self.fault is None else BrokenPath.of(path, self.broken)

    @property
    def plain_light(self) -> bool:
        """Whether light and detectors are ideal, so that y = W phi(z) with phi = tanh."""
        as_designed = self.cables is None or bool((self.cables.emitter_sign == 1).all())
        return self._plain[0] and as_designed and not self.damage.events

    @property
    def plain_loop(self) -> bool:
        """Whether the closed loop does as asked."""
        return self._plain[1]

    def temperature_c(self) -> float:
        """Of the bench, now."""
        return self.clock.temperature_c(self.now_us)

    def transmittances(self) -> FloatArray:
        """Transmittance of every cell now [2, n, n]."""
        seen = self.optics.transmittances(self.now_us)
        if self.broken.passed is not None:
            seen = seen * self.broken.passed
        return seen if self.damage.panel_light == 1.0 else seen * self.damage.panel_light

    def emitters(self) -> FloatArray:
        """Factors of the moment [n] on the emitters' light; 0 where one has died, or has no cable."""
        plugged = 1.0 if self.cables is None else self.cables.plugged
        given = np.asarray(self.clock.light(self.now_us) * self.damage.alive * plugged)
        return given if self.broken.drives is None else given[self.broken.drives]

    def law(self, transmittance: FloatArray | None = None) -> BenchLaw:
        """Forward map of the frame on display, without the emitters' factors of the moment; or of a plane of
        a sequence, by its transmittances.
        """
        p, unit = self.profile, self.unit
        return BenchLaw(
            path=self._unit_path,
            loop=loop_errors(p, unit, self.clock.offset(self.now_us), self.clock.gain(self.now_us)),
            transmittance=tensor(self.transmittances() if transmittance is None else transmittance),
            pedestal=p.pedestal_units,
            curve=curve(unit),
            curve_share=float(unit.curve_share),
        )

    def truth(self) -> BenchTruth:
        """The exact state of the bench now, for tests to score estimates against; no device reveals it."""
        p, unit, law = self.profile, self.unit, self.law()
        factor = self.clock.light(self.now_us) * self.damage.alive
        exact = replace(law, path=self._path(np.asarray(factor)))
        return BenchTruth(
            exact, p.tau_us * unit.tau_ratio, p.trip_us + float(unit.tia_delay_us), self.temperature_c(), unit
        )

    def emission(self, law: BenchLaw) -> EmissionTable:
        """Light over state, made once for the terms in force."""
        if self._emission is None:
            self._emission = EmissionTable(law, self.dtype, self.phi_at_emitters)
        return self._emission

    def phi_at_emitters(self, phi: torch.Tensor) -> torch.Tensor:
        """Signals [B, n] of the channels as the emitters' drivers receive them, by emitter."""
        if self.cables is None:
            return phi
        return tensor(self.cables.to_emitters(self.cables.phi(phi.numpy())))

    def light_of(self, drive: FloatArray) -> FloatArray:
        """Light [B, f] of drives [B, n] (units of phi = 1): f = n where both paths are alike, else 2 n.

        Before the emitters' factors of the moment.
        """
        if self.plain_light:
            return drive
        if self._unit_path.linear_emission:
            return drive
        return np.asarray(self._unit_path.light(tensor(drive)).numpy().reshape(len(drive), -1))

    def spots(
        self, light: Floats, begin_us: FloatArray | None = None, end_us: FloatArray | None = None
    ) -> Floats:
        """Light of the 2 n spots [B, 2 n] before the detectors, of emitted light [B, f] over exposures that
        begin and end at these times [B] (none: now).
        """
        sequence = self.optics.sequence
        if sequence is None or begin_us is None or end_us is None:
            return self._spots(light, self.transmittances())
        shares = sequence.shares(begin_us, end_us) * self.damage.panel_light
        planes = zip(shares.T, sequence.transmittances, strict=True)
        return np.asarray(sum(share[:, None] * self._spots(light, plane) for share, plane in planes))

    def _spots(self, light: Floats, transmittances: Floats) -> Floats:
        if self.plain_light:
            return np.concatenate([light @ path.T for path in transmittances], axis=1)
        law = self.law(np.asarray(transmittances, dtype=np.float64))
        matrices = law.path.optical(law.transmittance).numpy() * self.emitters()
        n = self.profile.n_channels
        if law.path.linear_emission:
            slopes = law.path.emission[:, :, 2].numpy()
            both = (matrices * slopes[None, :, None, :]).sum(axis=1)  # [to, out, in]
            return np.concatenate([light @ part.T for part in both], axis=1)
        return np.asarray(light @ matrices.transpose(1, 3, 0, 2).reshape(2 * n, 2 * n))

    def image(
        self, device: str, triggers: Triggers, light: FloatArray, on_us: float, rest: FloatArray
    ) -> None:
        """A camera that waits sees each pattern's light [B, f] for `on_us` after its trigger, then `rest`.

        rest [f]. `device` drives the emitters: its name and the triggers' label the draws of their intensity
        noise.
        """
        if self.shutter is None:
            return
        begin, end = self.shutter.open_us(triggers)
        exposure_us = float((end - begin).mean())
        draw = Stream(self.seed, device, f"{triggers.source} rin in frame")
        swing = draw.normal(triggers.sample, self.profile.n_channels, step=triggers.step, dtype=torch.float64)
        seen = light * (1 + self.noise.rin_sd(exposure_us * 1e-6) * by_path(swing.numpy(), light))
        begin_us = triggers.time_us + begin
        if self.optics.sequence is not None:  # its planes have dips of their own
            seen = seen * self.clock.flicker(begin_us, exposure_us)[:, None]
        elif self.unit.has("flicker", "mirror_resets"):
            seen = seen * self.clock.modulation(begin_us, exposure_us)[:, None]
        gathered = Gathered(begin, end, light.shape[1])
        gathered.add(0.0, 0.0, on_us, seen)
        gathered.add(0.0, on_us, on_us, seen)
        gathered.rest(on_us, rest)
        self.shutter.expose(triggers, gathered.light_us)

    def strain(self, device: str, drive_units: Floats) -> None:
        """The emitters are driven so [B, n]: whatever is rated for less is damaged, and that is recorded."""
        self.damage.strain(self.profile, device, self.now_us, drive_units, self.temperature_c())

    def spend(self, duration_us: float, mean_light: Floats) -> None:
        """Let time pass while the emitters give this light [n] on average."""
        if self.broken.drives is not None:
            mean_light = mean_light[self.broken.drives]
        self.clock.emitted(mean_light, self.now_us, duration_us)
        self.advance(duration_us)

    def advance(self, duration_us: float) -> None:
        """Let time pass."""
        self.now_us += duration_us

    def unplug(self) -> None:
        """Take the bench away: every later operation of its devices fails as a pulled cable would."""
        self.present = False


def by_path(normal: FloatArray, light: FloatArray) -> FloatArray:
    """An emitter's draw [B, n] for each feature of its light [B, f]: its noise is the same on both paths."""
    return np.tile(normal, (1, light.shape[1] // normal.shape[1]))
