"""The drivers: what they say on the wire, what they do about each error and each misbehaviour of a wire."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import zlib

import numpy as np
import pytest
from labctl_drivers.link import Deadline, WireLog
from labctl_drivers.scpi.loop_electronics import ScpiLoopElectronics
from labctl_drivers.scpi.visa_wire import VisaWire
from labctl_sim_devices.wires.scpi.arguments import ScpiError

from labctl.devices import (
    ConfigError,
    DeviceFault,
    DeviceStateError,
    DeviceTimeout,
    DeviceUnavailable,
    DeviceValueError,
    UnsupportedFeature,
)

HURRY = {"timeout_s": 0.4, "batch_timeout_s": 5.0, "open_timeout_s": 2.0, "attempts": 3}


@pytest.mark.dialogue(
    "scpi.loop-electronics", "scpi.input-drive", "scpi.panel", source="docs/reference/scpi.md"
)
@pytest.mark.parametrize(
    ("kind", "call", "asked", "answered"),
    [
        ("drive", lambda device: device.temperature_c(), b"SYST:TEMP?", b"25.0"),
        ("electronics", lambda device: device.temperature_c(), b"SYST:TEMP?", b"25.0"),
        ("panel", lambda device: device.repeat_us, b"PAN:REP?", None),
    ],
)
def test_what_goes_over_the_wire(served, kind, call, asked, answered) -> None:
    """A command, then the error queue and the seal."""
    one = served(kind)
    with one.driver as device:
        value = call(device)
        sent, came = device.wire_log.last().removesuffix(b"\n").rsplit(b"> ", 1)[-1].split(b"\n\n< ")
        message, tag = sent.rsplit(b";:SYST:SEAL? ", 1)
        assert message == asked
        body, seal = came.rsplit(b";", 1)
        assert float(body) == value
        assert answered in (None, body)
        told = b"%d,0" % int(tag)
        assert seal == told + b",%08x" % zlib.crc32(b"|".join((message, body, told)))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (-222, DeviceValueError),
        (-221, DeviceStateError),
        (-113, UnsupportedFeature),
        (-241, UnsupportedFeature),
        (-365, DeviceTimeout),
        (-240, DeviceFault),
        (301, DeviceUnavailable),
        (-350, DeviceFault),
    ],
)
def test_the_instruments_errors_become_ours(served, monkeypatch, number, kind) -> None:
    one = served("drive", **HURRY)
    with one.driver as drive:

        def refuse(arguments):
            one.face.instrument.status.fail(ScpiError(number, "said so"))
            raise ScpiError(-363, "and more")

        queue = one.face.instrument.status.errors
        monkeypatch.setattr(one.face.instrument, "_carried_out", _instead(one, "SYST:TEMP?", refuse))
        with pytest.raises(kind) as caught:
            drive.temperature_c()
        text = str(caught.value)
        assert text.startswith("drive: temperature_c: the instrument reports ")
        assert f"reports {number}, " in text
        assert "then -363, Input buffer overrun;and more" in text
        assert one.address in text
        assert caught.value.wire
        assert not queue  # drained
        monkeypatch.undo()
        assert drive.temperature_c() == 25.0


def _instead(one, header, refuse):
    original = one.face.instrument._carried_out

    def carried_out(full, rest):
        return refuse(rest) if full == header else original(full, rest)

    return carried_out


def test_another_instrument_is_refused(served) -> None:
    emitters = served("drive")
    wrong = ScpiLoopElectronics("electronics", emitters.address, **HURRY)
    with pytest.raises(
        DeviceUnavailable,
        match="electronics: open: simulated emitters describes itself as no loop-electronics",
    ):
        wrong.open()


def test_a_data_sheet_comes_with_opening(served) -> None:
    one = served("electronics")
    with pytest.raises(DeviceStateError, match=r"call open\(\) first"):
        _ = one.driver.spec
    with one.driver:
        assert one.driver.spec.n_channels == 48


def test_settings_are_checked_by_name() -> None:
    with pytest.raises(ConfigError, match=r"device 'e': settings: .*batch_timeout_s = 0"):
        ScpiLoopElectronics("e", "TCPIP::127.0.0.1::9::SOCKET", batch_timeout_s=0)


@pytest.mark.parametrize(
    "address",
    ["TCPIP::127.0.0.1::9::SOCKET", "TCPIP::127.0.0.1::hislip0,9::INSTR", "ASRL/dev/nothing::INSTR"],
)
def test_nobody_there_is_said_soon(address) -> None:
    began = time.monotonic()
    with pytest.raises(DeviceUnavailable, match=r"^e: open: ") as caught:
        ScpiLoopElectronics("e", address, **HURRY).open()
    assert address in str(caught.value)
    assert time.monotonic() - began < 5


def test_after_a_reconnection_it_is_programmed_as_before(served) -> None:
    one = served("electronics", "hislip", **HURRY)
    with one.driver as electronics:
        null = np.arange(48) - 24
        electronics.set_offset_null(null)
        before = electronics.snapshot()
        one.face._device.set_offset_null(np.zeros(48, np.int64))  # it lost its power
        electronics._wire.close()
        assert electronics.snapshot() == before


# -- an instrument that we did not write ------------------------------------------------------------------


@pytest.fixture
def peer():
    """scpipy's server (MIT, version 1.5.1 tried), with one route; its address."""
    server = pytest.importorskip("scpipy.server.server", reason="scpipy is not installed")
    routing = pytest.importorskip("scpipy.server.routing")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made, router, wait_us = server.Server("127.0.0.1", port), routing.Router(), [8.5]

    @router.register("LOOP:WAIT <value>")
    def set_wait(context, value: str):
        wait_us[0] = float(value)

    @router.register("LOOP:WAIT?")
    def get_wait(context):
        return wait_us[0]

    made.include_router(router)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(made._listen(),))
    thread.start()
    yield f"TCPIP::127.0.0.1::{port}::SOCKET"
    loop.call_soon_threadsafe(made.stop)
    thread.join(10)
    loop.close()


def test_a_server_that_we_did_not_write_reads_our_messages_alike(served, peer) -> None:
    """The same messages through our wire to scpipy's server and to ours: the same answers."""
    messages = [
        b"*CLS", b"*ESR?", b"*ESE 32", b"*ESE?", b"LOOP:WAIT 7", b"LOOP:WAIT?", b"loop:wait 6.5;wait?",
        b"LOOP:WAIT 5;:LOOP:WAIT?", b"SYST:ERR?", b"NOBODY", b"*ESR?", b"*OPC?", b"*SRE 16;*SRE?",
    ]  # fmt: skip
    answers = []
    for address in (peer, served("electronics").address):
        deadline = Deadline.after(20.0)
        wire = VisaWire(address, "@py", WireLog(), deadline, {})
        try:
            answers.append(
                [
                    wire.ask(m + b"\n", deadline) if b"?" in m else wire.tell(m + b"\n", deadline)
                    for m in messages
                ]
            )
        finally:
            wire.close()
    theirs, ours = answers
    assert theirs == ours
