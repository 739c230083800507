"""The world that twins on one optical bench share: light, clock, seed. One process, operations in order."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.physics import LoopNoise
from labctl_sim_devices.optics import PanelOptics
from labctl_sim_devices.profile import OpticalProfile
from labctl_sim_devices.shutter import Shutter

FloatArray = NDArray[np.float64]


class OpticalBench:
    """One simulated bench with a stepped clock: each operation adds its own duration.

    `noise_scale` multiplies every standard deviation of the profile's noise; 0 switches noise off.
    """

    def __init__(self, profile: OpticalProfile, *, seed: int = 0, noise_scale: float = 1.0) -> None:
        self.profile = profile
        self.seed = seed
        self.dtype = torch.float64 if profile.precision == "float64" else torch.float32
        self.now_us = 0.0
        self.optics = PanelOptics(profile)
        self.emitted_units: FloatArray = np.zeros((1, profile.n_channels))
        self.shutter: Shutter | None = None  # a camera that waits for triggers
        self.camera_faults: dict[int, Literal["dropped", "stale"]] = {}  # by frame of the next acquisition
        self.present = True
        self.frames_shown = 0
        self.scale_noise(noise_scale)

    def scale_noise(self, factor: float) -> None:
        """Multiply every standard deviation of the profile's noise: loop and camera."""
        self.noise: LoopNoise = self.profile.noise.scaled(factor)
        self.noise_scale = factor

    def advance(self, duration_us: float) -> None:
        """Let time pass."""
        self.now_us += duration_us

    def unplug(self) -> None:
        """Take the bench away: every later operation of its devices fails as a pulled cable would."""
        self.present = False
