"""Rig files: which devices stand on a bench, behind which drivers, in which world."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labctl.config_files import first_problem, nearest, parse_toml, read_toml
from labctl.devices import ConfigError, Limits, Wiring
from labctl.rig.interlocks import InterlockConfig
from labctl.rig.table import DRIVERS, WORLDS, Entry, Role, load
from labctl.rig.wiring import WiringConfig

NEEDED: dict[str, tuple[Role, ...]] = {
    "optical-loop": ("modulator", "electronics"),
    "optical-host-loop": ("modulator", "drive", "camera"),
    "digital": (),
    "oscillator": ("board",),
}
OnDrift = Literal["warn", "refit-biases", "recalibrate", "stop"]


class ScrambleConfig(BaseModel):
    """How somebody in a hurry put a simulated bench together, drawn by `seed`: drive and read cables in any
    order, a share of them inverted, the panel mounted in one of eight ways. `unplugged`: drive cables that
    are not plugged in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(ge=0)
    permuted: bool = True
    inverted_share: float = Field(default=0.15, ge=0, le=1)
    unplugged: int = Field(default=0, ge=0)
    mounting: bool = True


class WorldConfig(BaseModel):
    """The simulated bench that the rig's twins share.

    `profile` is a shipped one or a file; `unit_seed` says which bench of a population (the day's `seed` where
    none is given); `terms` scale its faults (0 = off); `overrides` replace single values of the profile.
    `started_h`: for how many hours of its clock the bench has been on when the rig opens it. `scramble`: its
    cables and its panel's mounting (none: as designed). `fault`: one physical fault of an optical bench by
    name, its place and size drawn by `fault_seed`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["optical-bench", "oscillator-bench"] = "optical-bench"
    profile: str
    address: str = ""
    seed: int = Field(default=0, ge=0)
    unit_seed: int | None = Field(default=None, ge=0)
    noise_scale: float = Field(default=1.0, ge=0, le=1000)
    terms: dict[str, float] = Field(default_factory=dict)
    overrides: dict[str, Any] = Field(default_factory=dict)
    started_h: float = Field(default=0.0, ge=0, le=10_000)
    scramble: ScrambleConfig | None = None
    fault: str | None = None
    fault_seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _breaks_what_can_break(self) -> Self:
        if self.fault is not None and self.kind != "optical-bench":
            raise ValueError(f"fault is {self.fault!r} with kind {self.kind!r}; allowed: kind optical-bench")
        if self.fault is not None and self.scramble is not None:
            raise ValueError(f"fault is {self.fault!r} beside a scramble; allowed: one of them")
        return self


class DeviceConfig(BaseModel):
    """One device: its name on this bench, its driver, and for a real one where it is and how it is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    driver: str
    address: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)

    def check_wire(self, entry: Entry) -> None:
        """ValueError where a real device has no address or wrong settings, or a twin any."""
        if entry.world is not None:
            for key in ("address", "settings"):
                if getattr(self, key):
                    raise ValueError(
                        f"device {self.name!r}: {self.driver} has no {key}: it is simulated here"
                    )
            return
        if not self.address:
            raise ValueError(f"device {self.name!r}: {self.driver} needs an address; it has none")
        model: type[BaseModel] = load(entry.target).Settings
        try:
            model(**self.settings)
        except ValidationError as error:
            where = f"device {self.name!r}: settings of {self.driver}"
            raise ValueError(str(first_problem(error, where, model))) from None


