"""What the light does: the displayed frame, seen cell by cell on two sign paths.

Own equations and own geometry; nothing of the host's encoder. Panel at 45 degrees to its polariser:
T(g) = T_off + (T_on - T_off) sin^2(Gamma(g) / 2), Gamma(g) = pi g / (levels - 1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from labctl_sim_devices.profile import OpticalProfile

FloatArray = NDArray[np.float64]


class PanelOptics:
    """Transmittances of the n x n cells of both paths, following the frame with the panel's own lag."""

    def __init__(self, profile: OpticalProfile) -> None:
        self._profile = profile
        retardance = math.pi * np.arange(profile.panel_levels) / (profile.panel_levels - 1)
        span = profile.transmittance_on - profile.transmittance_off
        self._transmittance = profile.transmittance_off + span * np.sin(retardance / 2) ** 2
        n = profile.n_channels
        dark = np.full((2, n, n), self._transmittance[0])
        self._old, self._new, self._since_us = dark, dark, -math.inf

    def frame_changed(self, levels: NDArray[np.uint16], now_us: float) -> None:
        """The panel begins to turn towards a new frame [height, width]."""
        self._old = self.transmittances(now_us)
        self._new = self._cells(levels)
        self._since_us = now_us

    def transmittances(self, now_us: float) -> FloatArray:
        """[2, n, n]: positive and negative path, rows are outputs. Half-turned if read early."""
        tau_us = self._profile.panel_tau_us
        left = math.exp(-(now_us - self._since_us) / tau_us) if tau_us > 0 else 0.0
        now: FloatArray = self._new + (self._old - self._new) * left
        return now

    def _cells(self, levels: NDArray[np.uint16]) -> FloatArray:
        n = self._profile.n_channels
        height, width = self._profile.cell_px
        out = np.empty((2, n, n))
        for path, (top, left) in enumerate(self._profile.path_origin_px):
            light = self._transmittance[levels[top : top + n * height, left : left + n * width]]
            out[path] = light.reshape(n, height, n, width).mean(axis=(1, 3))
        return out
