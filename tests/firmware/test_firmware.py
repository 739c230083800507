"""The reference firmware on an emulated Cortex-M3, talked to by the real driver: the law in fixed point."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import serial
import torch
from firmware_board import FOLDER, FirmwareBoard, built, missing
from labctl_drivers.serial_board import SerialOscillatorBoard

from labctl import load_protocol, open_rig, run
from labctl.devices import BoardImage, DeviceTimeout, DeviceUnavailable, DeviceValueError, RunCodes
from labctl.devices.oscillator_wire import blocks, messages
from labctl.devices.oscillator_wire.frames import Frame, FrameReader
from labctl.physics.oscillators import Edges, OscillatorLaw, evolve

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"the firmware cannot run here: {missing()}")

# What docs/reference/oscillator-board-protocol.md states of the firmware's law, rad, largest over phases and
# samples, half a code of the 16-bit read-out (4.8e-5 rad) included, for programs of 3 units that the averaged
# law is trusted with: against float64 with the firmware's own steps, and against steps of 1/400 unit.
FIXED_POINT_RAD = 2e-4
LAW_RAD = 1e-3


@pytest.fixture(scope="module")
def board():
    firmware = FirmwareBoard(0x2A)
    driver = SerialOscillatorBoard("board", firmware.address, timeout_s=5.0)  # busy machines emulate slowly
    driver.firmware = firmware
    driver.open()
    yield driver
    driver.close()
    firmware.stop()


def program(spec, *, segments=4, seed=0, couple=1.0, units=3.0):
    """Random codes in range, couplings up to `couple` units, a program of `units`."""
    rng = np.random.default_rng(seed)
    tables = {}
    for name, table in blocks.image_tables(spec, segments).items():
        top = 2 ** (table.bits - 1) - 1 if table.signed else 2**table.bits - 1
        tables[name] = rng.integers(-top if table.signed else 0, top + 1, table.shape)
    tables["scale"][:] = round(couple / spec.scale_units_per_code)
    tables["ticks"][:] = round(units / segments * spec.unit_us / spec.tick_us)
    tables["in_phase"] //= 2
    tables["quadrature"] //= 2
    return BoardImage(spec.topology.hash, **tables)


def in_floating_point(spec, image, start, *, play=None, anchors=None, own_steps=False):
    """Phases [B, n] at the end by Runge-Kutta in float64, no noise: 400 steps a unit, or the firmware's."""
    rows = np.arange(image.segments) if play is None else play
    wiring = spec.topology

    def table(values):
        return torch.from_numpy(np.asarray(values, np.float64))

    law = OscillatorLaw(
        table(spec.coupling_units(image.coupling[rows], image.scale[rows])),
        table(image.in_phase[rows] * spec.injection.units_per_code),
        table(image.quadrature[rows] * spec.injection.units_per_code),
        table(image.second[rows] * spec.second.units_per_code),
        table(image.detuning[rows] * spec.detuning.units_per_code),
    )
    spans = image.ticks[rows] * spec.tick_us / spec.unit_us
    inject = None if anchors is None else tuple(table(a * spec.injection.units_per_code) for a in anchors)
    edges = Edges(wiring.n, wiring.target, wiring.source)
    theta = table(spec.start_rad(start))
    for k, span in enumerate(spans):
        segment = OscillatorLaw(*(part[k : k + 1] for part in vars(law).values()))
        steps = (
            _steps_of(edges, segment, span, anchors is not None) if own_steps else int(np.ceil(400 * span))
        )
        theta = evolve(edges, segment, theta, duration=span, steps=steps, method="rk4", inject=inject)
    return theta.numpy()


def _steps_of(edges, law, span, anchored):
    """As firmware/src/law.c divides a segment."""
    assert not anchored, "each sample has its own number then"
    pull = np.bincount(edges.target, np.abs(law.coupling[0].numpy()), edges.n)
    nodes = (abs(law.in_phase) + abs(law.quadrature) + 2 * abs(law.second) + abs(law.detuning))[0].numpy()
    return int(span * max(10, int((pull + nodes).max() / 0.35) + 1)) + 1


