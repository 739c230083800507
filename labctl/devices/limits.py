"""What may be asked of a bench at most: software limits, and absolute ones that nothing passes.

A guard compares every command with both before it is sent. It protects parts, not people: for people the
chain is hard-wired, and labctl only reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, model_validator

from labctl.devices.errors import ConfigError, LimitExceeded

if TYPE_CHECKING:
    from labctl.devices.device import Device

ROUNDING = 1e-9  # of a limit: what a sum of currents may be beyond it


class LimitValues(BaseModel):
    """Largest values; None: no limit.

    channel_ma and total_ma: current of one emitter and of all. temperature_c: of the device commanded.
    irradiance_w_cm2: on the panel. mirror_duty: share of a DMD's mirrors that are on, mean over a sequence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    channel_ma: float | None = Field(default=None, ge=0)
    total_ma: float | None = Field(default=None, ge=0)
    temperature_c: float | None = None
    irradiance_w_cm2: float | None = Field(default=None, ge=0)
    mirror_duty: float | None = Field(default=None, ge=0, le=1)

    def limited(self) -> dict[str, float]:
        """The limits that there are."""
        return {name: value for name in LIMITS if (value := getattr(self, name)) is not None}


LIMITS = ("channel_ma", "total_ma", "temperature_c", "irradiance_w_cm2", "mirror_duty")


class LightPath(BaseModel):
    """How a bench's numbers become current and light: measured by its owner, or from a data sheet.

    ma_per_unit and pedestal_units: current of one emitter for phi = 1, and the pedestal it rides on, in units
    of phi; loop electronics need both. mw_per_ma and panel_area_cm2: light of an emitter, and the area that
    all of them light.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    ma_per_unit: float | None = Field(default=None, gt=0)
    pedestal_units: float | None = Field(default=None, ge=0)
    mw_per_ma: float | None = Field(default=None, gt=0)
    panel_area_cm2: float | None = Field(default=None, gt=0)


class Limits(LimitValues):
    """Software limits, which an override with a reason passes, and `absolute` ones, which nothing does."""

    absolute: LimitValues = LimitValues()
    light: LightPath = LightPath()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        absolute = self.absolute.limited()
        for name, value in self.limited().items():
            if value > absolute.get(name, np.inf):
                raise ValueError(
                    f"{name} is {value:g}; allowed: at most its absolute limit, {absolute[name]:g}"
                )
        if "irradiance_w_cm2" in self.everything:
            self.need_light("irradiance_w_cm2", "mw_per_ma", "panel_area_cm2")
        return self

    @property
    def everything(self) -> set[str]:
        """Names of all that is limited in either way."""
        return {*self.limited(), *self.absolute.limited()}

    def need_light(self, limit: str, *names: str) -> None:
        """ValueError where the light path lacks one of these, so that the limit could not be checked."""
        for name in names:
            if getattr(self.light, name) is None:
                raise ValueError(f"limit {limit} cannot be checked without light.{name}; allowed: give it")


class Guard:
    """Compares commands of a bench with its limits. `overridden`: software limits that are let pass, and why.

    `passed` is what was let pass: the largest value by limit.
    """

    def __init__(self, limits: Limits, overridden: Mapping[str, str] | None = None) -> None:
        self.limits = limits
        self.overridden = dict(overridden or {})
        self.passed: dict[str, float] = {}
        for name in self.overridden:
            if name not in limits.limited():
                raise ConfigError(
                    f"override of {name!r}: it is no software limit of this rig; allowed: "
                    f"{', '.join(limits.limited()) or 'none'}"
                )

    def current(self, device: Device, operation: str, current_ma: ArrayLike) -> None:
        """LimitExceeded unless patterns [B, n] keep the limits on current and light, and it is cool."""
        values = np.abs(np.atleast_2d(np.asarray(current_ma, np.float64)))
        total_ma = float(values.sum(axis=1).max())
        self._check(device, operation, "channel_ma", float(values.max()), "current of a channel", "mA")
        self._check(device, operation, "total_ma", total_ma, "total current", "mA")
        light = self.limits.light
        if light.mw_per_ma is not None and light.panel_area_cm2 is not None:
            irradiance = total_ma * light.mw_per_ma * 1e-3 / light.panel_area_cm2
            self._check(device, operation, "irradiance_w_cm2", irradiance, "irradiance of the panel", "W/cm2")
        self.temperature(device, operation)

    def drive(self, device: Device, operation: str, drive_units: ArrayLike) -> None:
        """As `current`, for emitters that loop electronics drive so: [B, n] in units of phi = 1."""
        per_unit = self.limits.light.ma_per_unit
        if per_unit is None:
            self.temperature(device, operation)
        else:
            self.current(device, operation, np.asarray(drive_units, np.float64) * per_unit)

    def phi(self, device: Device, operation: str, phi_units: ArrayLike) -> None:
        """As `drive`, for outputs of phi (in a closed loop up to 1): the pedestal comes on top."""
        pedestal = self.limits.light.pedestal_units or 0.0
        self.drive(device, operation, np.asarray(phi_units, np.float64) + pedestal)

    def mirrors(self, device: Device, operation: str, on_share: float) -> None:
        """LimitExceeded unless so few of a DMD's mirrors may be on."""
        self._check(device, operation, "mirror_duty", on_share, "share of mirrors that are on", "")

    def temperature(self, device: Device, operation: str) -> None:
        """LimitExceeded unless the device is cool enough; it is asked only where that is limited."""
        read: Any = getattr(device, "temperature_c", None)
        if read is not None and "temperature_c" in self.limits.everything:
            value = float(read())
            self._check(device, operation, "temperature_c", value, "temperature", "°C")

    def _check(self, device: Device, operation: str, name: str, value: float, what: str, unit: str) -> None:
        absolute, software = getattr(self.limits.absolute, name), getattr(self.limits, name)
        for limit, kind in ((absolute, "absolute"), (software, "software")):
            if limit is None or value <= limit + abs(limit) * ROUNDING:  # nan is not: a missing reading
                continue
            if kind == "software" and name in self.overridden:
                self.passed[name] = max(value, self.passed.get(name, -np.inf))
                continue
            way = (
                "nothing passes it"
                if kind == "absolute"
                else f'labctl run --override "{name}: REASON" passes it'
            )
            raise LimitExceeded(
                f"{what} would be {value:.4g} {unit}".rstrip()
                + f"; {kind} limit {name}: {limit:.4g} {unit}".rstrip()
                + f", {way}",
                device=device.name, operation=operation,
            )  # fmt: skip
