"""EDID of real displays, as their owners published it; and which screen is whose."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labctl_drivers.display import outputs
from labctl_drivers.display.edid import Edid, parse
from labctl_drivers.display.outputs import display_at, kernel_outputs, read_xrandr

from labctl.devices import DataError

# from the tests of pyedid (MIT, github.com/dd4e/pyedid, tests/data.py): output of `xrandr --verbose`
PHILIPS = bytes.fromhex(
    "00ffffffffffff00410cb1c0688000000f1b010380301b782a92c5a259559e270e5054bd4b00d1c08180950f9500b300"
    "81c001010101023a801871382d40582c4500dd0c1100001e000000ff00554b3031373135303332383732000000fc0050"
    "68696c697073203232365634000000fd00384c1e5311000a2020202020200058"
)
VIEWSONIC = bytes.fromhex(
    "00ffffffffffff005a632c0501010101171b010330301b782e84d5a25a52a2260d5054bfef80b300a940950090408180"
    "8140714f0101023a801871382d40582c4500e00e1100001e000000ff005458353137323334303639310a000000fd0032"
    "4c185313000a202020202020000000fc005444323232302d320a202020200009"
)
ASUS = bytes.fromhex(  # with an extension block of 128 bytes
    "00ffffffffffff0004699824010101011e1b010380351e78ea9265a655559f280d5054bfef00714f818081409500a940"
    "b300d1c00101023a801871382d40582c4500132b2100001e000000fd00324c1e5311000a202020202020000000fc0056"
    "533234380a20202020202020000000ff0048374c4d51533134373438350a018d"
    "02031ef14b900504030201111213141f230907078301000065030c0010001a3680a070381e4030203500132b2100001a"
    "662156aa51001e30468f3300132b2100001e011d007251d01e206e285500132b2100001e8c0ad08a20e02d10103e9600"
    "132b21000018011d8018711c1620582c2500132b2100009f0000000000000039"
)
# from an X server's log in a bug report: a Dell E193FP on an analog input, without a number of its own
DELL = bytes.fromhex(
    "00ffffffffffff0010ac0e7000000000180f010368261e782ec665a2594c9d24125054a54b00714f8180010101010101"
    "010101010101302a009851002a4030701300520e1100001e000000ff0047363536363536464c4553410a000000fc0044"
    "656c6c204531393346500a20000000fd00384c1e530e000a20202020202000b4"
)
"""The X server that had read it said: serial G656656FLESA, name Dell E193FP, 1280 x 1024."""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (PHILIPS, Edid("PHL", 0xC0B1, "Philips 226V4", "UK01715032872", 2017, (1080, 1920))),
        (ASUS, Edid("ACI", 0x2498, "VS248", "H7LMQS147485", 2017, (1080, 1920))),
        (DELL, Edid("DEL", 0x700E, "Dell E193FP", "G656656FLESA", 2005, (1024, 1280))),
    ],
    ids=["philips", "asus", "dell"],
)
def test_displays_say_who_they_are(data, expected):
    assert parse(data, "DP-1") == expected
    assert expected.serial in expected.words


def test_a_number_stands_in_for_a_serial_text():
    data = bytearray(PHILIPS)
    data[75] = 0xFE  # a plain text in place of the serial number
    data[127] = (data[127] + 1) % 256
    assert parse(bytes(data), "DP-1").serial == str(0x8068)
    data[12:16] = bytes(4)
    data[127] = (data[127] + 0x68 + 0x80) % 256
    assert parse(bytes(data), "DP-1").serial == ""
    assert parse(bytes(data), "DP-1").words == "PHL Philips 226V4 (c0b1), serial unknown, of 2017"


def test_a_published_one_with_a_wrong_checksum_is_refused():
    """The second display of the first source: its bytes as published do not add up."""
    with pytest.raises(DataError, match=r"DP-2: the bytes of its EDID add up to \d+ modulo 256; allowed: 0"):
        parse(VIEWSONIC, "DP-2")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (PHILIPS[:100], "EDID of 100 bytes; allowed: 128 or more"),
        (b"\x01" + PHILIPS[1:], "EDID begins with 01ffffffffffff00; allowed: 00ffffffffffff00"),
        (PHILIPS[:8] + bytes(2) + PHILIPS[10:127] + b"\xa5", "manufacturer 0000; allowed: three letters"),
    ],
)
def test_what_is_no_edid_is_refused_in_words(data, words):
    with pytest.raises(DataError, match=words):
        parse(data, "DP-1")


@given(st.integers(0, 127), st.integers(1, 255))
def test_a_damaged_byte_is_always_noticed(at, flip):
    data = bytearray(PHILIPS)
    data[at] ^= flip
    with pytest.raises(DataError):
        parse(bytes(data), "DP-1")


@given(st.binary(min_size=119, max_size=119), st.binary(max_size=200))
def test_whatever_has_a_right_checksum_is_read_or_refused(body, extensions):
    block = PHILIPS[:8] + body
    with suppress(DataError):
        found = parse(block + bytes([-sum(block) % 256]) + extensions, "DP-1")
        assert found.words.startswith(found.manufacturer)


def listing(*displays):
    """Lines as `xrandr --props` prints them."""
    lines = ["Screen 0: minimum 320 x 200, current 3840 x 1080, maximum 16384 x 16384"]
    for name, primary, size, data in displays:
        where = f"{'primary ' if primary else ''}{size}+0+0 (normal left inverted) 527mm x 296mm"
        lines.append(f"{name} connected {where}")
        if data:
            lines += ["\tEDID: ", *(f"\t\t{data[at : at + 16].hex()}" for at in range(0, len(data), 16))]
        lines += ["\tnon-desktop: 0", "   1920x1080     60.00*+"]
    return [*lines, "DP-9 disconnected (normal left inverted right x axis y axis)"]


def test_screens_are_counted_from_the_primary_output():
    found = read_xrandr(
        listing(
            ("DP-1", False, "1920x1080", ASUS), ("DP-2", True, "1920x1080", PHILIPS),
            ("DP-3", False, "800x600", VIEWSONIC), ("DP-4", False, "640x480", b""),
        )
    )  # fmt: skip
    assert [output.name for output in found] == ["DP-2", "DP-1", "DP-3", "DP-4"]
    assert [output.edid and output.edid.name for output in found] == ["Philips 226V4", "VS248", None, None]
    assert "add up to" in found[2].trouble
    assert found[3].shape_px == (480, 640)


def test_a_screen_of_another_size_is_not_taken_for_it(monkeypatch):
    found = read_xrandr(listing(("DP-1", True, "1920x1080", ASUS), ("DP-2", False, "800x600", PHILIPS)))
    monkeypatch.setattr(outputs, "x_outputs", lambda x_display: found)
    assert display_at(0, (1080, 1920)).edid.name == "VS248"
    assert display_at(1, (600, 800)).name == "DP-2"
    assert display_at(1, (1080, 1920)) is None
    assert display_at(2, (600, 800)) is None


def test_without_x_the_kernel_knows_displays_of_a_size_of_their_own(monkeypatch, tmp_path):
    for name, status, data in (
        ("card0-DP-1", "connected", ASUS), ("card0-DP-2", "connected", DELL),
        ("card0-DP-3", "disconnected", b""), ("card1-HDMI-A-1", "connected", b""),
    ):  # fmt: skip
        place = tmp_path / name
        place.mkdir()
        (place / "status").write_text(f"{status}\n")
        (place / "edid").write_bytes(data)
    found = kernel_outputs(tmp_path)
    assert [output.name for output in found] == ["DP-1", "DP-2", "HDMI-A-1"]
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(outputs, "kernel_outputs", lambda: found)
    assert display_at(0, (1024, 1280)).edid.name == "Dell E193FP"
    assert display_at(0, (600, 800)) is None
    monkeypatch.setattr(outputs, "kernel_outputs", lambda: [*found, found[0]])
    assert display_at(0, (1080, 1920)) is None  # two of them: who knows which