def off_rad(one, other):
    return np.abs(np.angle(np.exp(1j * (one - other))))


@pytest.mark.parametrize(
    ("couple", "seed"),
    [
        pytest.param(0.3, 3, marks=pytest.mark.slow),
        (1.0, 10),
        pytest.param(1.0, 11, marks=pytest.mark.slow),
        (1.2, 12),
    ],
)
def test_phases_follow_the_law_within_the_fixed_point_error(board, couple, seed):
    spec = board.spec
    image = program(spec, couple=couple, seed=seed)
    pull = np.abs(spec.coupling_units(image.coupling, image.scale))
    assert np.bincount(spec.topology.target, pull[0], spec.n).max() * spec.eps < 0.1
    board.load(image)
    start = np.random.default_rng(1).integers(0, spec.max_start_code + 1, (6, spec.n))
    phases = board.run(RunCodes(np.arange(6), start_phase=start))
    found = spec.read_rad(phases.codes[:, 0])
    for own_steps, allowed in ((True, FIXED_POINT_RAD), (False, LAW_RAD)):
        off = off_rad(found, in_floating_point(spec, image, start, own_steps=own_steps))
        words = f"largest {off.max():.2e}, rms {np.sqrt((off**2).mean()):.2e} rad"
        print(f"couplings up to {couple} units, own steps {own_steps}: {words}")
        assert off.max() < allowed, words
    assert phases.locked.shape == (6,)


def test_anchors_and_the_order_of_segments_enter_the_law(board):
    spec, rng = board.spec, np.random.default_rng(2)
    image = program(spec, seed=5)
    board.load(image)
    start = rng.integers(0, spec.max_start_code + 1, (3, spec.n))
    top = spec.injection.max_code // 2
    anchors = rng.integers(-top, top + 1, (2, 3, spec.n))
    play = np.array([3, 0, 0])
    phases = board.run(RunCodes(np.arange(3), 0, play, *anchors, start))
    expected = in_floating_point(spec, image, start, play=play, anchors=anchors)
    assert off_rad(spec.read_rad(phases.codes[:, 0]), expected).max() < LAW_RAD


def test_reads_between_segments_are_of_the_same_path(board):
    spec = board.spec
    image = program(spec, segments=2, seed=6)
    board.load(image)
    start = np.random.default_rng(3).integers(0, spec.max_start_code + 1, (2, spec.n))
    cut_us = float(image.ticks[0]) * spec.tick_us
    phases = board.run(RunCodes(np.arange(2), start_phase=start), read_at_us=[0.0, cut_us, board.run_us()])
    np.testing.assert_array_equal(phases.codes[:, 0], start << (spec.read_bits - spec.start_bits))
    half = in_floating_point(spec, image, start, play=np.array([0]))
    assert off_rad(spec.read_rad(phases.codes[:, 1]), half).max() < LAW_RAD
    whole = in_floating_point(spec, image, start)
    assert off_rad(spec.read_rad(phases.codes[:, 2]), whole).max() < LAW_RAD


