"""What a board's records leave uncertain, as the errors that trainings of generators draw."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from labctl.devices import CalibrationRecord
from labctl.models.oscillators.settings import BoardErrors
from labctl_calibration.oscillators.couplings import KIND as COUPLING_KIND
from labctl_calibration.oscillators.diffusion import KIND as DIFFUSION_KIND
from labctl_calibration.oscillators.frequency import KIND as FREQUENCY_KIND
from labctl_calibration.procedure import FloatArray, require


def stated_errors(records: Mapping[str, CalibrationRecord]) -> BoardErrors:
    """rms standard uncertainties of detunings, gains and offsets, and the mean D: what compensation by these
    records leaves of a board, as far as they know. For the `errors` of a training's settings.

    CalibrationMissing where a record is not there. Dead oscillators and cells have no uncertainty and do not
    count.
    """
    frequency, coupling = require(records, FREQUENCY_KIND), require(records, COUPLING_KIND)
    live = coupling.array("dead") < 0.5
    diffusion = require(records, DIFFUSION_KIND).array("diffusion_rad2_per_unit")
    return BoardErrors(
        detuning=_rms(frequency.array("detuning_units_sd")),
        gain=_rms(coupling.array("gain_sd")[live]),
        offset=_rms(coupling.array("offset_units_sd")[live]),
        diffusion=max(float(np.nanmean(diffusion)), 0.0),
    )


def _rms(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.sqrt((known**2).mean())) if len(known) else 0.0
