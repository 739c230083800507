"""A board made as quiet as its records allow: trims null the detuning, codes the cells' offsets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from labctl.devices import CalibrationRecord, OscillatorBoard
from labctl_calibration.oscillators.fitted import FittedBoard
from labctl_calibration.oscillators.probing import Probe

OFFSET_REACH = 3.0  # rms offsets that the codes' full scale takes back


def quiet_probe(board: OscillatorBoard, records: Mapping[str, CalibrationRecord], units: float) -> Probe:
    """One segment in which nothing pulls: each cell at the code whose coupling is nearest to 0."""
    spec = board.spec
    fitted = FittedBoard.of(spec, records)
    reach = OFFSET_REACH * float(np.sqrt(np.mean(fitted.cells[:, 1] ** 2))) if len(fitted.cells) else 0.0
    scale = min(round(reach / spec.scale_units_per_code), spec.max_scale_code)
    values = fitted.values(scale * spec.scale_units_per_code)
    codes = np.abs(values).argmin(axis=1) - spec.max_coupling_code
    codes = np.where(spec.usable & ~fitted.dead, codes, 0)
    left = values[np.arange(len(codes)), codes + spec.max_coupling_code]
    load = np.abs(left).sum() / spec.n
    gain = np.where(np.abs(fitted.trim_gain) > 0.1, fitted.trim_gain, np.inf)
    trim = np.rint(-(fitted.detuning - fitted.supply * load) / gain / spec.detuning.units_per_code)
    top = spec.detuning.max_code
    return Probe(
        units=units,
        coupling=codes[None].astype(np.int64),
        scale=np.array([scale]),
        detuning=np.clip(trim, -top, top)[None].astype(np.int64),
    )
