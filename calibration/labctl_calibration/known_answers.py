"""Known answers: states that the records predict under biases the fit has not seen, against what settles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import LoopElectronics
from labctl_calibration.closed_loop import CLEAR_OF_RANGE, Rows, equilibria
from labctl_calibration.effective_map import EffectiveMap
from labctl_calibration.rows_record import loop_of
from labctl_calibration.series import BLOCKS

KNOWN_ANSWERS = 256
WORST_ANSWER = 0.01  # of full scale, rms: more means that the records do not describe this bench
SEED = 7


@dataclass(frozen=True, eq=False)
class KnownAnswers:
    """Settled states less predicted ones [B, n] (units), of samples that stay clear of the ADC's range."""

    missed: NDArray[np.float64]

    @property
    def rms_units(self) -> float:
        """Over all rows and samples."""
        return float(np.sqrt(np.mean(self.missed**2)))

    @property
    def error_units(self) -> float:
        """Standard error of that, from the scatter between parts: samples next to each other are alike."""
        parts = np.array([(part**2).mean() for part in np.array_split(self.missed, BLOCKS) if len(part)])
        if len(parts) < 2 or self.rms_units == 0:
            return float("nan")
        return float(parts.std(ddof=1) / np.sqrt(len(parts)) / (2 * self.rms_units))


def ask_known_answers(electronics: LoopElectronics, light: EffectiveMap, rows: Rows) -> KnownAnswers:
    """Distance of settled states to the fixed points of the fitted equations, for new biases."""
    gains, biases, settled = equilibria(electronics, light, seed=SEED, count=KNOWN_ANSWERS)
    loop = loop_of(light.powers, rows)
    law = loop.law(torch.from_numpy(biases), torch.from_numpy(gains), torch.ones(1, biases.shape[1]))
    z = law.rest().numpy()
    inside = (np.abs(settled) < CLEAR_OF_RANGE * electronics.spec.adc.range_units).all(axis=1)
    return KnownAnswers(z[inside] - settled[inside])
