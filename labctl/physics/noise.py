"""Noise of the loop in physical units, where the conventions put it.

gain . ( W P(phi) (1 + n_RIN) + n_shot + n_detector ) + bias + n_loop, P = pedestal + phi per emitter. RIN is
common to all outputs (it rides on the emitter); shot noise follows the total light of both sign paths,
pedestal included. Photocurrents are relative to that of one full-scale weight at phi = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ELEMENTARY_CHARGE_C = 1.602176634e-19


@dataclass(frozen=True)
class LoopNoise:
    """Physical noise parameters; every one may be 0.

    photocurrent_ua: current of one full-scale weight at phi = 1. rin_dbc_hz: relative intensity noise of an
    emitter (None = off). detector_pa_rthz: input-referred noise of photodiode and TIA. shot: whether shot
    noise is on. loop_units: stationary standard deviation of z at leak 1, gain 0 (network units).
    """

    photocurrent_ua: float = 1.0
    rin_dbc_hz: float | None = None
    detector_pa_rthz: float = 0.0
    shot: bool = False
    loop_units: float = 0.0

    @property
    def quiet(self) -> bool:
        """No noise at all."""
        return (
            self.rin_dbc_hz is None and self.detector_pa_rthz == 0 and not self.shot and self.loop_units == 0
        )

    def scaled(self, factor: float) -> LoopNoise:
        """All standard deviations times `factor` (0 switches everything off)."""
        if factor == 0:
            return LoopNoise(self.photocurrent_ua)
        decibel = None if self.rin_dbc_hz is None else self.rin_dbc_hz + 20 * math.log10(factor)
        return LoopNoise(
            # shot noise falls as 1 / sqrt(current), detector noise as 1 / current
            photocurrent_ua=self.photocurrent_ua / factor**2 if self.shot else self.photocurrent_ua,
            rin_dbc_hz=decibel,
            detector_pa_rthz=self.detector_pa_rthz * (1 / factor if self.shot else factor),
            shot=self.shot,
            loop_units=self.loop_units * factor,
        )

    def rin_sd(self, dt_s: float) -> float:
        """Relative intensity noise averaged over dt_s: sqrt(S / (2 dt)), S one-sided in 1/Hz."""
        if self.rin_dbc_hz is None:
            return 0.0
        return float((10 ** (self.rin_dbc_hz / 10) / (2 * dt_s)) ** 0.5)

    def detector_density(self) -> float:
        """One-sided density of detector noise relative to the unit photocurrent, 1/Hz."""
        return (self.detector_pa_rthz * 1e-6 / self.photocurrent_ua) ** 2

    def shot_density(self) -> float:
        """One-sided density of shot noise at one unit of photocurrent, 1/Hz: 2 q / I."""
        return 2 * ELEMENTARY_CHARGE_C / (self.photocurrent_ua * 1e-6) if self.shot else 0.0

    def additive_variance(
        self, gain: Tensor, leak: Tensor, dt: float | Tensor, tau_s: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """(floor, slope): variance of z added over dt (tau) is floor + slope * light, network units squared.

        Exact Ornstein-Uhlenbeck increment of loop, detector and shot noise; light is the total photocurrent
        of an output in units of a full-scale weight at phi = 1.
        """
        x = 2 * leak * dt
        small = x < 1e-4
        safe = torch.where(small, torch.ones_like(x), x)
        span = dt * torch.where(small, 1 - x / 2, -torch.expm1(-safe) / safe)
        seen = gain * gain / (2 * tau_s)
        floor = (2 * self.loop_units**2 + seen * self.detector_density()) * span
        return floor, seen * self.shot_density() * span
