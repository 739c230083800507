"""Constants of the ledger: value, interval, where they come from; and draws from the intervals."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from labctl.config_files import first_problem, nearest, parse_toml
from labctl.devices.errors import ConfigError

FloatArray = NDArray[np.float64]
Value = float | FloatArray  # one number, or one a draw [S]
Group = Literal["oscillators", "optics", "host", "digital", "claimed machine"]
Provenance = Literal["published", "derived", "assumed", "set by the user"]
DECADE = 10.0
MAY_BE_ZERO = ("W", "J")  # what can be left out of a ledger; a rate or a share of 0 makes no sense


class Constant(BaseModel):
    """One constant. interval: what it may be, [low, high] around `value`; log-uniform from a decade on.

    provenance and source say where value and interval come from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: Group
    meaning: str = Field(min_length=1)
    value: float
    unit: Literal["W", "J", "s", "Hz", "B/s", "bit/s", ""]
    interval: tuple[float, float]
    distribution: Literal["log-uniform", "uniform", "point"]
    provenance: Provenance
    source: str = Field(min_length=10)

    @field_validator("value", "interval")
    @classmethod
    def _finite(cls, found: Any) -> Any:
        if not all(
            math.isfinite(one) and one >= 0 for one in (found if isinstance(found, tuple) else [found])
        ):
            raise ValueError("allowed: finite, 0 or more")
        return found

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        low, high = self.interval
        if not low <= self.value <= high:
            raise ValueError(f"value {self.value:g} lies outside its interval [{low:g}, {high:g}]")
        if (low == high) != (self.distribution == "point"):
            raise ValueError(
                f"distribution {self.distribution!r} of [{low:g}, {high:g}]; a point is one number"
            )
        if self.distribution == "log-uniform" and low == 0:
            raise ValueError("a log-uniform interval must begin above 0")
        if self.distribution == "uniform" and low > 0 and high / low >= DECADE:
            raise ValueError(f"[{low:g}, {high:g}] spans a decade; allowed: log-uniform")
        return self

    def at(self, u: FloatArray) -> FloatArray:
        """Values at the quantiles u [S] of its distribution."""
        low, high = self.interval
        if self.distribution == "log-uniform":
            return np.asarray(low * (high / low) ** u)
        return np.asarray(low + (high - low) * u)


@dataclass(frozen=True)
class Constants:
    """A table of constants by name."""

    table: Mapping[str, Constant]

    def __getitem__(self, name: str) -> Constant:
        return self.table[name]

    def values(self) -> dict[str, Value]:
        """Every constant at its own value."""
        return {name: constant.value for name, constant in self.table.items()}

    def draws(self, count: int, seed: int) -> Draws:
        """`count` joint draws, independent between constants: a seeded Latin hypercube.

        A constant's quantiles depend on the seed and its name alone, so that a row's interval stays what it
        is when another constant is set. Points are drawn as their one value.
        """
        if count < 2:
            raise ConfigError(f"draws is {count}; allowed: 2 or more")
        u = {
            name: _strata(count, seed, name)
            for name, constant in self.table.items()
            if constant.distribution != "point"
        }
        values: dict[str, Value] = {
            name: constant.at(u[name]) if name in u else constant.value
            for name, constant in self.table.items()
        }
        return Draws(self, count, u, values)

    def replaced(self, settings: Mapping[str, Any], where: str) -> Constants:
        """With single constants set: to a number, which makes it certain, or to an interval [low, high].

        Raises ConfigError naming `where`, the constant, the value and what is allowed.
        """
        table = dict(self.table)
        for name, wanted in settings.items():
            if name not in table:
                hint = nearest(name, table) or f"; allowed: {', '.join(table)}"
                raise ConfigError(f"{where}: constant {name!r} is not known{hint}")
            table[name] = _set(name, table[name], wanted, where)
        return Constants(table)


@dataclass(frozen=True, eq=False)
class Draws:
    """Joint draws of all constants.

    count: S. u: quantiles [S] of every uncertain one. values: name -> [S], or a number where it is certain.
    """

    constants: Constants
    count: int
    u: Mapping[str, FloatArray]
    values: Mapping[str, Value]


@cache
def shipped_constants() -> Constants:
    """The constants that labctl ships. Raises ConfigError where one is incomplete."""
    text = (resources.files("labctl.energy") / "constants.toml").read_text("utf-8")
    table = {}
    for name, content in parse_toml(text, "constants.toml").items():
        try:
            table[name] = Constant(**content)
        except ValidationError as error:
            raise first_problem(error, f"constants.toml: {name}", Constant) from None
    return Constants(table)


def constant_names() -> tuple[str, ...]:
    """Names of the shipped constants."""
    return tuple(shipped_constants().table)


def _set(name: str, constant: Constant, wanted: Any, where: str) -> Constant:
    ends = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    allowed = _allowed(constant)
    if len(ends) not in (1, 2) or not all(_fits(end, constant) for end in ends):
        raise ConfigError(
            f"{where}: constant {name} = {wanted!r}: allowed: {allowed}, or [low, high] of such"
        )
    low, high = float(ends[0]), float(ends[-1])
    if low > high:
        raise ConfigError(
            f"{where}: constant {name} = {wanted!r}: allowed: [low, high] with low at most high"
        )
    wide = low > 0 and high / low >= DECADE
    distribution = "point" if low == high else "log-uniform" if wide else "uniform"
    if low == 0 < high:
        raise ConfigError(f"{where}: constant {name} = {wanted!r}: allowed: an interval that begins above 0")
    return constant.model_copy(
        update={
            "value": math.sqrt(low * high) if wide else (low + high) / 2,
            "interval": (low, high),
            "distribution": distribution,
            "provenance": "set by the user",
            "source": f"set in {where}",
        }
    )


def _fits(value: Any, constant: Constant) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if constant.unit in MAY_BE_ZERO:
        return value >= 0
    return 0 < value <= 1 if _is_share(constant) else value > 0


def _is_share(constant: Constant) -> bool:
    return constant.unit == "" and constant.interval[1] <= 1


def _allowed(constant: Constant) -> str:
    unit = f" {constant.unit}" if constant.unit else ""
    if constant.unit in MAY_BE_ZERO:
        return f"0{unit} or more"
    return "above 0, at most 1" if _is_share(constant) else f"more than 0{unit}"


def _strata(count: int, seed: int, name: str) -> FloatArray:
    """One uniform draw from each of `count` equal strata of [0, 1], in random order."""
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, zlib.crc32(name.encode())], np.uint64)))
    return np.asarray((rng.permutation(count) + rng.random(count)) / count)