def test_noisy_starts_are_spread_as_the_amplitude_says(board):
    spec, batch = board.spec, 48
    zeros = {name: np.zeros(t.shape, np.int64) for name, t in blocks.image_tables(spec, 1).items()}
    zeros["ticks"] += 1
    zeros["start_amplitude"] += 40
    board.load(BoardImage(spec.topology.hash, **zeros))
    codes = board.run(RunCodes(np.arange(batch)), read_at_us=[0.0]).codes[:, 0]
    drawn = spec.read_rad(codes) / spec.amplitude_rad(40)
    count = drawn.size
    assert abs(drawn.mean()) < 4 / np.sqrt(count)
    assert drawn.std() == pytest.approx(1, abs=4 / np.sqrt(2 * count))
    assert np.abs(np.corrcoef(drawn[: batch // 2].ravel(), drawn[batch // 2 :].ravel())[0, 1]) < 0.08
    again = board.run(RunCodes(np.array([7])), read_at_us=[0.0]).codes[0, 0]
    np.testing.assert_array_equal(again, codes[7])


def test_the_clock_moves_as_the_data_sheet_says(board):
    spec = board.spec
    image = program(spec)
    before = board.firmware.clock_us()
    receipt = board.load(image)
    assert receipt.crc == image.crc == board.loaded().crc
    assert receipt.n_bytes == spec.image_bytes(4)
    assert board.firmware.clock_us() - before == pytest.approx(receipt.duration_us)
    before = board.firmware.clock_us()
    board.run(RunCodes(np.arange(5)))
    assert board.firmware.clock_us() - before == pytest.approx(5 * spec.queue_us(board.run_us(), 1))


def test_shipped_digits_come_out_of_the_firmware(board, tmp_path):
    """The shipped 4-bit program: whole recipe, real driver, real firmware."""
    spec = board.spec
    board.close()
    rig = tmp_path / "firmware.toml"
    rig.write_text(
        'name = "firmware"\nabout = "the reference firmware in QEMU"\nlaw = "oscillator"\n'
        'engine = "oscillator"\n\n[[device]]\nname = "board"\ndriver = "serial.oscillator-board"\n'
        f'address = "{board.address}"\nsettings = {{ timeout_s = 5 }}\n'
    )
    try:
        with open_rig(rig) as opened:
            result = run(load_protocol("generate_digits", {"samples": 20}), opened, out=tmp_path)
            device = opened.devices["board"]
            image, start = device.loaded(), np.random.default_rng(8).integers(0, 256, (6, spec.n))
            phases = device.run(RunCodes(np.arange(6), start_phase=start))
            found = spec.read_rad(phases.codes[:, 0])
            for own_steps, allowed in ((True, FIXED_POINT_RAD), (False, LAW_RAD)):
                off = off_rad(found, in_floating_point(spec, image, start, own_steps=own_steps))
                print(f"shipped digits, own steps {own_steps}: largest {off.max():.2e} rad")
                assert off.max() < allowed
    finally:
        board.open()
    assert board.spec.topology.hash == spec.topology.hash
    assert result.samples.shape[0] == 20
    assert np.isfinite(result.samples).all()
    assert 0.05 < result.samples.std() < 1.0


def test_a_board_switched_off_and_on_is_programmed_again(board):
    spec = board.spec
    image = program(spec)
    board.load(image)
    start = np.full((1, spec.n), 9)
    before = board.run(RunCodes(np.arange(1), start_phase=start)).codes
    board.firmware.restart()
    np.testing.assert_array_equal(board.run(RunCodes(np.arange(1), start_phase=start)).codes, before)
    assert board.loaded().crc == image.crc


def test_the_firmware_refuses_what_the_host_should_not_have_sent(board):
    """Raw frames past the driver's own checks."""
    board.close()
    spec = board.spec
    with serial.Serial(board.address, timeout=0.5) as port:
        reader, numbers = FrameReader(), iter(range(1, 1000))

        def ask(request, *, session=9, version=1, sequence=None):
            number = next(numbers) if sequence is None else sequence
            port.write(Frame(version, request.KIND, session, number, request.encode()).encode())
            until = time.monotonic() + 20
            while time.monotonic() < until:
                for got in reader.feed(port.read(port.in_waiting or 1)):
                    if got.sequence == number and got.kind != messages.Busy.KIND:
                        kind = messages.Error if got.kind == messages.Error.KIND else None
                        return messages.decode(kind or messages.REQUESTS[type(request)], got.payload)
            raise TimeoutError(request)

        def upload(region, block, crc=None):
            import zlib

            begin = messages.Begin(region, len(block), zlib.crc32(block) if crc is None else crc)
            at = ask(begin).offset
            while at < len(block):
                at = ask(messages.Write(region, at, block[at : at + 4096])).offset

        code = messages.ErrorCode
        assert ask(messages.Open()).code == code.SESSION
        assert ask(messages.Hello(4, 9), version=0).code == code.VERSION
        assert ask(messages.Hello(0, 9), version=0) == messages.Welcome(1, 4101)
        assert ask(messages.Temperature()).code == code.STATE
        ask(messages.Open())
        assert ask(messages.Open(), version=2).code == code.VERSION
        assert ask(messages.Open(), session=8).code == code.SESSION
        assert ask(messages.Run()).code == code.INTEGRITY
        assert ask(messages.Begin(1, 2**31, 0)).code == code.VALUE
        assert ask(messages.Begin(3, 4, 0)).code == code.VALUE
        assert ask(messages.Read(1, 0, 5000)).code == code.INTEGRITY
        image = program(spec)
        good, topology = blocks.encode_image(spec, image), int(spec.topology.hash[:8], 16)
        upload(1, good, crc=5)
        assert ask(messages.Load(4, topology)).code == code.INTEGRITY
        upload(1, good)
        assert ask(messages.Load(4, topology ^ 1)).code == code.VALUE
        assert ask(messages.Load(3, topology)).code == code.PROTOCOL
        assert ask(messages.Load(17, topology)).code == code.VALUE
        assert f"{ask(messages.Load(4, topology)).image_crc:08x}" == image.crc
        bad = bytearray(good)
        bad[0] = (bad[0] & 0xF0) | 0x8  # coupling -8: one below the lowest code
        upload(1, bytes(bad))
        assert ask(messages.Load(4, topology)).code == code.VALUE
        assert ask(messages.Recall()).segments == 4  # the old one stays
        queue = blocks.encode_queue(spec, RunCodes(np.arange(2), 0, np.arange(4)), np.array([10]))
        for position, byte, wanted in ((0, 99, code.VALUE), (0, 3, code.PROTOCOL), (17, 9, code.VALUE)):
            wrong = bytearray(queue)
            wrong[position] = byte
            upload(2, bytes(wrong))
            assert ask(messages.Run()).code == wanted
        upload(2, queue)
        before = board.firmware.clock_us()
        ran = ask(messages.Run(), sequence=500)
        assert board.firmware.clock_us() > (after := board.firmware.clock_us()) - 1 > before - 1
        assert ask(messages.Run(), sequence=500) == ran  # done once: the answer is repeated
        assert board.firmware.clock_us() == after
        gate = blocks.encode_gate(1e3, np.full(spec.n, 128))
        upload(2, gate)
        assert ask(messages.Count()).code == code.VALUE
        status = ask(messages.Status())
        port.write(b"\0noise\0" + bytes(range(1, 200)) + b"\0")
        assert ask(messages.Status()).rejected == status.rejected + 2
        assert isinstance(ask(messages.Close()), messages.Empty)
        assert isinstance(ask(messages.Close()), messages.Empty)
    board.open()


def test_too_long_a_queue_is_refused_by_the_host_already(board):
    board.load(program(board.spec))
    with pytest.raises(DeviceValueError, match="holds 65 samples; allowed: 1 to 64"):
        board.run(RunCodes(np.arange(65)))


def test_a_firmware_that_waits_leaves_the_processor_alone(board):
    def ticks():
        fields = Path(f"/proc/{board.firmware.process_id}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = ticks()
    time.sleep(1.0)
    assert ticks() - before < 0.3


@pytest.mark.slow  # waits out every time limit
def test_a_board_that_is_taken_away_is_an_error():
    firmware = FirmwareBoard()
    driver = SerialOscillatorBoard("board", firmware.address, attempts=2, open_timeout_s=5.0)
    driver.open()
    firmware.stop()
    with pytest.raises(DeviceUnavailable, match=r"^board: temperature_c: "):
        driver.temperature_c()
    with pytest.raises((DeviceUnavailable, DeviceTimeout)):
        driver.close()
    assert not driver.is_open


def test_the_build_leaves_nothing_in_the_source():
    assert built().is_file()
    assert not list(FOLDER.glob("*.elf"))
