"""The pace of a serial line on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import serial
from labctl_sim_devices.wires.pty_line import PtyLine

BAUD, SENT = 9600, bytes(20)
ON_THE_LINE_S = len(SENT) * 10 / BAUD


@pytest.fixture
def line() -> Iterator[PtyLine]:
    line = PtyLine(BAUD)
    yield line
    line.close()


def taken(line: PtyLine) -> bytes:
    """What the device reads of one sending."""
    data = b""
    while len(data) < len(SENT):
        data += line.read(1.0)
    return data


def test_what_is_sent_after_an_answer_is_on_the_line_for_its_whole_time(line):
    with serial.Serial(line.address, BAUD, timeout=1.0) as host:
        for _ in range(3):
            begun = time.monotonic()
            host.write(SENT)
            time.sleep(0.015)  # the device is late: it looks when the bytes have long been there
            assert taken(line) == SENT
            assert time.monotonic() - begun >= ON_THE_LINE_S
            line.write(b"!")
            assert host.read(1) == b"!"


def test_a_device_that_looks_late_makes_a_full_line_no_slower(line, mocker):
    slept = mocker.patch("labctl_sim_devices.wires.pty_line.time.sleep")
    with serial.Serial(line.address, BAUD, timeout=1.0) as host:
        host.write(SENT)
        assert line.read(1.0) == SENT[:1]
        begun = time.monotonic()
        while time.monotonic() - begun < 0.01:
            pass
        assert line.read(1.0) == SENT[:1]
    first_s, second_s = (call.args[0] for call in slept.call_args_list)
    assert first_s == pytest.approx(10 / BAUD, rel=0.1)
    assert second_s == 0.0  # the byte came over meanwhile
