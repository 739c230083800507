from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # for the processes of their own, too: a driver is found by its dotted name

from labctl_sim_devices.wires.faults import FaultLayer  # noqa: E402
from lamp_driver import LampDriver  # noqa: E402
from lamp_server import LampServer  # noqa: E402


@pytest.fixture
def lamp() -> Iterator:
    """Factory: lamp(faults=None, **settings) gives an unopened `driver` and its `server`.

    lamp.driver(server) gives another.
    """
    servers, drivers = [], []

    def driver(server: LampServer, **settings: object) -> LampDriver:
        drivers.append(LampDriver("lamp", server.address, **settings))
        return drivers[-1]

    def make(faults: FaultLayer | None = None, **settings: object) -> SimpleNamespace:
        servers.append(LampServer(faults))
        return SimpleNamespace(server=servers[-1], driver=driver(servers[-1], **settings))

    make.driver = driver  # type: ignore[attr-defined]
    yield make
    for one in drivers:
        try:
            one.close()
        except Exception as error:  # noqa: BLE001 - the test has judged it
            print(error)
    for server in servers:
        server.stop()


@pytest.fixture
def environment() -> dict[str, str]:
    """In which a process of its own imports the same labctl, and the lamp."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
