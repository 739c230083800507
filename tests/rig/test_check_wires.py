"""Checking a bench on wires: side by side, within five seconds, each failure with what to do about it."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import tty

import pytest

from labctl.rig import RigConfig, ServedRig, check_rig, discover, load_rig
from labctl.rig.remedies import REMEDIES


def bench(**addresses: str) -> RigConfig:
    drivers = {"panel": "scpi.panel", "leds": "scpi.input-drive", "loop": "scpi.loop-electronics"}
    devices = [
        {"name": name, "driver": drivers[name], "address": address} for name, address in addresses.items()
    ]
    return RigConfig(name="bench", about="", engine="digital", device=devices)


@pytest.fixture
def mute():
    """An address where somebody listens and never answers."""
    listening = socket.create_server(("127.0.0.1", 0))
    held = []

    def hold():
        while True:
            try:
                held.append(listening.accept()[0])
            except OSError:
                return

    threading.Thread(target=hold, daemon=True).start()
    yield f"TCPIP::127.0.0.1::{listening.getsockname()[1]}::SOCKET"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for connection in held:
        connection.close()


def test_three_dead_devices_are_each_named_with_their_remedy_within_five_seconds(mute) -> None:
    began = time.monotonic()
    found = list(
        check_rig(bench(panel="TCPIP::127.0.0.1::hislip0,9::INSTR", leds=mute, loop="ASRL/dev/no::INSTR"))
    )
    assert time.monotonic() - began < 5.0
    assert [(f.device, f.ok) for f in found] == [("panel", False), ("leds", False), ("loop", False)]
    assert [f.remedy.split(":")[0] for f in found] == [
        "127.0.0.1 is there, but nothing listens",
        "connected, but it does not answer",
        "no such port",
    ]


@pytest.mark.slow
def test_three_dead_devices_on_three_kinds_of_wire(monkeypatch) -> None:
    """A port where nothing listens, a serial line with nobody at its end, a network without the camera."""
    pytest.importorskip("viva_genicam")
    host_end, port_end = os.openpty()
    tty.setraw(port_end)
    with socket.create_server(("127.0.0.1", 0)) as closed_again:
        port = closed_again.getsockname()[1]
    sheet = {"full_well_e": 1e4, "quantum_efficiency": 0.5, "read_noise_e": 3.0, "line_us": 10.0}
    devices = [
        {"name": "loop", "driver": "scpi.loop-electronics", "address": f"TCPIP::127.0.0.1::{port}::SOCKET"},
        {"name": "board", "driver": "serial.oscillator-board", "address": os.ttyname(port_end)},
        {"name": "camera", "driver": "gige.camera", "address": "127.88.1.1", "settings": sheet},
    ]
    config = RigConfig(name="bench", about="", engine="digital", device=devices)
    try:
        began = time.monotonic()
        found = list(check_rig(config))
        assert time.monotonic() - began < 5.0
    finally:
        os.close(host_end)
        os.close(port_end)
    assert [(f.device, f.ok) for f in found] == [("loop", False), ("board", False), ("camera", False)]
    loop, board, camera = (f.remedy for f in found)
    assert loop.startswith("127.0.0.1 is there, but nothing listens: switch the instrument's")
    assert board.startswith("the port is there, but nothing answers: check the cable")
    assert camera.startswith("no camera has this address: check its cable, its power")


def test_a_sound_device_is_checked_beside_dead_ones(mute) -> None:
    served = ServedRig(load_rig("optical-twin"))
    try:
        config = served.start()
        emitters = next(d for d in config.device if d.name == "emitters")
        found = list(check_rig(bench(leds=emitters.address, loop=mute)))
        assert {f.test for f in found if f.ok and not f.note} == {"identity", "health", "drive"}
        assert [f.device for f in found if not f.ok] == ["loop"]
        wrong = list(check_rig(bench(loop=emitters.address)))
        assert [f.remedy.split(":")[0] for f in wrong] == ["another instrument is at this address"]
    finally:
        served.stop()
    gone = list(check_rig(config))
    assert {f.remedy.split(":")[0] for f in gone} == {"nobody serves this bench"}


def test_every_remedy_is_one_sentence() -> None:
    for row in REMEDIES:
        assert row.advice
        assert not row.advice.endswith(".")


def test_a_missing_library_is_one_line(monkeypatch) -> None:
    for name in ("pyvisa", "serial.tools", "pygame", "viva_genicam"):
        monkeypatch.setitem(sys.modules, name, None)
    listed = list(discover())
    assert [heading for heading, _, _ in listed] == [
        "VISA resources", "serial ports", "displays", "GigE Vision cameras",
    ]  # fmt: skip
    assert all(trouble.startswith("not asked: pip install 'analog-labctl[") for _, _, trouble in listed)
