"""What a bench's parts bear, and the record of what went beyond it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labctl_sim_devices.profile import OpticalProfile

FloatArray = NDArray[np.float64]
BURNT_LIGHT = 0.8  # of the light that a burnt panel still passes [A]


@dataclass(frozen=True)
class DamageEvent:
    """One rating exceeded: when (us), by which device, on which part, by how much."""

    time_us: float
    device: str
    part: str
    quantity: str
    value: float
    limit: float

    def __str__(self) -> str:
        return (
            f"{self.device} at {self.time_us:.1f} us: {self.quantity} of {self.part} was {self.value:.4g}, "
            f"rated {self.limit:.4g}"
        )


@dataclass
class DamageRecord:
    """Events in order, and what is left of the parts: emitters that live [n], light that the panel passes."""

    alive: FloatArray
    panel_light: float = 1.0
    events: list[DamageEvent] = field(default_factory=list)

    def note(self, event: DamageEvent) -> None:
        """Enter an event."""
        self.events.append(event)

    def strain(
        self, profile: OpticalProfile, device: str, now_us: float, drive_units: NDArray[np.floating]
    ) -> None:
        """Emitters are driven so [B, n] (units of phi = 1): compare with every absolute-maximum rating.

        An emitter beyond its own rating dies; beyond the sum's, the one with the largest current does; a
        panel that gets too much light is burnt.
        """
        current_ma = np.abs(drive_units) * profile.emitter_ma_per_unit
        highest = current_ma.max(axis=0)
        for channel in np.flatnonzero(highest > profile.emitter_rated_channel_ma * (1 + 1e-9)):
            self.note(
                DamageEvent(
                    now_us, device, f"emitter {channel}", "current (mA)", float(highest[channel]),
                    profile.emitter_rated_channel_ma,
                )
            )  # fmt: skip
            self.alive[channel] = 0.0
        total_ma = float(current_ma.sum(axis=1).max())
        if total_ma > profile.emitter_rated_total_ma * (1 + 1e-9):
            worst = int(np.argmax(highest * self.alive))
            part = f"emitter {worst} and their supply"
            limit = profile.emitter_rated_total_ma
            self.note(DamageEvent(now_us, device, part, "total current (mA)", total_ma, limit))
            self.alive[worst] = 0.0
        light_w = float(np.abs(drive_units).sum(axis=1).max()) * profile.emitter_mw_per_unit * 1e-3
        irradiance = light_w / profile.panel_area_cm2
        if irradiance > profile.panel_rated_w_cm2 * (1 + 1e-9):
            limit = profile.panel_rated_w_cm2
            self.note(DamageEvent(now_us, device, "panel", "irradiance (W/cm2)", irradiance, limit))
            self.panel_light *= BURNT_LIGHT
