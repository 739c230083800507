"""What every calibration procedure has in common: what it needs, what it gives back, how it is written down.

A procedure sees opened interface objects and the records of what it rests on, and nothing else. What it
measured comes back as `Measured`; who measured, when and on which device, the store's records say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationMissing, CalibrationRecord, ConfigError, Device, DeviceFault, Scalar

FloatArray = NDArray[np.float64]
Tell = Callable[[str, int, int], None]
Upstream = Mapping[str, CalibrationRecord]
SomeDevice = TypeVar("SomeDevice", bound=Device)
SD = "_sd"  # ends the name of an array of standard uncertainties


class Unidentifiable(DeviceFault):
    """A fit whose data do not determine its parameters: `parameters`, and the condition number."""

    def __init__(
        self, parameters: tuple[str, ...], condition: float, limit: float, *, device: str, operation: str
    ) -> None:
        super().__init__(
            f"the data do not tell {' and '.join(parameters)} apart: the fit's condition number is "
            f"{condition:.3g}; allowed: {limit:.3g} or less",
            device=device, operation=operation,
        )  # fmt: skip
        self.parameters, self.condition, self.limit = parameters, condition, limit


@dataclass(frozen=True)
class Quantity:
    """One number with its standard uncertainty (k = 1; NaN where none is stated), both in `unit`.

    low, high: the acceptance range, None where there is no limit. words: what it is, for print.
    """

    name: str
    value: float
    sd: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    words: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the value lies in its range; a value that is not finite lies in none."""
        if self.low is None and self.high is None:
            return True
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        return bool(np.isfinite(self.value) and low <= self.value <= high)

    @property
    def allowed(self) -> str:
        """The range in words; empty where there is none."""
        if self.low is None:
            return "" if self.high is None else f"{self.high:g} or less"
        return f"{self.low:g} or more" if self.high is None else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, eq=False)
class Plot:
    """What a page draws: points x, y [N], their standard uncertainties sd [N], a fitted curve fit [N]."""

    title: str
    x: FloatArray
    y: FloatArray
    x_label: str
    y_label: str
    sd: FloatArray | None = None
    fit: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("y", "sd", "fit"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != np.shape(self.x):
                raise ConfigError(
                    f"plot {self.title!r}: {name} has shape {np.shape(values)}; allowed: that of x, "
                    f"{np.shape(self.x)}"
                )


@dataclass(frozen=True, eq=False)
class Measured:
    """What a procedure returns. Units stand in the arrays' names; standard uncertainties of an array are the
    array `<name>_sd` of the same shape. residuals: what the fit left. raw: readings, kept as the store is
    told. settings: what it was taken with, a change of which makes it stale.
    """

    kind: str
    arrays: Mapping[str, FloatArray]
    quantities: tuple[Quantity, ...] = ()
    residuals: Mapping[str, FloatArray] = field(default_factory=dict)
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    raw: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    plots: tuple[Plot, ...] = ()

    def __post_init__(self) -> None:
        for name, values in self.arrays.items():
            of = self.arrays.get(name.removesuffix(SD)) if name.endswith(SD) else values
            if of is None or np.shape(of) != np.shape(values):
                shape = "no array" if of is None else f"shape {np.shape(of)}"
                raise ConfigError(
                    f"{self.kind}: {name} has shape {np.shape(values)}; allowed: that of "
                    f"{name.removesuffix(SD)}, which has {shape}"
                )

    @property
    def accepted(self) -> bool:
        """Whether every quantity lies in its range."""
        return all(quantity.accepted for quantity in self.quantities)


class Devices:
    """Opened interface objects by role; a role is an interface (`LoopElectronics`, `Camera`, ...).

    posed: what the procedure before left on display and nulled, "" where nobody says; the runner empties it
    before each procedure, so that only who sets it anew vouches for it. See `found_posed`.
    """

    def __init__(self, by_role: Mapping[type[Device], Device]) -> None:
        self._by_role = dict(by_role)
        self.posed = self.found_posed = ""

    @classmethod
    def among(cls, devices: Iterable[Device], roles: Iterable[type[Device]]) -> Devices:
        """The first device of each role; a role that none has is left out."""
        every = list(devices)
        found = {role: next((d for d in every if isinstance(d, role)), None) for role in roles}
        return cls({role: device for role, device in found.items() if device is not None})

    def has(self, *roles: type[Device]) -> bool:
        """Whether there is a device of each role."""
        return all(role in self._by_role for role in roles)

    def get(self, role: type[SomeDevice]) -> SomeDevice:
        """The device of a role; ConfigError where there is none."""
        if role not in self._by_role:
            has = ", ".join(sorted(one.__name__ for one in self._by_role)) or "nothing"
            raise ConfigError(f"the rig has no {role.__name__}; it has {has}")
        return cast(SomeDevice, self._by_role[role])

    def begin(self) -> None:
        """Before each procedure: what was left posed is in `found_posed`, and nobody vouches for more."""
        self.found_posed, self.posed = self.posed, ""


@dataclass(frozen=True)
class Procedure:
    """One step of a calibration.

    name: on the command line. kind: of the record it leaves. title: for people. needs: kinds of records that
    `measure` gets as `upstream`. device: the role whose serial number the record belongs to. roles: all that
    must be there. validity_s: age from which the record is stale (infinite: never). notices: the faults that
    it must notice, in words. duration_s(devices): expected device time. essential: whether a calibration ends
    where it fails; else what does not rest on it goes on.

    measure(devices, upstream, tell) raises DeviceFault for what cannot be measured, `Unidentifiable` for data
    that do not determine a fit.
    """

    name: str
    kind: str
    title: str
    needs: tuple[str, ...]
    device: type[Device]
    roles: tuple[type[Device], ...]
    validity_s: float
    notices: tuple[str, ...]
    duration_s: Callable[[Devices], float]
    measure: Callable[[Devices, Upstream, Tell], Measured]
    essential: bool = True


def require(upstream: Upstream, kind: str) -> CalibrationRecord:
    """The record of a kind that a procedure rests on; CalibrationMissing where it was not given."""
    if kind not in upstream:
        raise CalibrationMissing(f"needs a record {kind!r}; given: {', '.join(sorted(upstream)) or 'none'}")
    return upstream[kind]
