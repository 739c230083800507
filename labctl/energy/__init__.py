"""The energy ledger: what an image costs on either machine, by named constants that say where they come from.

Formulas and constants only; nothing here measures or runs anything.
"""

from labctl.energy.account import Account, total
from labctl.energy.claims import Claim, claimed_machine, shipped_claims
from labctl.energy.constants import (
    Constant,
    Constants,
    Draws,
    Value,
    constant_names,
    shipped_constants,
)
from labctl.energy.digital import DigitalWork, digital_account
from labctl.energy.optics import OpticsWork, bench_power_w, optics_account
from labctl.energy.oscillators import (
    OscillatorWork,
    board_power_w,
    oscillator_account,
    unit_time_s,
    units_of,
)
from labctl.energy.posterior import Interval, Moved, Posterior, Target, interval, posterior, told_apart

__all__ = [
    "Account",
    "Claim",
    "Constant",
    "Constants",
    "DigitalWork",
    "Draws",
    "Interval",
    "Moved",
    "OpticsWork",
    "OscillatorWork",
    "Posterior",
    "Target",
    "Value",
    "bench_power_w",
    "board_power_w",
    "claimed_machine",
    "constant_names",
    "digital_account",
    "interval",
    "optics_account",
    "oscillator_account",
    "posterior",
    "shipped_claims",
    "shipped_constants",
    "told_apart",
    "total",
    "unit_time_s",
    "units_of",
]
