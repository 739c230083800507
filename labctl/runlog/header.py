"""What a run file says about itself before the first step: enough to run the same thing again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from labctl.devices import Identity, Scalar


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(_Frozen):
    """A recipe or rig file after every default and `--set` was filled in, as text."""

    name: str
    text: str
    format: Literal["toml", "json"] = "toml"


class DeviceRecord(_Frozen):
    """One device of the rig as it answered when opened."""

    name: str
    vendor: str
    model: str
    serial: str
    firmware: str
    simulated: bool

    @classmethod
    def of(cls, name: str, identity: Identity) -> DeviceRecord:
        """The record of a device called `name` in the rig file."""
        return cls(
            name=name,
            vendor=identity.vendor,
            model=identity.model,
            serial=identity.serial,
            firmware=identity.firmware,
            simulated=identity.simulated,
        )


class Timing(_Frozen):
    """The time profile the run was made with, in us per sample and step; None where it has no meaning.

    `full_scale` is the state's full scale in network units (settled means within 1% of it).
    """

    profile: str
    tau_us: float | None = None
    trip_us: float | None = None
    wait_us: float | None = None
    window_us: float | None = None
    step_us: float | None = None
    full_scale: float | None = None


class RunHeader(_Frozen):
    """Everything about a run that is known before its first step.

    `protocol` and `rig` are fully resolved, so that they with `seed`, `versions` and `numerics` (threads,
    dtype, batching) make the same run again. `n_channels` is the number of machine rows n; `n_classes` is 0
    for an unconditional network. `network` is the model card. `overrides`: software limits and interlocks
    that were let pass, and why. Times are ISO 8601 with a zone.
    """

    title: str
    protocol: Document
    rig: Document
    seed: int
    n_samples: int = Field(ge=1)
    d: int = Field(ge=1)
    n_channels: int = Field(ge=1)
    n_classes: int = Field(default=0, ge=0)
    versions: dict[str, str] = Field(default_factory=dict)
    git_commit: str | None = None
    numerics: dict[str, Scalar] = Field(default_factory=dict)
    devices: tuple[DeviceRecord, ...] = ()
    calibration_records: tuple[str, ...] = ()
    network: dict[str, JsonValue] = Field(default_factory=dict)
    timing: Timing | None = None
    start_time: str = Field(default_factory=lambda: now_iso())
    operator: str | None = None
    hostname: str | None = None
    command: tuple[str, ...] = ()
    overrides: dict[str, str] = Field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether no real device took part (a run without devices is computed, so simulated)."""
        return all(device.simulated for device in self.devices)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in order; none where the network has none."""
        names = self.network.get("class_names")
        return tuple(str(name) for name in names) if isinstance(names, list) else ()


def now_iso() -> str:
    """The present, in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def device_records(identities: Mapping[str, Identity]) -> tuple[DeviceRecord, ...]:
    """Records of the devices of a rig, by their name in the rig file."""
    return tuple(DeviceRecord.of(name, identity) for name, identity in identities.items())


def as_json_card(card: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> dict[str, JsonValue]:
    """A model card as plain JSON values; anything that is not JSON becomes its text."""
    return {str(key): _plain(value) for key, value in dict(card).items()}


def _plain(value: Any) -> JsonValue:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)
