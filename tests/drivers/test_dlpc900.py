"""DLPC900: bytes as TI's guide DLPU018J has them, images rebuilt from the reports, errors in its words."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest
from decoder_cases import everyday_and_slow
from hypothesis import given
from hypothesis import strategies as st
from labctl_drivers.dlpc900 import commands as c
from labctl_drivers.dlpc900.dmd import Dlpc900DMD, upload_s
from labctl_drivers.dlpc900.erle import encode, encode_still, length_bytes
from labctl_drivers.dlpc900.hid_wire import reports_of
from labctl_sim_devices import DmdTwin, OpticalBench, load_profile
from labctl_sim_devices.wires.dlpc900 import Dlpc900, Dlpc900Face
from labctl_sim_devices.wires.mirror_image import BadImage, planes_of

from labctl.devices import (
    ConfigError,
    DeviceFault,
    DeviceUnavailable,
    DeviceValueError,
)


@pytest.mark.dialogue("dlpc900.dmd", source="TI DLPU018J, 1.2.3")
def test_a_write_is_framed_as_in_the_guide():
    """DLPU018J 1.2.3: the curtain colour, 0x00 0x12 0x08 0x00 0x00 0x11 and six bytes of data."""
    (report,) = reports_of(0x00, 0x12, 0x1100, bytes.fromhex("ff01ff01ff01"))
    assert report[:12] == bytes.fromhex("001208000011ff01ff01ff01")
    assert len(report) == 64
    assert not any(report[12:])


@pytest.mark.dialogue("dlpc900.dmd", source="TI DLPU018J, 1.2.2")
def test_a_read_is_framed_as_in_the_guide():
    """DLPU018J 1.2.2: 0xC0 0x11 0x02 0x00 0x00 0x11."""
    (report,) = reports_of(c.READ | c.REPLY, 0x11, 0x1100, b"")
    assert report[:6] == bytes.fromhex("c01102000011")


@pytest.mark.dialogue("dlpc900.dmd", source="TI DLPU018J, figure 1-5")
def test_what_does_not_fit_follows_without_header():
    """DLPU018J figure 1-5: the rest of a longer command comes in transfers of its own."""
    data = bytes(range(1, 101))
    first, second = reports_of(0x40, 1, c.LOAD_IMAGE, data)
    assert first[:6] == bytes([0x40, 1, 102, 0, 0x2B, 0x1A])
    assert first[6:] + second[: len(data) - 58] == data


@pytest.mark.dialogue("dlpc900.dmd", source="TI DLPU018J, table 5-3")
def test_a_pattern_is_defined_as_in_the_guides_example():
    """DLPU018J table 5-3, step 2, for white in place of red: 200 us, 1 bit, image 0, plane 0."""
    assert c.definition(0, 200, 0) == bytes.fromhex("0000c80000700000000000 00".replace(" ", ""))
    assert c.definition(1, 400, 1)[-2:] == (1 << 11).to_bytes(2, "little")  # step 3: 0x0008


@pytest.mark.dialogue("dlpc900.dmd", source="Pycrafter6500 (csi-dcsc) and mcSIM (QI2lab), which agree")
def test_lengths_have_their_low_bits_first():
    """As Pycrafter6500 (csi-dcsc) and mcSIM (QI2lab) write them."""
    assert length_bytes(127) == b"\x7f"
    assert length_bytes(128) == b"\x80\x01"
    assert length_bytes(1920) == bytes([1920 & 0x7F | 0x80, 1920 >> 7])


@pytest.mark.dialogue("dlpc900.dmd", source="TI DLPU018J, table of enhanced RLE")
def test_the_guides_compressed_lines_expand():
    """DLPU018J table "enhanced RLE": repeats, pixels as they are, and a copy of the line above."""
    line = bytes.fromhex("03040506 05777777 0003040506070809 0a0b0c 02789abc 0000".replace(" ", ""))
    data = line + bytes.fromhex("01010203 00010c 0000 000100".replace(" ", ""))
    header = b"Spld" + bytes([13, 0, 2, 0]) + len(data).to_bytes(4, "little") + b"\xff" * 8
    image = header + bytes(5) + bytes([2, 1]) + bytes(21) + data
    planes = planes_of(image, (2, 13))
    pixels = (planes.astype(np.uint32) << np.arange(24, dtype=np.uint32)[:, None, None]).sum(axis=0)
    expected = [0x040506] * 3 + [0x777777] * 5 + [0x040506, 0x070809, 0x0A0B0C] + [0x789ABC] * 2
    np.testing.assert_array_equal(pixels[0], expected)
    np.testing.assert_array_equal(pixels[1], [0x010203, *expected[1:]])


@given(
    st.integers(1, 24), st.integers(1, 9), st.sampled_from([1, 2, 127, 128, 129, 300]),
    st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 0.5]),
)  # fmt: skip
def test_planes_come_back_from_their_image(count, height, width, seed, share):
    rng = np.random.default_rng(seed)
    planes = (rng.random((count, height, width)) < share).astype(np.uint16)
    planes[:, height // 2 :] = planes[:, :1]  # lines that are alike
    back = planes_of(encode(planes), (height, width))
    np.testing.assert_array_equal(back[:count], planes)
    assert not back[count:].any()
    assert encode_still(planes[0]) == encode(planes[:1].repeat(24, axis=0))


def _damaged_image(tail, at, value):
    """No crash and no hang; what is accepted has the size of the mirrors."""
    planes = np.zeros((1, 4, 40), np.uint16)
    planes[0, 1, 3:9] = planes[0, 2, ::2] = 1
    image = bytearray(encode(planes))
    image[at % len(image)] = value
    for spoilt in (bytes(image), bytes(image[: at % len(image)]), bytes(image) + tail, tail):
        with suppress(BadImage):
            assert planes_of(spoilt, (4, 40)).shape == (24, 4, 40)


test_damaged_images_are_refused_or_whole, test_damaged_images_slow = everyday_and_slow(
    _damaged_image, st.binary(max_size=80), st.integers(0, 200), st.integers(0, 255)
)


@pytest.fixture
def mirrors():
    """A controller with mirrors of the dmd profile on a socket, and its driver, open."""
    twin = DmdTwin("mirrors", OpticalBench(load_profile("dmd")))
    face = Dlpc900Face(twin, threading.RLock())
    wire = face.start()
    with Dlpc900DMD("dmd", wire.address, **{**wire.settings, "timeout_s": 20.0}) as driver:
        yield twin, driver, wire
    face.stop()


def test_frames_arrive_mirror_for_mirror(mirrors):
    _frames_arrive(mirrors, range(4))


@pytest.mark.slow
def test_thirty_frames_arrive_mirror_for_mirror(mirrors):
    _frames_arrive(mirrors, range(30))


def _frames_arrive(mirrors, seeds):
    twin, driver, _ = mirrors
    height, width = driver.spec.shape_px
    for seed in seeds:
        rng = np.random.default_rng(seed)
        cells = rng.integers(0, 2, (height // 18, width // 16), dtype=np.uint16)
        frame = cells.repeat(18, axis=0).repeat(16, axis=1)
        frame[seed::97] ^= 1
        driver.show(frame)
        np.testing.assert_array_equal(twin.shown(), frame)


def test_a_frame_that_cannot_be_sent_in_time_is_refused_with_its_size(mirrors):
    twin, driver, wire = mirrors
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 2, driver.spec.shape_px, dtype=np.uint16)
    before = twin.shown()
    settings = {**driver.settings.model_dump(), "report_us": 1000.0, "max_upload_s": 20.0}
    driver.close()
    with Dlpc900DMD("slow", wire.address, **settings) as slow:
        with pytest.raises(DeviceValueError, match=r"compresses to \d+ bytes, about \d+ s on USB; .* = 20"):
            slow.show(frame)
        np.testing.assert_array_equal(slow.shown(), before)
        slow.show(np.ones_like(frame))
        assert twin.shown().all()
    n_bytes = len(encode(frame[None].repeat(24, axis=0)))
    assert upload_s(n_bytes, 1000.0) > 20


def test_times_of_planes_are_whole_microseconds(mirrors):
    _, driver, _ = mirrors
    planes = np.zeros((2, *driver.spec.shape_px), np.uint16)
    with pytest.raises(DeviceValueError, match=r"durations_us has 200\.5; allowed: whole microseconds"):
        driver.show_sequence(planes, [200.0, 200.5])


def test_the_controllers_errors_come_in_its_words(mirrors):
    _, driver, _ = mirrors
    with pytest.raises(DeviceFault, match=r"dmd: show: command 1a34 failed: command not allowed in current"):
        driver._run("show", lambda wire, deadline: wire.tell(c.DEFINE, c.definition(0, 200, 0), deadline))
    driver.show(np.zeros(driver.spec.shape_px, np.uint16))
    with pytest.raises(DeviceFault, match=r"command 1a34 failed: pattern exposure time out of range"):
        driver._run("show", lambda wire, deadline: wire.tell(c.DEFINE, c.definition(0, 5, 0), deadline))
    with pytest.raises(DeviceFault, match="command 1aff failed: invalid command number"):
        driver._run("show", lambda wire, deadline: wire.tell(0x1AFF, b"", deadline))
    driver.show(np.ones(driver.spec.shape_px, np.uint16))  # works on


def test_a_sequencer_that_stopped_is_noticed(mirrors):
    _, driver, _ = mirrors
    driver.show(np.ones(driver.spec.shape_px, np.uint16))
    driver._run("stop", lambda wire, deadline: wire.tell(c.RUN, bytes([c.STOP]), deadline))
    with pytest.raises(DeviceFault, match="shown: the sequencer does not run"):
        driver.shown()


def test_a_controller_that_comes_back_gets_its_frame_again(mirrors):
    twin, driver, _ = mirrors
    frame = np.zeros(driver.spec.shape_px, np.uint16)
    frame[100:200, 300:500] = 1
    driver.show(frame)
    twin.show(np.zeros_like(frame))  # power was gone
    driver.wire()._reports._socket.shutdown(socket.SHUT_RDWR)
    np.testing.assert_array_equal(driver.shown(), frame)
    np.testing.assert_array_equal(twin.shown(), frame)


def test_an_incomplete_image_is_not_started():
    shown = []
    controller = Dlpc900((4, 40), lambda *args: shown.append(args))
    image = encode(np.ones((1, 4, 40), np.uint16))
    steps = [
        (c.DISPLAY_MODE, bytes([c.ON_THE_FLY])),
        (c.DEFINE, c.definition(0, 1000, 0)),
        (c.CONFIGURE, (1).to_bytes(2, "little") + bytes(4)),
        (c.INIT_LOAD, bytes(2) + len(image).to_bytes(4, "little")),
        (c.LOAD_IMAGE, (len(image) - 4).to_bytes(2, "little") + image[:-4]),
    ]
    for command, data in steps:
        assert controller.carry_out(command, data, 0) == (b"", False)
    assert controller.carry_out(c.RUN, bytes([c.START]), 0) == (b"", True)
    assert controller.carry_out(c.ERROR_CODE, b"", 0) == (bytes([16]), False)
    assert not shown


def test_what_is_missing_or_wrong_is_said_in_words(mirrors, monkeypatch):
    _, _, wire = mirrors
    with pytest.raises(ConfigError, match=r"address is 'usb'; allowed: hid:, hid:SERIAL or socket:HOST:PORT"):
        Dlpc900DMD("d", "usb", serial="1")
    with pytest.raises(ConfigError, match="serial is missing"):
        Dlpc900DMD("d", wire.address)
    with pytest.raises(ConfigError, match="exposure_us = 50: allowed: 105 or more"):
        Dlpc900DMD("d", wire.address, serial="1", exposure_us=50)
    monkeypatch.setattr("labctl_drivers.dlpc900.dmd.find_spec", lambda name: None)
    with pytest.raises(DeviceUnavailable, match=r"hidapi is not installed; pip install"):
        Dlpc900DMD("d", "hid:", serial="1").open()


@pytest.mark.dialogue("dlpc900.dmd", source="TI DLPU018J, 1.2, and the numbers of Pycrafter6500 (csi-dcsc)")
def test_usb_reports_go_through_hidapi(monkeypatch):
    """What hidapi is asked: vendor and product, report ID 0 before each report, 64 bytes back."""
    calls = []

    class Device:
        def open(self, vendor, product, serial):
            calls.append((vendor, product, serial))

        def write(self, data):
            calls.append(bytes(data))
            return len(data)

        def read(self, size, timeout_ms):
            assert size == 64
            asked = calls[-1][1:]
            command = int.from_bytes(asked[4:6], "little")
            answers = {c.FIRMWARE_TYPE: b"\x02" + bytes(31)}
            answer = answers[command]
            return [0xC0, asked[1], len(answer), 0, *answer] + [0] * (60 - len(answer))

        def close(self):
            calls.append("close")

    monkeypatch.setitem(sys.modules, "hid", type("hid", (), {"device": Device}))
    monkeypatch.setattr("labctl_drivers.dlpc900.dmd.find_spec", lambda name: True)
    driver = Dlpc900DMD("d", "hid:ABC", serial="1", attempts=1, open_timeout_s=0.3)
    with pytest.raises(DeviceUnavailable, match=r"DLP9000; allowed: DLP6500 \(those with two controllers"):
        driver.open()
    assert calls[0] == (0x0451, 0xC900, "ABC")
    assert len(calls[1]) == 65
    assert calls[1][0] == 0
    assert calls[-1] == "close"
