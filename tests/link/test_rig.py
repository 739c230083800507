"""A rig with something on a real wire: watched over, limited, closed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from labctl.devices import InterlockTripped, LimitExceeded, Limits
from labctl.rig.config import DeviceConfig, RigConfig
from labctl.rig.rig import Rig
from labctl.rig.table import DRIVERS, Entry


@pytest.fixture
def bench(lamp, monkeypatch):
    """Factory: bench(...) gives a rig, unopened, and the server of its lamp."""
    monkeypatch.setitem(DRIVERS, "test.lamp", Entry("drive", "lamp_driver:LampDriver", None))

    def make(**tables: object):
        server = lamp().server
        device = DeviceConfig(name="lamp", driver="test.lamp", address=server.address)
        config = RigConfig(name="bench", about="one lamp", engine="digital", device=(device,), **tables)
        return Rig(config), server

    return make


def test_it_is_watched_over_and_a_dead_watchdog_trips(bench) -> None:
    rig, server = bench()
    with rig:
        watchdog = rig._watchdog._process
        rig.devices["lamp"].drive([[100, 0, 0, 0]])
        rig.interlocks.check("now")
        os.kill(watchdog.pid, signal.SIGKILL)
        watchdog.wait()
        with pytest.raises(InterlockTripped, match="during: the watchdog process has ended"):
            rig.interlocks.check("during")
    assert sum(server.current_ma) == 0


def test_its_watchdog_ends_with_it(bench) -> None:
    rig, _ = bench()
    rig.open()
    pid = rig._watchdog._process.pid
    assert Path(f"/proc/{pid}").exists()
    rig.close()
    assert not Path(f"/proc/{pid}").exists()


def test_without_one_by_the_rig_file(bench) -> None:
    rig, _ = bench(watchdog=False)
    with rig:
        assert rig._watchdog is None


def test_limits_hold_over_a_wire(bench) -> None:
    rig, server = bench(watchdog=False, limits=Limits(total_ma=10.0, temperature_c=25.0))
    with rig:
        with pytest.raises(LimitExceeded, match=r"temperature would be 25\.25 °C; software limit"):
            rig.devices["lamp"].drive([[50, 0, 0, 0]])
        with pytest.raises(LimitExceeded, match="total current would be 11 mA"):
            rig.devices["lamp"].drive([[50, 60, 0, 0]])
    assert not any(asked.startswith("DRIVE") for asked in server.asked)
