"""What a record says beside its arrays: who was measured, with what, how well, for how long it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Identity
from labctl_calibration.procedure import Quantity

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class About:
    """rig: its name. identity: of the device, None where nobody kept it (records of format 1).

    temperature_c: None where the device has no thermometer. valid_s: age from which it is stale (infinite:
    never). residuals: what the fit left, by name. overrides: reasons by which it was measured all the same.
    raw_sha256: of the raw readings' file, "" where there were none; the file itself may be gone.
    """

    rig: str = ""
    identity: Identity | None = None
    code_version: str = ""
    temperature_c: float | None = None
    operator: str = ""
    valid_s: float = math.inf
    quantities: tuple[Quantity, ...] = ()
    residuals: Mapping[str, FloatArray] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)
    raw_sha256: str = ""

    @property
    def accepted(self) -> bool:
        """Whether every quantity lies in its acceptance range."""
        return all(quantity.accepted for quantity in self.quantities)

    def quantity(self, name: str) -> Quantity | None:
        """By name; None where there is none."""
        return next((one for one in self.quantities if one.name == name), None)


def as_json(about: About) -> dict[str, Any]:
    """Everything but the residuals' values, for the record's head; not finite numbers as words."""
    return {
        "rig": about.rig,
        "identity": None if about.identity is None else asdict(about.identity),
        "code_version": about.code_version,
        "temperature_c": about.temperature_c,
        "operator": about.operator,
        "valid_s": _number(about.valid_s),
        "quantities": [
            {key: _number(value) if isinstance(value, float) else value for key, value in asdict(one).items()}
            for one in about.quantities
        ],
        "findings": list(about.findings),
        "overrides": dict(about.overrides),
        "raw_sha256": about.raw_sha256,
    }


def from_json(head: Mapping[str, Any], residuals: Mapping[str, FloatArray]) -> About:
    """Back from a head. KeyError, TypeError or ValueError where it is none."""
    identity = head["identity"]
    return About(
        rig=head["rig"],
        identity=None if identity is None else Identity(**identity),
        code_version=head["code_version"],
        temperature_c=head["temperature_c"],
        operator=head["operator"],
        valid_s=float(head["valid_s"]),
        quantities=tuple(_quantity(one) for one in head["quantities"]),
        residuals=dict(residuals),
        findings=tuple(head["findings"]),
        overrides=dict(head["overrides"]),
        raw_sha256=head["raw_sha256"],
    )


def _quantity(one: Mapping[str, Any]) -> Quantity:
    limits = {name: None if one[name] is None else float(one[name]) for name in ("low", "high")}
    return Quantity(
        one["name"], float(one["value"]), float(one["sd"]), one["unit"], words=one["words"], **limits
    )


def _number(value: float) -> float | str:
    """JSON has no number for these three; float() reads the words back."""
    return value if math.isfinite(value) else str(value)
