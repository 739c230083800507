"""One procedure run once: what it measured, as a record with everything that belongs to it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from labctl.devices import (
    CalibrationRecord,
    ConfigError,
    DeviceFault,
    Identity,
    LoopElectronics,
    OscillatorBoard,
    Scalar,
)
from labctl.version import __version__
from labctl_calibration.procedure import Devices, Measured, Procedure, Tell, Upstream
from labctl_calibration.store import About, RawPolicy, RecordStore


@dataclass(frozen=True)
class Circumstances:
    """What is the same for all records of one calibration. settings: of the rig, by role name; see
    `settings_for`. overrides: what the rig lets pass, and why.
    """

    rig: str = ""
    operator: str = ""
    settings: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)

    def settings_for(self, procedure: Procedure) -> dict[str, Scalar]:
        """What the rig file sets of the devices that a procedure uses, "rig.ROLE.KEY"."""
        return {
            f"rig.{role.__name__}.{key}": value
            for role in procedure.roles
            for key, value in self.settings.get(role.__name__, {}).items()
        }


@dataclass(frozen=True, eq=False)
class Taken:
    """What a procedure left: `record` without ids of what it rests on, which a store gives."""

    procedure: Procedure
    measured: Measured
    record: CalibrationRecord
    about: About

    def keep(self, store: RecordStore, upstream: Sequence[str], keep_raw: RawPolicy = "none") -> str:
        """Put it into a store, resting on these ids; returns its own."""
        record = replace(self.record, upstream=tuple(upstream))
        return store.put(record, self.about, self.measured.raw, keep_raw=keep_raw)


def take(
    procedure: Procedure,
    devices: Devices,
    upstream: Upstream,
    tell: Tell,
    circumstances: Circumstances | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Taken:
    """Run a procedure on opened devices. Raises what it raises, and ConfigError for one that returns records
    of another kind than it says.
    """
    around = circumstances or Circumstances()
    devices.begin()
    measured = procedure.measure(devices, {kind: upstream[kind] for kind in procedure.needs}, tell)
    if measured.kind != procedure.kind:
        raise ConfigError(
            f"procedure {procedure.name!r} returned {measured.kind!r}; allowed: {procedure.kind!r}"
        )
    identity = devices.get(procedure.device).open()
    record = CalibrationRecord(
        kind=measured.kind,
        device_serial=identity.serial,
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        arrays=measured.arrays,
        settings={**measured.settings, **around.settings_for(procedure)},
    )
    about = About(
        rig=around.rig,
        identity=identity,
        code_version=__version__,
        temperature_c=_temperature_c(devices),
        operator=around.operator,
        valid_s=procedure.validity_s,
        quantities=measured.quantities,
        residuals=measured.residuals,
        findings=measured.findings,
        overrides={**around.overrides, **(overrides or {})},
    )
    return Taken(procedure, measured, record, about)


def take_all(
    procedures: Sequence[Procedure], devices: Devices, tell: Tell, before: Mapping[str, Taken] | None = None
) -> tuple[dict[str, Taken], tuple[str, ...]]:
    """All of them in this order, without a store, after what was taken `before`: all by kind; and in words,
    which could not be had of those that the bench works without. `tell(title, done, total)` hears of each.
    """
    found = dict(before or {})
    failed = []
    for done, procedure in enumerate(procedures):
        tell(procedure.title, done, len(procedures))
        upstream = {kind: found[kind].record for kind in procedure.needs if kind in found}
        try:
            found[procedure.kind] = take(procedure, devices, upstream, silent)
        except (DeviceFault, ConfigError) as error:
            if procedure.essential:
                raise
            failed.append(f"{procedure.title} are not registered: {error}")
    tell("done", len(procedures), len(procedures))
    return found, tuple(failed)


def keep_all(found: Mapping[str, Taken], store: RecordStore) -> dict[str, str]:
    """Put all of them into a store, each resting on what it needs; ids by kind."""
    ids: dict[str, str] = {}
    for kind, taken in found.items():
        ids[kind] = taken.keep(store, [ids[need] for need in taken.procedure.needs])
    return ids


def identity_of(procedure: Procedure, devices: Devices) -> Identity:
    """Of the device that a procedure's record belongs to."""
    return devices.get(procedure.device).open()


def silent(what: str, done: int, total: int) -> None:
    """Tells nobody."""


def _temperature_c(devices: Devices) -> float | None:
    """Of the first device that has a thermometer."""
    if devices.has(LoopElectronics):
        return devices.get(LoopElectronics).temperature_c()
    if devices.has(OscillatorBoard):
        return devices.get(OscillatorBoard).temperature_c()
    return None
