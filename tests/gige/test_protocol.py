"""Bytes of GVCP and GVSP: what the standard fixes, and anything else that may come over a network."""

from __future__ import annotations

import socket
import struct
import threading
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from decoder_cases import EVERYDAY, SLOW
from hypothesis import given
from hypothesis import strategies as st
from labctl_sim_devices.wires.gige import PacketLoss, gvcp
from labctl_sim_devices.wires.gige.channel import StreamChannel
from labctl_sim_devices.wires.gige.features import CHUNKS, FEATURES
from labctl_sim_devices.wires.gige.gvsp import Block, pixels, with_chunks

from labctl.devices import ConfigError


def block(payload=bytes(1000), step=300, number=7, chunks=False):
    return Block(number, 123_456_789, "Mono12", 20, 25, 4, 8, payload, chunks, step)


# GVCP examples are written out as Wireshark's packet-gvcp.c (Wireshark 4) dissects them
@pytest.mark.parametrize(
    ("datagram", "command", "number"),
    [
        ("4211 0002 0000 ffff", gvcp.Command.DISCOVERY, 0xFFFF),
        ("4201 0080 0004 0001 00000a00", gvcp.Command.READ_REGISTER, 1),
        ("4201 0082 0008 0002 00000a00 00000002", gvcp.Command.WRITE_REGISTER, 2),
        ("4201 0084 0008 0003 00000200 00000200", gvcp.Command.READ_MEMORY, 3),
        ("4200 0040 000c 0004 0000 0007 00000001 00000003", gvcp.Command.RESEND, 4),
    ],
)
def test_commands_are_read_as_the_standard_writes_them(datagram, command, number):
    request = gvcp.parse(bytes.fromhex(datagram))
    assert (request.command, request.number) == (command, number)
    assert request.wants_answer == (command != gvcp.Command.RESEND)


def test_bodies_are_read_as_the_standard_writes_them():
    assert gvcp.addresses(bytes.fromhex("00000a00 00000938")) == [0xA00, 0x938]
    assert gvcp.writes(bytes.fromhex("00000a00 00000002")) == [(0xA00, b"\0\0\0\2")]
    assert gvcp.block(bytes.fromhex("00000200 00000200")) == (0x200, 0x200)
    assert gvcp.written(bytes.fromhex("00002000 3ff00000 00000000")) == (0x2000, struct.pack(">d", 1.0))
    assert gvcp.resend(bytes.fromhex("0000 0007 00000001 00000003")) == gvcp.Resend(7, 1, 3)
    request = gvcp.parse(bytes.fromhex("4201 0080 0004 0001 00000a00"))
    assert gvcp.answer(request, b"\0\0\0\2").hex() == "0000008100040001" + "00000002"
    assert gvcp.answer(request, b"", gvcp.Status.ACCESS_DENIED).hex() == "8006008100000001"
    assert gvcp.pending(request, 1000).hex() == "0000008900040001" + "000003e8"


@pytest.mark.parametrize(
    "datagram",
    ["", "42", "4301 0002 0000 0001", "4201 0080 0004 0001 0000", "4201 0080 0004 0000 00000a00"],
)
def test_what_is_no_command_is_left_alone(datagram):
    assert gvcp.parse(bytes.fromhex(datagram)) is None


def test_a_block_is_cut_as_the_standard_says():
    made = block()
    assert made.packets == 4
    packets = [made.packet(place) for place in range(6)]
    kinds = [struct.unpack(">HHI", header) for header, _ in packets]
    assert [(status, number) for status, number, _ in kinds] == [(0, 7)] * 6
    assert [word >> 24 for _, _, word in kinds] == [1, 3, 3, 3, 3, 2]
    assert [word & 0xFFFFFF for _, _, word in kinds] == [0, 1, 2, 3, 4, 5]
    assert b"".join(bytes(content) for _, content in packets[1:5]) == made.payload
    leader = struct.unpack(">HHQIIIIIHH", packets[0][1])
    assert leader == (0, 1, 123_456_789, 0x01100005, 20, 25, 4, 8, 0, 0)
    assert struct.unpack(">HHI", packets[5][1]) == (0, 1, 25)


def test_chunks_are_read_from_the_end():
    payload = with_chunks(b"image!", [(0x1001, b"12345678"), (0x1002, b"abcd")])
    found = {}
    while payload:
        chunk, length = struct.unpack(">II", payload[-8:])
        payload = payload[:-8]
        found[chunk], payload = payload[len(payload) - length :], payload[: len(payload) - length]
    assert found == {1: b"image!", 0x1001: b"12345678", 0x1002: b"abcd"}


def test_counts_become_pixels_of_each_format():
    counts = np.array([[0, 1, 4095, 0x123]], np.uint16)
    assert pixels(counts, 12, "Mono12") == struct.pack("<4H", 0, 1, 4095, 0x123)
    assert pixels(counts, 12, "Mono16") == struct.pack("<4H", 0, 16, 65520, 0x1230)
    assert pixels(counts, 12, "Mono8") == bytes([0, 0, 255, 0x12])


def test_losses_depend_on_seed_and_place_alone():
    loss = PacketLoss(0.3, seed=4)
    np.testing.assert_array_equal(loss.lost(5, 100), PacketLoss(0.3, seed=4).lost(5, 100))
    np.testing.assert_array_equal(loss.lost(5, 100)[:40], loss.lost(5, 40))
    assert (loss.lost(5, 100) != loss.lost(6, 100)).any()
    assert (loss.lost(5, 100) != PacketLoss(0.3, seed=5).lost(5, 100)).any()
    assert not loss.lost(5, 100, attempt=1).any()
    assert PacketLoss(0.3, 4, resends=True).lost(5, 100, attempt=1).any()


