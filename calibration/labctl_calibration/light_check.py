"""Is there light, does it answer to the panel, and is it enough? Asked before anything is fitted to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceFault
from labctl_calibration.darks import Darks
from labctl_calibration.probing import Probing

FloatArray = NDArray[np.float64]
REPEATS = 16
SIGMAS = 8.0  # a change that is more than so many standard deviations is one
LEAST_LIGHT = 20.0  # window noises that a single emitter must make of a median cell


@dataclass(frozen=True, eq=False)
class Light:
    """What all emitters together give: rise_units [2, n], of each panel half from dark to bright, as the
    detectors subtract; per_cell_units: that of one cell, median.
    """

    rise_units: FloatArray
    per_cell_units: float

    @property
    def sides(self) -> tuple[int, int]:
        """Which half of the panel (0 = left) feeds the positive and which the negative path."""
        left, right = self.rise_units.sum(axis=1)
        return (0, 1) if left > right else (1, 0)

    @property
    def found(self) -> str:
        """In words."""
        return f"there is light: a median cell gives {self.per_cell_units:.3f} units"


def check_light(probing: Probing, darks: Darks) -> Light:
    """Three frames, a few probes. Raises DeviceFault: no light, a panel that does not answer, too little."""
    n, top = probing.spec.n_channels, probing.panel.n_levels - 1
    seen = []
    for side, level in ((0, 0), (0, top), (1, top)):
        probing.show_half(side, level)
        seen.append(probing.probe(np.ones((REPEATS, n))).mean(axis=0) - darks.level_units)
    noise = darks.noise_units * np.sqrt(2 / REPEATS)
    lit = np.abs(seen) > SIGMAS * noise
    rise = np.stack([seen[1] - seen[0], seen[2] - seen[0]])
    # what slow flicker of the light alone does is a few thousandths of it
    answers = np.abs(rise) > np.maximum(SIGMAS * noise, 0.05 * np.abs(seen).max(axis=0))
    few = max(1, n // 4)
    if lit.any(axis=0).sum() < few:
        raise DeviceFault(
            f"no light: with all emitters on and either half of {probing.modulator.name} at its "
            f"brightest, {int(lit.any(axis=0).sum())} of {n} outputs see more than noise "
            f"({SIGMAS * np.median(noise):.2g} units); allowed: {few} or more; is a lens cap on, or are the "
            "emitters off?",
            device=probing.electronics.name, operation="check_light",
        )  # fmt: skip
    if answers.any(axis=0).sum() < few:
        raise DeviceFault(
            f"panel blank: light arrives, and {int(answers.any(axis=0).sum())} of {n} outputs change when "
            f"a half goes from dark to bright; allowed: {few} or more; does the panel get its frames?",
            device=probing.modulator.name, operation="check_light",
        )  # fmt: skip
    per_cell = float(np.median(np.abs(rise)) / n)
    least = LEAST_LIGHT * float(np.median(darks.noise_units))
    if per_cell < least:
        raise DeviceFault(
            f"not enough light: a median cell gives {per_cell:.2g} units, the noise of a window is "
            f"{np.median(darks.noise_units):.2g}; allowed: {least:.2g} or more",
            device=probing.electronics.name, operation="check_light",
        )  # fmt: skip
    return Light(rise, per_cell)
