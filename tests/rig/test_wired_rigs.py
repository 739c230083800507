"""Rig files with real wires: address and settings are checked before anything is opened."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from pydantic import BaseModel, ConfigDict, Field

from labctl.devices import ConfigError, Identity, InputDrive
from labctl.rig import Rig, RigConfig, load_rig
from labctl.rig.table import DRIVERS, Entry


class WiredDrive(InputDrive):
    """Notes what it was made with."""

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        time_out_ms: float = Field(default=1000.0, gt=0)

    spec = None

    def __init__(self, name: str, address: str, **settings: float) -> None:
        super().__init__(name)
        self.address, self.settings = address, self.Settings(**settings)

    def _do_open(self):
        return Identity("nobody", "nothing", "0", "0", simulated=False)

    def _do_close(self):
        pass

    def _do_snapshot(self):
        return {}

    _do_drive = _do_temperature_c = None


@pytest.fixture
def wired_drive(monkeypatch):
    module = ModuleType("wired_drive_of_a_test")
    module.WiredDrive = WiredDrive
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(DRIVERS, "test.drive", Entry("drive", f"{module.__name__}:WiredDrive", None))


def rig_file(tmp_path, device: str) -> str:
    path = tmp_path / "rig.toml"
    path.write_text(f'name = "wired"\nabout = ""\nengine = "digital"\n[[device]]\nname = "leds"\n{device}\n')
    return str(path)


def test_a_driver_is_given_its_address_and_settings(wired_drive, tmp_path) -> None:
    text = 'driver = "test.drive"\naddress = "TCPIP::10.0.0.5::5025::SOCKET"\nsettings = {time_out_ms = 50}'
    config = load_rig(rig_file(tmp_path, text))
    device = Rig(config).build()["leds"]
    assert isinstance(device, WiredDrive)
    assert device.address == "TCPIP::10.0.0.5::5025::SOCKET"
    assert device.settings.time_out_ms == 50
    assert not device.is_open
    assert RigConfig.model_validate_json(config.as_json()) == config  # a run file holds all of it


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ('driver = "test.drive"', "device 'leds': test.drive needs an address"),
        (
            'driver = "test.drive"\naddress = "x"\nsettings = {time_out_ms = 0}',
            "device 'leds': settings of test.drive: time_out_ms = 0: allowed: more than 0",
        ),
        (
            'driver = "test.drive"\naddress = "x"\nsettings = {timeout_ms = 5}',
            "key 'timeout_ms' is not known; did you mean 'time_out_ms'",
        ),
    ],
)  # fmt: skip
def test_a_mistake_names_device_and_setting(wired_drive, tmp_path, device, message) -> None:
    with pytest.raises(ConfigError, match=r"rig\.toml") as caught:
        load_rig(rig_file(tmp_path, device))
    assert message in str(caught.value)


def test_a_twin_has_no_address(tmp_path) -> None:
    world = '[world]\nprofile = "adm"\n'
    text = 'driver = "twin.emitters"\naddress = "COM3"\n' + world
    with pytest.raises(ConfigError, match=r"twin\.emitters has no address: it is simulated here"):
        load_rig(rig_file(tmp_path, text))
