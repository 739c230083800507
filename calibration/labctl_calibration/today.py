"""What a bench can do today, as far as its records say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labctl_calibration.gain_ramp import KIND as MARGIN_KIND
from labctl_calibration.noise_budget import KIND as NOISE_KIND
from labctl_calibration.optical import agreement as of_light
from labctl_calibration.optical.loop_procedures import (
    ANSWERS,
    ANSWERS_MISSED,
    NOISE_TOTAL,
    SAFE_GAIN,
    SETTLE_P95,
    SETTLING,
    WEIGHT_ERROR,
    WEIGHTS,
)
from labctl_calibration.oscillators import agreement as of_boards
from labctl_calibration.oscillators import couplings, diffusion, frequency, settling, temperature
from labctl_calibration.procedure import Quantity
from labctl_calibration.store import Stored

# What a person who wants to run something asks first: which quantity of which kind of record.
HEADLINES = (
    (WEIGHTS, WEIGHT_ERROR),
    (NOISE_KIND, NOISE_TOTAL),
    (SETTLING, SETTLE_P95),
    (ANSWERS, ANSWERS_MISSED),
    (MARGIN_KIND, SAFE_GAIN),
    (of_light.KIND, of_light.SHARE),
    (couplings.KIND, couplings.WITHIN),
    (frequency.KIND, frequency.LEFT),
    (diffusion.KIND, diffusion.DIFFUSION_MEAN),
    (settling.KIND, settling.SETTLE_TIME),
    (temperature.KIND, temperature.COEFFICIENT),
    (of_boards.KIND, of_boards.SHARE),
)


@dataclass(frozen=True)
class Ability:
    """One number that says what the bench can do, and the record it is from."""

    quantity: Quantity
    stored: Stored


def abilities(in_use: Iterable[Stored]) -> tuple[Ability, ...]:
    """The headline quantities among these records, in order; what nobody measured is left out."""
    by_kind = {stored.record.kind: stored for stored in in_use}
    found = []
    for kind, name in HEADLINES:
        stored = by_kind.get(kind)
        quantity = None if stored is None else stored.about.quantity(name)
        if stored is not None and quantity is not None:
            found.append(Ability(quantity, stored))
    return tuple(found)
