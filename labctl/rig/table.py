"""The one table of implementations: what a rig file calls a driver, and where it lives.

Dotted names, imported on demand, so that a missing vendor SDK breaks only its own device.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

Role = Literal[
    "modulator",
    "drive",
    "electronics",
    "camera",
    "flat-field",
    "board",
    "laser",
    "power-meter",
    "oscilloscope",
    "signal-generator",
]


@dataclass(frozen=True)
class Entry:
    """One driver: the role it fills, its class, and the world it lives in.

    None is a real wire: the class takes (name, address, **settings), and `Settings` says which there are.
    """

    role: Role
    target: str
    world: str | None


@dataclass(frozen=True)
class World:
    """A kind of simulated bench: its class, and its profiles' folder."""

    bench: str
    profiles: str


DRIVERS: dict[str, Entry] = {
    "twin.lcos-panel": Entry("modulator", "labctl_sim_devices.panel:PanelTwin", "optical-bench"),
    "twin.dmd": Entry("modulator", "labctl_sim_devices.dmd:DmdTwin", "optical-bench"),
    "twin.phase-panel": Entry("modulator", "labctl_sim_devices.phase_panel:PhasePanelTwin", "optical-bench"),
    "twin.emitters": Entry("drive", "labctl_sim_devices.emitters:EmitterTwin", "optical-bench"),
    "twin.loop-electronics": Entry(
        "electronics", "labctl_sim_devices.electronics:ElectronicsTwin", "optical-bench"
    ),
    "twin.camera": Entry("camera", "labctl_sim_devices.camera:CameraTwin", "optical-bench"),
    "twin.flat-field": Entry("flat-field", "labctl_sim_devices.flat_field:FlatFieldTwin", "optical-bench"),
    "twin.oscillator-board": Entry(
        "board", "labctl_sim_devices.oscillator_board:OscillatorBoardTwin", "oscillator-bench"
    ),
    "gige.camera": Entry("camera", "labctl_drivers.genicam.gige:GenICamCamera", None),
    "gentl.camera": Entry("camera", "labctl_drivers.genicam.gentl:GentlCamera", None),
    "pylon.camera": Entry("camera", "labctl_drivers.genicam.pylon:PylonCamera", None),
    "micromanager.camera": Entry("camera", "labctl_drivers.micromanager:MicroManagerDevice", None),
    "display.slm": Entry("modulator", "labctl_drivers.display.slm:DisplaySLM", None),
    "slmsuite.slm": Entry("modulator", "labctl_drivers.slmsuite.slm:SlmsuiteSLM", None),
    "slmsuite.camera": Entry("camera", "labctl_drivers.slmsuite.camera:SlmsuiteCamera", None),
    "alp4.dmd": Entry("modulator", "labctl_drivers.alp4.dmd:Alp4DMD", None),
    "dlpc900.dmd": Entry("modulator", "labctl_drivers.dlpc900.dmd:Dlpc900DMD", None),
    "scpi.loop-electronics": Entry(
        "electronics", "labctl_drivers.scpi.loop_electronics:ScpiLoopElectronics", None
    ),
    "scpi.input-drive": Entry("drive", "labctl_drivers.scpi.input_drive:ScpiInputDrive", None),
    "scpi.laser": Entry("laser", "labctl_drivers.scpi.instruments:ScpiLaser", None),
    "scpi.power-meter": Entry("power-meter", "labctl_drivers.scpi.instruments:ScpiPowerMeter", None),
    "scpi.oscilloscope": Entry("oscilloscope", "labctl_drivers.scpi.instruments:ScpiOscilloscope", None),
    "scpi.signal-generator": Entry(
        "signal-generator", "labctl_drivers.scpi.instruments:ScpiSignalGenerator", None
    ),
    "scpi.panel": Entry("modulator", "labctl_drivers.scpi.panel:ScpiPanel", None),
    "serial.oscillator-board": Entry("board", "labctl_drivers.serial_board:SerialOscillatorBoard", None),
}

# The wire that a twin of a role is put on by `labctl twin serve`.
FACES: dict[Role, str] = {
    "modulator": "labctl_sim_devices.wires.scpi.panel:ScpiPanelFace",
    "drive": "labctl_sim_devices.wires.scpi.drive:ScpiDriveFace",
    "electronics": "labctl_sim_devices.wires.scpi.loop:ScpiLoopFace",
    "camera": "labctl_sim_devices.wires.gige:GigeFace",
    "board": "labctl_sim_devices.wires.serial_board:SerialBoardFace",
}
# What `labctl discover` looks for: a heading, what lists it, and the extra that it needs.
DISCOVERIES: tuple[tuple[str, str, str], ...] = (
    ("VISA resources", "labctl_drivers.discovery:visa_resources", "scpi"),
    ("serial ports", "labctl_drivers.discovery:serial_ports", "serial"),
    ("displays", "labctl_drivers.discovery:displays", "display"),
    ("GigE Vision cameras", "labctl_drivers.discovery:cameras", "gige"),
)
# Other wires that a modulator's twin can be put on, by the name that `labctl twin serve --modulator` takes.
MODULATOR_FACES: dict[str, str] = {
    "scpi": FACES["modulator"],
    "screen": "labctl_sim_devices.wires.screen:ScreenFace",
    "dlpc900": "labctl_sim_devices.wires.dlpc900:Dlpc900Face",
}
SEAT = "labctl_sim_devices.wires.seat:Seat"
WORLD_LOCK = "labctl_sim_devices.wires.screen:LookingLock"
WORLD_WIRE = "labctl_sim_devices.wires.world:WorldWire"

WORLDS: dict[str, World] = {
    "optical-bench": World("labctl_sim_devices.bench:OpticalBench", "labctl_sim_devices.profile:PROFILES"),
    "oscillator-bench": World(
        "labctl_sim_devices.oscillator_bench:OscillatorBench",
        "labctl_sim_devices.oscillator_profile:PROFILES",
    ),
}

SCRAMBLE = "labctl_sim_devices.cables:scrambled"
PROFILE_IMPORT = "labctl_sim_devices.profile_import:import_profile"


def load(target: str) -> Any:
    """The object at "module:name"."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
