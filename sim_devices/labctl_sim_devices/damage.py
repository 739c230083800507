"""What a bench's parts bear, and the record of what went beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labctl.devices.limits import LimitValues
from labctl_sim_devices.profile import OpticalProfile

FloatArray = NDArray[np.float64]
BURNT_LIGHT = 0.8  # of the light that a burnt panel still passes [A]
EMITTER_RATED_C = 85.0  # beyond it no emitter may be lit [A]
BOARD_RATED_C = 85.0  # beyond it no board may run [A]
LASER_RATED_MW = 30.0  # of its diode, half above its largest set-point [A]
OUTPUT_RATED_VOLTS = 7.5  # of a generator's output, half above its largest peak [A]
SLACK = 1 + 1e-9  # what a sum of floats may be beyond a limit


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
    """Events in order, and what is left of the parts: emitters that live [n], light that the panel passes.

    `limits`: the absolute limits of the bench, none unless its owner sets them; `violations` are the moments
    at which the parts really were beyond one, damaged or not.
    """

    alive: FloatArray
    panel_light: float = 1.0
    events: list[DamageEvent] = field(default_factory=list)
    limits: LimitValues = field(default_factory=LimitValues)
    violations: list[DamageEvent] = field(default_factory=list)

    def note(self, event: DamageEvent) -> None:
        """Enter an event."""
        self.events.append(event)

    def compare(
        self, device: str, now_us: float, values: Mapping[str, float], *, part: str = "the whole"
    ) -> None:
        """Real values, by the name of their limit in `LimitValues`: what is beyond its limit is entered."""
        for name, limit in self.limits.limited().items():
            value = values.get(name)
            if value is not None and value > limit + abs(limit) * (SLACK - 1):
                self.violations.append(DamageEvent(now_us, device, part, name, value, limit))

    def rate(self, device: str, now_us: float, part: str, quantity: str, value: float, rated: float) -> bool:
        """Whether a part is beyond its rating, which is entered."""
        beyond = value > rated * SLACK
        if beyond:
            self.note(DamageEvent(now_us, device, part, quantity, value, rated))
        return beyond

    def strain(
        self,
        profile: OpticalProfile,
        device: str,
        now_us: float,
        drive_units: NDArray[np.floating],
        temperature_c: float,
    ) -> None:
        """Emitters are driven so [B, n] (units of phi = 1): compare with limits and absolute-maximum ratings.

        An emitter beyond its own rating dies; beyond the sum's, or too hot, the one with the largest current
        does; a panel that gets too much light is burnt.
        """
        current_ma = np.abs(drive_units) * profile.emitter_ma_per_unit
        highest = current_ma.max(axis=0)
        total_ma = float(current_ma.sum(axis=1).max())
        light_w = float(np.abs(drive_units).sum(axis=1).max()) * profile.emitter_mw_per_unit * 1e-3
        irradiance = light_w / profile.panel_area_cm2
        if total_ma:
            reached = {
                "channel_ma": float(highest.max()),
                "total_ma": total_ma,
                "temperature_c": temperature_c,
                "irradiance_w_cm2": irradiance,
            }
            self.compare(device, now_us, reached)
        for channel in np.flatnonzero(highest > profile.emitter_rated_channel_ma * SLACK):
            self.rate(
                device, now_us, f"emitter {channel}", "current (mA)", float(highest[channel]),
                profile.emitter_rated_channel_ma,
            )  # fmt: skip
            self.alive[channel] = 0.0
        worst = int(np.argmax(highest * self.alive))
        part, limit = f"emitter {worst} and their supply", profile.emitter_rated_total_ma
        if self.rate(device, now_us, part, "total current (mA)", total_ma, limit):
            self.alive[worst] = 0.0
        worst = int(np.argmax(highest * self.alive))
        hot = temperature_c if total_ma else 0.0
        if self.rate(device, now_us, f"emitter {worst}", "temperature (°C)", hot, EMITTER_RATED_C):
            self.alive[worst] = 0.0
        limit = profile.panel_rated_w_cm2
        if self.rate(device, now_us, "panel", "irradiance (W/cm2)", irradiance, limit):
            self.panel_light *= BURNT_LIGHT