@pytest.mark.parametrize(
    ("options", "words"), [({"share": 1.5}, "share is 1.5"), ({"share": 0.1, "seed": -1}, "seed")]
)
def test_a_wrong_loss_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        PacketLoss(**options)


def test_packets_are_sent_counted_and_sent_again():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1", 0))
        host.settimeout(2.0)
        channel = StreamChannel("127.0.0.1", PacketLoss(0.5, seed=1))
        channel.open()
        channel.destination = host.getsockname()
        made = block()
        lost = set(1 + np.flatnonzero(PacketLoss(0.5, seed=1).lost(0, 4)))
        channel.send(made, threading.Event())
        came = [host.recv(2000) for _ in range(6 - len(lost))]
        assert {struct.unpack_from(">HHI", packet)[2] & 0xFFFFFF for packet in came} == set(range(6)) - lost
        assert lost
        channel.resend(gvcp.Resend(7, min(lost), 0xFFFFFF))
        again = [host.recv(2000) for _ in range(5 - min(lost) + 1)]
        assert {struct.unpack_from(">H", packet)[0] for packet in again} == {gvcp.Status.RESENT}
        channel.resend(gvcp.Resend(8, 1, 1))
        assert struct.unpack(">HHI", host.recv(2000)) == (gvcp.Status.PACKET_UNAVAILABLE, 8, 3 << 24 | 1)
        count = channel.count
        assert (count.blocks, count.packets, count.lost_packets) == (1, 6, len(lost))
        assert (count.damaged_blocks, count.resends_asked, count.unavailable_packets) == (1, 2, 1)
        channel.close()


@pytest.fixture(scope="module")
def station():
    """A face in this process, for bytes of any kind; its socket to ask from."""
    from labctl_sim_devices import CameraTwin, OpticalBench, load_profile
    from labctl_sim_devices.wires.gige import GigeFace

    face = GigeFace(CameraTwin("camera", OpticalBench(load_profile("adm"))), threading.RLock())
    address = face.start().address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.settimeout(2.0)
        host.connect((address, gvcp.PORT))
        yield host
    face.stop()


def ask(host, command, body, number):
    host.send(struct.pack(">BBHHH", gvcp.KEY, 1, command, len(body), number) + body)
    while True:
        answer = host.recv(2048)
        status, code, length, of = struct.unpack_from(">HHHH", answer)
        if of == number:
            assert code == command + 1
            assert len(answer) == 8 + length
            return status, answer[8:]


COMMANDS = st.sampled_from([0x02, 0x80, 0x82, 0x84, 0x86, 0x40, 0x04, 0x100, 0xC0, 0x7FFE])


def any_bytes_are_survived(station, command, body, number):
    status, _ = ask(station, command, body, number)
    assert status == 0 or status & 0x8000
    reread, value = ask(station, 0x80, struct.pack(">I", gvcp.Bootstrap.VERSION), number % 0xFFFE + 1)
    assert (reread, value) == (0, b"\0\1\0\2")


@given(COMMANDS, st.binary(max_size=64).map(lambda b: b[: len(b) & ~3]), st.integers(1, 0xFFFF))
@EVERYDAY
def test_any_command_is_answered_and_survived(station, command, body, number):
    any_bytes_are_survived(station, command, body, number)


@pytest.mark.slow
@given(COMMANDS, st.binary(max_size=600), st.integers(1, 0xFFFF))
@SLOW
def test_many_commands_are_answered_and_survived(station, command, body, number):
    any_bytes_are_survived(station, command, body, number)


@given(st.binary(max_size=80))
@EVERYDAY
def test_any_datagram_is_survived(station, datagram):
    station.send(datagram)
    any_bytes_are_survived(station, 0x80, b"\0\0\0\0", 0x4242)


@pytest.mark.slow
@given(st.binary(max_size=80))
@SLOW
def test_many_datagrams_are_survived(station, datagram):
    station.send(datagram)
    any_bytes_are_survived(station, 0x80, b"\0\0\0\0", 0x4242)


def test_nobody_without_control_writes(station):
    status, _ = ask(station, 0x82, struct.pack(">II", gvcp.Bootstrap.STREAM_PORT, 4711), 21)
    assert status == gvcp.Status.ACCESS_DENIED


def test_frames_go_to_this_machine_alone(station):
    assert ask(station, 0x82, struct.pack(">II", gvcp.Bootstrap.PRIVILEGE, 2), 31)[0] == 0
    away = struct.pack(">II", gvcp.Bootstrap.STREAM_ADDRESS, 0x0A000001)
    assert ask(station, 0x82, away, 32)[0] == gvcp.Status.INVALID_PARAMETER
    assert ask(station, 0x82, struct.pack(">II", gvcp.Bootstrap.PRIVILEGE, 0), 33)[0] == 0


def test_the_description_is_whole(station):
    url = ask(station, 0x84, struct.pack(">IHH", gvcp.Bootstrap.FIRST_URL, 0, 512), 41)[1][4:]
    name, start, length = url.rstrip(b"\0").decode().split(";")
    assert name.startswith("Local:")
    start, length = int(start, 16), int(length, 16)
    text = b""
    for number, place in enumerate(range(start, start + length, 512), 100):
        count = min(512, -(-(start + length - place) // 4) * 4)
        text += ask(station, 0x84, struct.pack(">IHH", place, 0, count), number)[1][4:]
    root = ET.fromstring(text[:length])
    names = [node.get("Name") for node in root]
    assert len(names) == len(set(names))
    assert set(names) >= {f.name for f in FEATURES} | {c.name for c in CHUNKS}
    pointed = {n.text for n in root.iter() if n.tag.rsplit("}")[-1].startswith("p")}
    assert pointed - {None} <= set(names)
