"""A driver's package is imported when it is needed, and one line says what to install where it is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labctl.rig.table import DRIVERS

ROOT = Path(__file__).resolve().parents[2]
CAMERA = {
    "full_well_e": 10e3, "quantum_efficiency": 0.6, "read_noise_e": 5.0, "line_us": 5.0, "shutter": "global",
}  # fmt: skip

PANEL = {"height_px": 8, "width_px": 8, "settle_us": 0, "vsync": "off", "serial": "1"}


@dataclass(frozen=True)
class Needs:
    """What a driver needs (a module and an extra), and how to make one of it."""

    module: str
    extra: str
    address: str = "TCPIP::127.0.0.1::9::SOCKET"
    settings: dict[str, object] = field(default_factory=dict)


SCPI = Needs("pyvisa", "scpi")
NEEDS = {
    "gige.camera": Needs("viva_genicam", "gige", "127.0.0.1", CAMERA),
    "gentl.camera": Needs("harvesters", "gentl", "some.cti::1", CAMERA),
    "pylon.camera": Needs("pypylon", "pylon", "0815-0000", CAMERA),
    "micromanager.camera": Needs("pymmcore_plus", "micromanager", "DemoCamera/DCam", CAMERA),
    "slmsuite.slm": Needs("slmsuite", "slmsuite", "slmsuite.hardware.slms.simulated:SimulatedSLM"),
    "slmsuite.camera": Needs(
        "slmsuite", "slmsuite", "slmsuite.hardware.cameras.simulated:SimulatedCamera", CAMERA
    ),
    "display.slm": Needs("pygame", "display", "screen:0@:99", PANEL),
    "dlpc900.dmd": Needs("hid", "dlpc900", "hid:", {"serial": "1"}),
    "serial.oscillator-board": Needs("serial", "serial", "/dev/ttyNONE"),
    **{name: SCPI for name in DRIVERS if name.startswith("scpi.")},
}
# what comes with the device, and no package index has
DELIVERED = {"alp4.dmd": ("alp:nothing.so", "ViALUX delivers it with the device")}
# found by every Python started below, the windows of panels included
HIDE = "import sys\nfor name in {names}:\n    sys.modules[name] = None\n"
TELL = """
import importlib, json, sys
for name, target, address, settings in json.loads(sys.argv[1]):
    place, _, kind = target.partition(":")
    try:
        getattr(importlib.import_module(place), kind)("device", address, **settings).open()
        told = "it opened"
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    print(json.dumps([name, told]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each driver says at `open` on a computer that has none of their packages."""
    folder = tmp_path_factory.mktemp("hidden")
    hidden = sorted({needs.module for needs in NEEDS.values()})
    (folder / "sitecustomize.py").write_text(HIDE.format(names=hidden))
    drivers = [(name, DRIVERS[name].target, needs.address, needs.settings) for name, needs in NEEDS.items()]
    drivers += [(name, DRIVERS[name].target, address, {}) for name, (address, _) in DELIVERED.items()]
    places = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    output = subprocess.run(
        [sys.executable, "-c", TELL, json.dumps(drivers)],
        capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
    ).stdout  # fmt: skip
    return dict(json.loads(line) for line in output.splitlines())


def test_every_driver_is_here():
    assert set(NEEDS) | set(DELIVERED) == {name for name, entry in DRIVERS.items() if entry.world is None}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert {needs.extra for needs in NEEDS.values()} <= set(extras)


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_a_missing_package_gives_one_line_with_its_extra(told, name):
    line = told[name]
    assert line.startswith("DeviceUnavailable: device: open: ")
    assert f"is not installed; pip install 'analog-labctl[{NEEDS[name].extra}]'" in line
    assert "\n" not in line


@pytest.mark.parametrize("name", sorted(DELIVERED))
def test_a_library_that_comes_with_the_device_is_named_so(told, name):
    assert told[name].startswith("DeviceUnavailable: device: open: ")
    assert DELIVERED[name][1] in told[name]
