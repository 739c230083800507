"""The dense random frame: every row tied to every other, so that what is found belongs to the bench, not to
a program. Procedures one after the other find it as the last one left it; who comes later shows it again.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, LoopElectronics, WeightModulator
from labctl.programs import encode_frame
from labctl_calibration.open_loop import calibrate_steady
from labctl_calibration.procedure import Devices

WEIGHTS = (-1.0, -0.5, 0.5, 1.0)


def dense_fractions(n: int) -> NDArray[np.float64]:
    """What is asked of the panel [n, n]; the same for every bench of n channels."""
    rng = np.random.Generator(np.random.Philox(key=n))
    return rng.choice(WEIGHTS, size=(n, n))


def pose(devices: Devices, panel: CalibrationRecord) -> None:
    """Have the dense frame on display with its offsets nulled; nothing is done where it is."""
    modulator, electronics = devices.get(WeightModulator), devices.get(LoopElectronics)
    fractions = dense_fractions(electronics.spec.n_channels)
    levels = encode_frame(fractions, modulator.spec, panel).levels
    posed = "dense frame " + hashlib.sha256(levels.tobytes()).hexdigest()
    if devices.found_posed != posed:
        modulator.show(levels)
        calibrate_steady(electronics)
    devices.posed = devices.found_posed = posed
