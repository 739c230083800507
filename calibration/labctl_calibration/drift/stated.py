"""What calibration records say that probes should read, with the uncertainty that they state.

A baseline of looks knows what a device was like when they were taken; where a record in order states the same
quantity, its value and its uncertainty take the place of theirs: so the first morning is already compared
with the calibration. The scatter of a single reading stays that of the looks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from labctl.devices import CalibrationRecord
from labctl_calibration.drift.look import FloatArray, Look
from labctl_calibration.optical.loop_procedures import WEIGHTS, map_of
from labctl_calibration.optical.panel_procedures import DARKS
from labctl_calibration.oscillators.frequency import KIND as FREQUENCIES


def stated_by(
    records: Mapping[str, CalibrationRecord], reference: Look, patterns: FloatArray | None
) -> dict[str, tuple[float, float]]:
    """Value and standard uncertainty by name of series, of records by kind.

    patterns [P, n]: phi of the golden vectors on the dense frame; None where there are none.
    """
    found: dict[str, tuple[float, float]] = {}
    if DARKS in records:
        dark, sd = records[DARKS].array("dark_units"), records[DARKS].array("dark_units_sd")
        found |= _each("dark level", "row", "mean of the rows", dark, sd)
    if FREQUENCIES in records:
        free, sd = (records[FREQUENCIES].array(f"detuning_units{end}") for end in ("", "_sd"))
        found |= _each("frequency", "oscillator", "mean of the board", free, sd)
    if WEIGHTS in records and patterns is not None:
        found["light of all emitters"] = _light(records[WEIGHTS], reference, patterns)
    return {name: pair for name, pair in found.items() if np.isfinite(pair).all()}


def _each(
    group: str, one: str, mean: str, value: FloatArray, sd: FloatArray
) -> dict[str, tuple[float, float]]:
    known = np.isfinite(sd)
    found = {f"{group} of {one} {i}": (float(value[i]), float(sd[i])) for i in np.flatnonzero(known)}
    if known.all():
        found[f"{group} {mean}"] = float(value.mean()), float(np.sqrt((sd**2).sum()) / len(sd))
    return found


def _light(weights: CalibrationRecord, reference: Look, patterns: FloatArray) -> tuple[float, float]:
    """What the map on record makes of the golden vectors, as a share of what the reference looks saw.

    Errors of a weight are the same in all patterns: they are added, not averaged.
    """
    light, before = map_of(weights), reference.arrays["golden_units"]
    orders = np.arange(1, len(light.powers) + 1)
    phi = patterns[None] ** orders[:, None, None]  # [powers, P, n]
    expected = np.einsum("kpj,krj->pr", phi, light.powers)
    sd = np.sqrt(np.einsum("kpj,krj->pr", phi**2, light.error**2))
    power = float((before**2).sum())
    share = float((expected * before).sum() / power)
    return share, float(
        np.sqrt((np.abs(before) * sd).sum(axis=0) @ (np.abs(before) * sd).sum(axis=0)) / power
    )
