"""Rig files: which devices stand on a bench, behind which drivers, in which world."""

from __future__ import annotations

import json
import tomllib
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labctl.devices import ConfigError
from labctl.rig.table import DRIVERS, WORLDS


class WorldConfig(BaseModel):
    """The simulated bench that the rig's twins share; `overrides` replace single values of the profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["optical-bench"] = "optical-bench"
    profile: str
    seed: int = Field(default=0, ge=0)
    noise_scale: float = Field(default=1.0, ge=0, le=1000)
    overrides: dict[str, Any] = Field(default_factory=dict)


class DeviceConfig(BaseModel):
    """One device: its name on this bench and its driver."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    driver: str


class RigConfig(BaseModel):
    """A whole rig. engine "optical-loop" needs a modulator and loop electronics; "digital" needs nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    about: str
    law: Literal["loop", "oscillator"] = "loop"
    engine: Literal["optical-loop", "digital"]
    n_channels: int = Field(default=48, ge=2)
    world: WorldConfig | None = None
    device: tuple[DeviceConfig, ...] = ()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        names = [d.name for d in self.device]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"device name {name!r} stands twice; allowed: each name once")
        for device in self.device:
            entry = DRIVERS.get(device.driver)
            if entry is None:
                raise ValueError(
                    f"device {device.name!r}: driver {device.driver!r} is not known"
                    f"{nearest(device.driver, DRIVERS)}; allowed: {', '.join(DRIVERS)}"
                )
            if entry.world is not None and (self.world is None or self.world.kind != entry.world):
                raise ValueError(
                    f"device {device.name!r}: {device.driver} needs a [world] of kind {entry.world}"
                )
        roles = [DRIVERS[d.driver].role for d in self.device]
        if self.engine == "optical-loop":
            for role in ("modulator", "electronics"):
                if roles.count(role) != 1:
                    raise ValueError(
                        f"engine optical-loop has {roles.count(role)} devices for {role}; allowed: exactly 1"
                    )
        if self.world is not None and self.world.kind not in WORLDS:
            raise ValueError(f"world {self.world.kind!r} is not known; allowed: {', '.join(WORLDS)}")
        return self

    def as_json(self) -> str:
        """The resolved configuration, for the run log."""
        return json.dumps(self.model_dump(mode="json"), indent=1)


def nearest(word: str, known: Any) -> str:
    """'; did you mean X?' where something is close, else nothing."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def read_toml(path: Path) -> str:
    """The text of a TOML file, or ConfigError where it cannot be read as text."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not text in UTF-8") from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """TOML to a dict, or ConfigError with the place of the mistake."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not TOML: {error}") from None


def first_problem(error: ValidationError, where: str, model: type[BaseModel]) -> ConfigError:
    """pydantic's first complaint as one line that names file, field, value and what is allowed."""
    problems = error.errors()
    # A misspelt key makes the right one missing: the spelling is what helps.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    loc = problem["loc"]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, loc[:-1])
        hint = nearest(str(loc[-1]), known) or f"; allowed: {', '.join(known)}"
        return ConfigError(f"{where}: key {field!r} is not known{hint}")
    if problem["type"] == "missing":
        return ConfigError(f"{where}: {field} is missing")
    message = _allowed(problem["type"], problem.get("ctx", {}), problem["msg"])
    if not field:
        return ConfigError(f"{where}: {message}")
    return ConfigError(f"{where}: {field} = {problem['input']!r}: {message}")


_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "tuple": "a list",
    "dict": "a table",
}


def _allowed(kind: str, bounds: dict[str, Any], message: str) -> str:
    """pydantic's words where they are ours already, else what is allowed."""
    match kind:
        case "greater_than_equal":
            return f"allowed: {bounds['ge']:g} or more"
        case "greater_than":
            return f"allowed: more than {bounds['gt']:g}"
        case "less_than_equal":
            return f"allowed: {bounds['le']:g} or less"
        case "literal_error":
            return f"allowed: {bounds['expected']}"
        case "value_error":
            return message.removeprefix("Value error, ")
    wanted = _WANTED.get(kind.split("_")[0])
    return f"allowed: {wanted}" if wanted else message


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields at a place inside a model: through tuples and optional parts."""
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            inner = _models_in(model.model_fields[part].annotation)
            model = inner[0] if inner else model
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def _shipped() -> Any:
    return resources.files("labctl_recipes") / "rigs"


def rig_names() -> list[str]:
    """Shipped rigs."""
    return sorted(f.name.removesuffix(".toml") for f in _shipped().iterdir() if f.name.endswith(".toml"))


def load_rig(name_or_path: str | Path) -> RigConfig:
    """A shipped rig by name, or a rig file. Raises ConfigError with file, key and value."""
    text_name = str(name_or_path)
    path = Path(name_or_path)
    if text_name in rig_names():
        text, where = (_shipped() / f"{text_name}.toml").read_text("utf-8"), f"rig {text_name}"
    elif path.is_file():
        text, where = read_toml(path), str(path)
    else:
        raise ConfigError(
            f"rig {text_name!r} is neither shipped nor a file{nearest(text_name, rig_names())}; "
            f"shipped: {', '.join(rig_names())}"
        )
    try:
        return RigConfig(**parse_toml(text, where))
    except ValidationError as error:
        raise first_problem(error, where, RigConfig) from None
