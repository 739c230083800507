"""Instruments behind SCPI on this machine, and the drivers that speak to them."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import pyvisa
from labctl_drivers.scpi.input_drive import ScpiInputDrive
from labctl_drivers.scpi.loop_electronics import ScpiLoopElectronics
from labctl_drivers.scpi.panel import ScpiPanel
from labctl_sim_devices import ElectronicsTwin, EmitterTwin, OpticalBench, PanelTwin, load_profile
from labctl_sim_devices.wires.scpi.drive import ScpiDriveFace
from labctl_sim_devices.wires.scpi.loop import ScpiLoopFace
from labctl_sim_devices.wires.scpi.panel import ScpiPanelFace

KINDS = {
    "electronics": (ElectronicsTwin, ScpiLoopFace, ScpiLoopElectronics),
    "drive": (EmitterTwin, ScpiDriveFace, ScpiInputDrive),
    "panel": (PanelTwin, ScpiPanelFace, ScpiPanel),
}


@pytest.fixture
def served():
    """Factory: a twin on a wire, with its driver (unopened): served("electronics", "socket", faults=...)."""
    made = []

    def build(kind="electronics", medium="socket", *, faults=None, latency_s=0.0, **settings):
        twin, face, driver = KINDS[kind]
        bench = OpticalBench(load_profile("adm"), noise_scale=1.0)
        served = face(twin(kind, bench), threading.RLock(), medium=medium, faults=faults, latency_s=latency_s)
        address = served.start().address
        one = SimpleNamespace(
            bench=bench, face=served, address=address, driver=driver(kind, address, **settings)
        )
        made.append(one)
        return one

    yield build
    for one in made:
        one.face.stop()


@pytest.fixture
def bare():
    """Factory: the same address by pyvisa alone."""
    manager, opened = pyvisa.ResourceManager("@py"), []

    def connect(address):
        resource = manager.open_resource(address)
        resource.timeout = 5000
        resource.read_termination = resource.write_termination = "\n"
        if address.endswith("INSTR"):
            resource.read_termination = None
        opened.append(resource)
        return resource

    yield connect
    for resource in opened:
        resource.close()
