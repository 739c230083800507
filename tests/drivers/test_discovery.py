"""What is attached is listed with what it answers; a port that somebody has is not touched."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import tty
from types import SimpleNamespace

import pytest
from labctl_drivers import discovery, serial_asking
from labctl_drivers.discovery import NotAsked, displays, serial_ports, side_by_side, usb_instruments
from labctl_drivers.link import Deadline
from labctl_drivers.link.ownership import ResourceLock
from labctl_drivers.serial_asking import ask_port, other_holder
from labctl_sim_devices import (
    EmitterTwin,
    OpticalBench,
    OscillatorBench,
    OscillatorBoardTwin,
    load_oscillator_profile,
    load_profile,
)
from labctl_sim_devices.wires.scpi.drive import ScpiDriveFace
from labctl_sim_devices.wires.serial_board import SerialBoardFace
from labctl_sim_devices.wires.virtual_screen import VirtualScreen

from labctl.rig import discover

list_ports = pytest.importorskip("serial.tools.list_ports", reason="pyserial is not installed")


@pytest.fixture
def line():
    """A serial line: (the port's address, the other end's file)."""
    far_end, near_end = os.openpty()
    tty.setraw(near_end)
    address = os.ttyname(near_end)
    yield address, far_end
    for end in (far_end, near_end):
        os.close(end)


@pytest.fixture
def board():
    """The address of a line with an oscillator board at its end, and the board."""
    profile = load_oscillator_profile("board50", {"rows": 4, "columns": 4})
    twin = OscillatorBoardTwin("board", OscillatorBench(profile))
    face = SerialBoardFace(twin, threading.RLock())
    yield face.start().address, twin
    face.stop()


def sent_to(far_end):
    os.set_blocking(far_end, False)
    try:
        return os.read(far_end, 4096)
    except BlockingIOError:
        return b""


def answering(far_end, answer):
    """The first words that come are answered."""

    def speak():
        os.read(far_end, 4096)
        os.write(far_end, answer)

    threading.Thread(target=speak, daemon=True).start()


def test_a_board_is_known_by_its_version_and_left_off(board):
    address, twin = board
    assert ask_port(address) == "oscillator board, speaks version 1 of the protocol (serial.oscillator-board)"
    assert not twin.is_open


def test_silence_and_other_voices_are_told_apart(line):
    address, far_end = line
    began = time.monotonic()
    assert ask_port(address) == "no oscillator board answers at 921600 baud"
    assert time.monotonic() - began < 2.0
    assert sent_to(far_end)
    os.set_blocking(far_end, True)
    answering(far_end, b"\0HELLO FROM A PLC\0")
    assert ask_port(address).startswith("something else answers at 921600 baud: ")


def test_a_port_that_is_locked_is_not_touched_and_its_holder_named(line):
    address, far_end = line
    lock = ResourceLock(address, device="somebody")
    lock.acquire(Deadline.after(1.0))
    try:
        said = ask_port(address)
    finally:
        lock.release()
    assert said.startswith(f"not asked: {address} is in use by process {os.getpid()} (")
    assert sent_to(far_end) == b""


def test_a_port_that_another_program_has_open_is_not_touched(line):
    address, far_end = line
    code = "import sys; held = open(sys.argv[1], 'rb'); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "open\n"
        said = ask_port(address)
        holder.stdin.close()
    assert said.startswith(f"not asked: in use by process {holder.pid} ({sys.executable}")
    assert sent_to(far_end) == b""
    assert other_holder(address) == ""


def test_ports_are_asked_side_by_side_and_not_at_all_when_told_so(line, board, monkeypatch):
    silent, far_end = line
    ports = [
        SimpleNamespace(device=address, vid=0x0403, pid=0x6001, serial_number="FT1", description="adapter")
        for address in (silent, board[0], "/dev/not-there")
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    listed = {found.address: found for found in serial_ports(False)}
    assert {found.answer for found in listed.values()} == {""}
    assert sent_to(far_end) == b""
    assert listed[silent].about == "VID 0403 PID 6001 serial FT1, adapter"
    began = time.monotonic()
    answers = {found.address: found.answer for found in serial_ports()}
    assert time.monotonic() - began < 2.0
    assert answers[silent].startswith("no oscillator board answers")
    assert answers[board[0]].startswith("oscillator board, speaks version 1")
    assert answers["/dev/not-there"].startswith("not asked: the port cannot be opened")


def test_whoever_does_not_come_back_holds_nobody_up():
    forever = threading.Event()

    def ask(address):
        if address == "stuck":
            forever.wait(30)
        if address == "broken":
            raise OSError("bent pin")
        return "well"

    assert side_by_side(ask, ["a", "stuck", "broken"], limit_s=0.3) == [
        "well", "no answer in 0.3 s", "could not be asked: bent pin",
    ]  # fmt: skip
    forever.set()


def test_visa_resources_come_with_their_names(monkeypatch):
    pyvisa = pytest.importorskip("pyvisa", reason="pyvisa is not installed")
    face = ScpiDriveFace(EmitterTwin("leds", OpticalBench(load_profile("ideal"))), threading.RLock())
    address = face.start().address
    addresses = (address, "ASRL/dev/ttyS0::INSTR", "GPIB7::5::INSTR")
    monkeypatch.setattr(pyvisa.ResourceManager, "list_resources", lambda self, query: addresses)
    try:
        found = list(discovery.visa_resources())
    finally:
        face.stop()
    assert [one.address for one in found] == [address, addresses[2]]
    assert found[0].answer.startswith("labctl,simulated emitters,SIM-LED")
    assert found[1].answer.startswith("does not answer *IDN?: ")


def test_instruments_on_usb_are_listed_without_a_byte(tmp_path):
    for path, text in (
        ("1-2/idVendor", "0957"), ("1-2/idProduct", "1755"), ("1-2/serial", "MY001"), ("1-2/product", "DSO"),
        ("1-2/manufacturer", "Maker"), ("1-2:1.0/bInterfaceClass", "fe"),
        ("1-2:1.0/bInterfaceSubClass", "03"), ("1-3/idVendor", "046d"), ("1-3:1.0/bInterfaceClass", "03"),
        ("1-3:1.0/bInterfaceSubClass", "01"),
    ):  # fmt: skip
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n")
    (found,) = usb_instruments(tmp_path)
    assert (found.address, found.about) == ("USB::0x0957::0x1755::MY001::INSTR", "Maker DSO")


def test_a_virtual_screen_tells_no_edid(monkeypatch):
    pytest.importorskip("pygame", reason="pygame is not installed")
    pytest.importorskip("mss", reason="mss is not installed")
    screen = VirtualScreen((480, 640), device="screen")
    try:
        screen.start()
    except Exception as error:  # noqa: BLE001 - no X server here
        pytest.skip(str(error))
    monkeypatch.setenv("DISPLAY", screen.display)
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    try:
        (found,) = displays()
    finally:
        screen.stop()
    assert found.address == "screen:0"
    assert found.about.startswith("640 x 480 pixels")
    assert found.answer in (
        "screen tells no EDID: a virtual screen has none",
        "who hangs there is not known: the system does not say which output it is",  # without xrandr
    )


def test_without_asking_nothing_is_broadcast(monkeypatch):
    for name in ("pyvisa", "viva_genicam"):
        pytest.importorskip(name)
    monkeypatch.setattr(serial_asking, "ask_port", pytest.fail)
    monkeypatch.setattr(discovery, "ask_port", pytest.fail)
    troubles = {heading: trouble for heading, _, trouble in discover(ask=False)}
    assert troubles["VISA resources"].startswith("instruments on a network or a GPIB are not looked for")
    assert troubles["GigE Vision cameras"] == "not looked for: that takes a broadcast"
    with pytest.raises(NotAsked):
        list(discovery.cameras(False))
