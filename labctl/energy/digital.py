"""Energy of one image on a digital computer: a measured time, and an assumed power."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from labctl.devices.errors import ConfigError
from labctl.energy.account import Account
from labctl.energy.constants import Value


@dataclass(frozen=True)
class DigitalWork:
    """A job that was run and timed: seconds an image, on one thread. what: what was run, in words.

    watts: the power that was measured while it ran, where a meter was there; None: the constants' p_cpu_w.
    Raises ConfigError for a time or a power that cannot be.
    """

    what: str
    seconds: float
    watts: float | None = None

    def __post_init__(self) -> None:
        for field in ("seconds", "watts"):
            value = getattr(self, field)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"digital baseline: {field} = {value}: allowed: more than 0")


def digital_account(work: DigitalWork, constants: Mapping[str, Value]) -> Account:
    """Cost of one image: the processor as the core; memory, board and the supply's losses at the wall plug.

    A measured power is taken at the wall: core and wall plug are the same then.
    """
    if work.watts is not None:
        measured = {"measured": work.seconds * work.watts}
        return Account(measured, measured, {"computing": work.seconds})
    core = work.seconds * constants["p_cpu_w"]
    rest = work.seconds * constants["p_cpu_rest_w"]
    efficiency = constants["supply_efficiency"]
    return Account(
        {"processor": core},
        {"processor": core / efficiency, "rest of the computer": rest / efficiency},
        {"computing": work.seconds},
    )