class WatchConfig(BaseModel):
    """A watch on drift during runs: what to do about it, and how often to look (`drift.watch.Pace`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_drift: OnDrift = "warn"
    every_s: float = Field(default=1.0, ge=0, le=86400)
    duty: float = Field(default=0.02, gt=0, le=0.02)
    alarms_per_day: float = Field(default=0.5, gt=0, le=1)


class RigConfig(BaseModel):
    """A whole rig. engine "optical-loop" needs a modulator and loop electronics, "optical-host-loop" a
    modulator, a drive and a camera, "oscillator" an oscillator board; "digital" needs nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    about: str
    law: Literal["loop", "oscillator"] = "loop"
    engine: Literal["optical-loop", "optical-host-loop", "digital", "oscillator"]
    n_channels: int = Field(default=48, ge=2)
    weights: Literal["frame", "pulse-width"] = "frame"
    pulse_bits: int = Field(default=3, ge=1, le=8)
    world: WorldConfig | None = None
    device: tuple[DeviceConfig, ...] = ()
    limits: Limits = Limits()
    interlock: tuple[InterlockConfig, ...] = ()
    watchdog: bool = True
    watch: WatchConfig | None = None
    wiring: WiringConfig | None = None

    @model_validator(mode="after")
    def _wiring_makes_sense(self) -> Self:
        if self.wiring is not None:
            if self.engine != "optical-loop":
                raise ValueError(
                    f"wiring is given with engine {self.engine}; allowed: engine optical-loop, whose "
                    "electronics tell where a cable goes"
                )
            self.wiring.check(self.n_channels)
        if self.world is not None and self.world.scramble is not None:
            if self.world.kind != "optical-bench":
                raise ValueError(
                    f"world.scramble is given with kind {self.world.kind}; allowed: kind optical-bench"
                )
            if self.world.scramble.unplugged > self.n_channels:
                raise ValueError(
                    f"world.scramble.unplugged is {self.world.scramble.unplugged}; allowed: 0 to "
                    f"{self.n_channels}, the channels"
                )
        return self

    @model_validator(mode="after")
    def _safety_makes_sense(self) -> Self:
        limited, names = self.limits.limited(), [interlock.name for interlock in self.interlock]
        devices = [device.name for device in self.device]
        for interlock in self.interlock:
            if names.count(interlock.name) > 1 or interlock.name in limited:
                raise ValueError(
                    f"interlock {interlock.name!r} stands twice; allowed: each name once, no limit's"
                )
            if interlock.device not in devices:
                raise ValueError(
                    f"interlock {interlock.name!r}: device {interlock.device!r} is not on this rig"
                    f"{nearest(interlock.device, devices)}; allowed: {', '.join(devices)}"
                )
        drivers = [DRIVERS[device.driver] for device in self.device if device.driver in DRIVERS]
        if any(entry.role == "electronics" for entry in drivers):
            for limit in sorted(self.limits.everything & {"channel_ma", "total_ma", "irradiance_w_cm2"}):
                self.limits.need_light(limit, "ma_per_unit", "pedestal_units")
        return self

    @property
    def wired(self) -> Wiring | None:
        """Where each channel stands at the panel; None: each at its own place."""
        return None if self.wiring is None else self.wiring.resolved(self.n_channels)

    @property
    def overridable(self) -> tuple[str, ...]:
        """Names of what `--override` may pass."""
        soft = (interlock.name for interlock in self.interlock if not interlock.absolute)
        return (*self.limits.limited(), *soft)

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
            if entry.world is not None and self.world is not None and self.world.address:
                raise ValueError(
                    f"device {device.name!r}: {device.driver} needs its world in this process; that of "
                    f"this rig is served at {self.world.address}: allowed are drivers of real wires"
                )
            device.check_wire(entry)
        roles = [DRIVERS[d.driver].role for d in self.device]
        for role in NEEDED[self.engine]:
            if roles.count(role) != 1:
                raise ValueError(
                    f"engine {self.engine} has {roles.count(role)} devices for {role}; allowed: exactly 1"
                )
        if (self.law == "oscillator") != (self.engine == "oscillator"):
            raise ValueError(
                f'law is "{self.law}" with engine {self.engine}; allowed: law "oscillator" with engine '
                'oscillator, "loop" with the others'
            )
        if self.weights == "pulse-width" and self.engine != "optical-host-loop":
            raise ValueError(
                f'weights is "pulse-width" with engine {self.engine}; allowed: "frame" (a plane outlasts the '
                "loop's settling), or engine optical-host-loop"
            )
        if self.engine == "optical-loop" and roles.count("camera") > 1:
            raise ValueError(f"there are {roles.count('camera')} cameras; allowed: at most 1")
        if self.world is not None and self.world.kind not in WORLDS:
            raise ValueError(f"world {self.world.kind!r} is not known; allowed: {', '.join(WORLDS)}")
        return self

    def as_json(self) -> str:
        """The resolved configuration, for the run log."""
        plain = self.model_dump(mode="json")
        for name in ("watch", "wiring"):
            if getattr(self, name) is None:
                plain.pop(name)
        if self.world is not None and not self.world.started_h:
            plain["world"].pop("started_h")
        if self.world is not None and self.world.scramble is None:
            plain["world"].pop("scramble")
        if self.world is not None and self.world.fault is None:
            plain["world"].pop("fault")
            plain["world"].pop("fault_seed")
        return json.dumps(plain, indent=1)


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
        config = RigConfig(**parse_toml(text, where))
    except ValidationError as error:
        raise first_problem(error, where, RigConfig) from None
    return config if text_name in rig_names() else _self_contained(config, path)


def watched(config: RigConfig, on_drift: str | None) -> RigConfig:
    """The rig with another policy of its watch on drift; as it is where none is asked for."""
    if on_drift is None:
        return config
    if on_drift not in get_args(OnDrift):
        raise ConfigError(f"--on-drift is {on_drift!r}; allowed: {', '.join(get_args(OnDrift))}")
    watch = (config.watch or WatchConfig()).model_dump() | {"on_drift": on_drift}
    return config.model_copy(update={"watch": WatchConfig(**watch)})


def _self_contained(config: RigConfig, rig_file: Path) -> RigConfig:
    """A profile file's numbers become overrides of its base, so that a run file holds all of them.

    A relative path is beside the rig file.
    """
    world = config.world
    if world is None or not world.profile.endswith(".toml"):
        return config
    try:
        base, values = load(WORLDS[world.kind].profiles).values(rig_file.parent / world.profile)
    except ConfigError as error:
        raise ConfigError(f"{rig_file}: world.profile: {error}") from None
    update = {"profile": base, "overrides": {**values, **world.overrides}}
    return config.model_copy(update={"world": world.model_copy(update=update)})
