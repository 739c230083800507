"""A rig as its calibration sees it: devices by role, and what the rig file sets of them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from labctl_calibration.planning import Bench
from labctl_calibration.procedure import Devices, Procedure
from labctl_calibration.registry import PROCEDURES, procedures_for
from labctl_calibration.store import RecordStore
from labctl_calibration.taking import Circumstances

from labctl.devices import ConfigError, Device, Scalar
from labctl.rig.rig import Rig


def bench_of(
    rig: Rig, records: RecordStore | Path, operator: str = "", procedures: Sequence[Procedure] = PROCEDURES
) -> Bench:
    """Of an open rig: the procedures that its devices allow. ConfigError where there is none."""
    roles = {role for procedure in procedures for role in (*procedure.roles, procedure.device)}
    devices = Devices.among(rig.devices.values(), roles)
    possible = procedures_for(devices, tuple(procedures))
    if not possible:
        wanted = sorted({" and ".join(role.__name__ for role in one.roles) for one in procedures})
        raise ConfigError(
            f"rig {rig.name} has nothing to calibrate; allowed: a rig with {', or '.join(wanted)}"
        )
    settings = {role.__name__: _settings(rig, role) for role in roles if devices.has(role)}
    store = records if isinstance(records, RecordStore) else RecordStore(records)
    return Bench(possible, devices, store, Circumstances(rig.name, operator, settings, rig.overrides))


def _settings(rig: Rig, role: type[Device]) -> dict[str, Scalar]:
    """The driver and the rig file's settings of the first device of a role, as `Devices.among` takes it."""
    name = next(name for name, device in rig.devices.items() if isinstance(device, role))
    config = next(one for one in rig.config.device if one.name == name)
    plain = {k: v if isinstance(v, str | int | float | bool) else repr(v) for k, v in config.settings.items()}
    wiring = rig.config.wiring
    wired = {} if wiring is None else {"wiring": sha256(wiring.model_dump_json().encode()).hexdigest()[:12]}
    return {"driver": config.driver, **plain, **wired}
