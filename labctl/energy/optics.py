"""Energy and time of one image of the optical loop.

    E = T (n P_led + P_slm + 2 n P_det + n P_loop) + settles n (E_dac + 40 E_adc) + host + upload / batch

T is the loop's own time for the image: settles times (wait + window). Every row has one emitter and, for the
two signs of its weights, two detectors. Ours; the powers of the published machine were not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from labctl.devices.errors import ProgramError
from labctl.energy.account import Account, total
from labctl.energy.constants import Value
from labctl.energy.host import behind_supply_j, cable_s, host_j

READINGS = 40  # of the ADC in a window: 6.4 us at 6.25 MHz
PATHS = 2  # detectors of a row, one for each sign


@dataclass(frozen=True)
class OpticsWork:
    """What one image asks of the loop.

    n: rows; settles: of one image, the final evaluation among them; step_s: wait + window of a settle.
    upload_s: of the batch, showing the matrix; batch: images that share it and the commands.
    cable_s: on the cable per image; None: modelled from a row's bytes, one command a settle (host-stepped).

    Raises ProgramError for numbers that no run has.
    """

    n: int
    settles: int
    step_s: float
    upload_s: float
    batch: int
    cable_s: float | None = None

    def __post_init__(self) -> None:
        for field in ("n", "settles", "batch"):
            if getattr(self, field) < 1:
                raise ProgramError(f"optical run: {field} = {getattr(self, field)}: allowed: 1 or more")
        for field in ("step_s", "upload_s", "cable_s"):
            value = getattr(self, field)
            if value is not None and not 0 <= value < math.inf:
                raise ProgramError(f"optical run: {field} = {value}: allowed: 0 or more")

    @property
    def loop_s(self) -> float:
        """T: the loop's own time for an image."""
        return self.settles * self.step_s


# Bytes of a row and settle: codes of bias, gain, leak and start go up; mean, two halves and spread come down.
UP_BYTES, DOWN_BYTES = 8, 16


def bench_power_w(work: OpticsWork, constants: Mapping[str, Value]) -> dict[str, Value]:
    """Power of the running bench by part, W."""
    return {
        "emitters": work.n * constants["p_led_w"],
        "panel": constants["p_slm_w"],
        "detectors": PATHS * work.n * constants["p_det_w"],
        "loop electronics": work.n * constants["p_loop_w"],
    }


def optics_account(work: OpticsWork, constants: Mapping[str, Value]) -> Account:
    """Cost of one image. Core: light, panel, detectors, loop for T, converters, the panel's upload share."""
    power = bench_power_w(work, constants)
    upload_s = work.upload_s / work.batch
    core: dict[str, Value] = {part: work.loop_s * watts for part, watts in power.items()}
    each_row = constants["e_dac_j"] + READINGS * constants["e_adc_j"]
    core["converters"] = work.settles * work.n * each_row
    core["upload"] = upload_s * constants["p_slm_w"]
    cable: Value = (
        cable_s(constants, work.settles * work.n * (UP_BYTES + DOWN_BYTES), 2 * work.settles / work.batch)
        if work.cable_s is None
        else work.cable_s
    )
    latency: dict[str, Value] = {"settles": work.loop_s, "upload": upload_s, "cable": cable}
    awake_s = total(latency)
    wall: dict[str, Value] = {
        "bench": behind_supply_j(constants, total(power) * awake_s),
        "converters": behind_supply_j(constants, core["converters"]),
        "host": host_j(constants, awake_s),
    }
    return Account(core, wall, latency)
