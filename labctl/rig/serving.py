"""A whole simulated bench on local wires: this process owns the world, real drivers talk to it."""

from __future__ import annotations

import threading
from typing import Any

from labctl.config_files import toml_text
from labctl.devices import ConfigError
from labctl.rig.config import DeviceConfig, RigConfig
from labctl.rig.rig import Rig
from labctl.rig.served_world import described
from labctl.rig.table import DRIVERS, FACES, MODULATOR_FACES, SEAT, WORLD_LOCK, WORLD_WIRE, load


class ServedRig:
    """The twins of a rig behind wires, from `start` to `stop`.

    `config` is the rig that points real drivers at them, `refused` says of devices that have no wire why.
    Whoever opens that rig finds the bench as it is at its beginning, as a rig in his own process would.
    modulator: the wire of the panel, a key of MODULATOR_FACES. Raises ConfigError for a rig that is no twin,
    for one that cannot work without a device that has no wire, and for a panel that is none for its wire.
    """

    def __init__(self, config: RigConfig, *, modulator: str = "scpi") -> None:
        if modulator not in MODULATOR_FACES:
            raise ConfigError(f"modulator is {modulator!r}; allowed: {', '.join(MODULATOR_FACES)}")
        if config.world is None or config.world.address:
            raise ConfigError(
                f"rig {config.name} cannot be served: nothing here is simulated in this process"
            )
        self._own = config
        self._rig = Rig(config)
        self._modulator = modulator
        self._lock = load(WORLD_LOCK)(threading.RLock())
        self._wires: list[Any] = []
        self._seats: dict[str, Any] = {}  # of the faces, by device
        self.refused: dict[str, str] = {}
        self.config = config

    def start(self) -> RigConfig:
        """Put every device on its wire; returns the rig that uses them."""
        world = self._own.world
        if world is None:
            raise ConfigError(f"rig {self._own.name} has no world")
        self._rig.build()
        try:
            devices = [served for device in self._own.device if (served := self._served(device))]
            wire = load(WORLD_WIRE)(self._begin_anew, self._lock, described(world))
            self._wires.append(wire)
            wire.start()
            document = self._own.model_dump(mode="json") | {
                "about": f"{self._own.about}, behind local wires",
                "world": {**described(world), "address": wire.address},
                "device": [device.model_dump(mode="json") for device in devices],
            }
            self.config = self._checked(document)
        except BaseException:
            self.stop()
            raise
        return self.config

    def stop(self) -> None:
        """Take the wires away, then leave every device safe. Twice is harmless."""
        wires, self._wires = self._wires, []
        for wire in wires:
            wire.stop()
        with self._lock:
            self._rig.close()

    def rig_file(self) -> str:
        """`config` as a rig file."""
        return toml_text(self.config.model_dump(mode="json", exclude_defaults=True))

    def _served(self, device: DeviceConfig) -> DeviceConfig | None:
        role = DRIVERS[device.driver].role
        face = MODULATOR_FACES[self._modulator] if role == "modulator" else FACES.get(role)
        if face is None:
            self.refused[device.name] = f"no wire for a twin of a {role} yet"
            return None
        seat = self._seats[device.name] = load(SEAT)(self._rig.devices[device.name])
        wire = load(face)(seat, self._lock)
        self._wires.append(wire)
        found = wire.start()
        if hasattr(wire, "look"):  # a screen tells nobody what it shows: whoever uses light looks first
            self._lock.screens.append(wire)
        return DeviceConfig(
            name=device.name, driver=found.driver, address=found.address, settings=dict(found.settings)
        )

    def _begin_anew(self) -> Any:
        """Under the world's lock: another bench, as it is at its beginning, takes this one's place."""
        before, self._rig = self._rig, Rig(self._own)
        devices = self._rig.build()
        for name, seat in self._seats.items():
            seat.device = devices[name]
        before.close()
        return self._rig.world

    def _checked(self, document: dict[str, Any]) -> RigConfig:
        try:
            return RigConfig(**document)
        except ValueError as error:
            missing = "; ".join(f"{name}: {why}" for name, why in self.refused.items())
            raise ConfigError(f"rig {self._own.name} cannot be served: {missing or error}") from None
