"""The oscillator board on a serial line: a twin behind it gives the very bits that it gives in process.

The protocol is ours (docs/reference/oscillator-board-protocol.md): these dialogues cite nobody else.
"""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest
import serial
from labctl_drivers.link import LinkSettings
from labctl_drivers.serial_board import SerialOscillatorBoard
from labctl_sim_devices import OscillatorBench, OscillatorBoardTwin, load_oscillator_profile
from labctl_sim_devices.wires.faults import FaultLayer
from labctl_sim_devices.wires.serial_board import SerialBoardFace

from labctl import load_protocol, open_rig, run
from labctl.devices import (
    BoardImage,
    ConfigError,
    DeviceFault,
    DeviceStateError,
    DeviceTimeout,
    DeviceUnavailable,
    DeviceValueError,
    RunCodes,
    UnsupportedFeature,
)
from labctl.devices.oscillator_wire import blocks, messages
from labctl.devices.oscillator_wire.frames import Frame, FrameReader
from labctl.rig import load_rig

TWIN = load_rig("oscillator-twin")
SETTINGS = {"timeout_s": 2.0, "open_timeout_s": 10.0, "lock_wait_s": 0.2}


def twin(seed=1, overrides=None):
    """The board of the shipped rig, as its world stands when it is opened."""
    profile = load_oscillator_profile(TWIN.world.profile, overrides)
    return OscillatorBoardTwin("board", OscillatorBench(profile, seed=seed))


@pytest.fixture
def on_line():
    """Factory of (driver, face, twin): a twin behind a line, and an unopened driver for it."""
    made = []

    def build(*, baud=None, faults=None, device=None, **settings):
        device = device or twin()
        face = SerialBoardFace(device, threading.RLock(), baud=baud, faults=faults)
        wire = face.start()
        driver = SerialOscillatorBoard("board", wire.address, **{**SETTINGS, **wire.settings, **settings})
        made.append((driver, face))
        return driver, face, device

    yield build
    for driver, face in made:
        if driver.is_open:
            driver.close()
        face.stop()


@pytest.fixture
def image():
    def build(spec, segments=2, seed=0):
        rng = np.random.default_rng(seed)
        drawn = {}
        for name, table in blocks.image_tables(spec, segments).items():
            top = 2 ** (table.bits - 1) - 1 if table.signed else 2**table.bits - 1
            drawn[name] = rng.integers(-top if table.signed else 0, top + 1, table.shape)
        drawn["ticks"] = rng.integers(50, 150, segments)
        drawn["in_phase"] //= 2
        drawn["quadrature"] //= 2
        return BoardImage(spec.topology.hash, **drawn)

    return build


def alike(one, other):
    """Every field the same, to the last bit."""
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)


def day_at(board, image):
    """A day's work: every operation, with the noise of a twin."""
    spec = board.spec
    board.load(image(spec, 3))
    rng = np.random.default_rng(3)
    top = spec.injection.max_code // 4
    anchors = [rng.integers(-top, top + 1, (20, spec.n)) for _ in range(2)]
    start = rng.integers(0, spec.max_start_code + 1, (20, spec.n))
    return [
        board.run(RunCodes(np.arange(20)), read_at_us=[0.0, 0.4, board.run_us()]),
        board.count_frequency(100.0),
        board.run(RunCodes(np.arange(20), 7, np.array([2, 0]), *anchors, start)),
        board.count_frequency(50.0, np.arange(spec.n)),
        board.loaded(),
    ]


# The same bits


def test_a_day_over_the_line_is_the_day_in_process(on_line, image):
    driver, _, behind = on_line()
    beside = twin()
    assert driver.open() == beside.open()
    for one, other in zip(day_at(driver, image), day_at(beside, image), strict=True):
        alike(one, other)
    assert driver.temperature_c() == beside.temperature_c()
    assert dict(driver.snapshot()) == dict(beside.snapshot())
    assert behind._bench.now_us == beside._bench.now_us
    status = driver.line_status()
    assert status.rejected == 0
    assert not status.busy


@pytest.fixture
def serial_rig(tmp_path, on_line):
    """A rig file that points at a line with the shipped rig's world behind it."""
    _, face, _ = on_line()
    path = tmp_path / "serial.toml"
    path.write_text(
        'name = "serial-board"\nabout = "the board of oscillator-twin on a serial line"\n'
        'law = "oscillator"\nengine = "oscillator"\n\n[[device]]\nname = "board"\n'
        f'driver = "serial.oscillator-board"\naddress = "{face._line.address}"\n'
    )
    return path


@pytest.mark.parametrize(
    "recipe", [pytest.param("generate_digits", marks=pytest.mark.slow), "diffuse_digits_oscillators"]
)
def test_recipes_over_the_line_give_the_bits_of_the_twin(recipe, serial_rig, tmp_path):
    settings = {"samples": 6, "controls": False} if recipe.startswith("diffuse") else {"samples": 6}
    found = []
    for rig_name in (serial_rig, "oscillator-twin"):
        with open_rig(rig_name) as rig:
            result = run(load_protocol(recipe, settings), rig, out=tmp_path)
            found.append(result.samples)
    assert np.isfinite(found[0]).all()
    np.testing.assert_array_equal(found[0], found[1])


# Settings, opening, refusals


def test_settings_are_checked_where_they_are_written():
    assert issubclass(SerialOscillatorBoard.Settings, LinkSettings)
    with pytest.raises(ConfigError, match=r"device 'board'.*baud.*1200"):
        SerialOscillatorBoard("board", "/dev/ttyUSB0", baud=300)
    with pytest.raises(ConfigError, match="bauds"):
        SerialOscillatorBoard("board", "/dev/ttyUSB0", bauds=9600)
    with pytest.raises(DeviceStateError, match=r"board: spec: .*open\(\)"):
        _ = SerialOscillatorBoard("board", "/dev/ttyUSB0").spec


def test_a_port_that_is_not_there_is_named(tmp_path):
    board = SerialOscillatorBoard("board", str(tmp_path / "ttyNONE"))
    with pytest.raises(DeviceUnavailable, match=r"^board: open: the port cannot be opened.*ttyNONE"):
        board.open()


def test_a_line_where_nobody_answers_is_given_up_in_time(on_line):
    driver, _, _ = on_line(faults=FaultLayer("silent", lasting=True, within=1), timeout_s=0.25)
    begun = time.monotonic()
    with pytest.raises(DeviceTimeout, match=r"^board: open: no answer to Hello"):
        driver.open()
    assert time.monotonic() - begun < 5


def test_another_serial_number_than_the_rig_files_is_refused(on_line):
    driver, _, _ = on_line(serial="7")
    with pytest.raises(DeviceUnavailable, match=r"serial number SIM-OSC-1-\w+ answers; the rig file says 7"):
        driver.open()


def test_versions_that_do_not_meet_are_both_named(on_line, mocker):
    driver, _, _ = on_line()
    mocker.patch("labctl_drivers.serial_board.VERSIONS", (9, 12))
    with pytest.raises(DeviceUnavailable, match="host speaks versions 9 to 12, the board 1 to 1; update"):
        driver.open()


def test_what_the_device_refuses_comes_back_as_the_error_it_was(on_line, mocker):
    driver, _, behind = on_line()
    driver.open()
    for kind, words in (
        (DeviceValueError, "too warm a word"),
        (DeviceFault, "cell 3 is stuck"),
        (UnsupportedFeature, "no thermometer"),
        (DeviceUnavailable, "gone"),
    ):
        error = kind(words, device="other", operation="other")
        mocker.patch.object(behind, "temperature_c", side_effect=error)
        with pytest.raises(kind, match=f"^board: temperature_c: {words} ") as caught:
            driver.temperature_c()
        assert type(caught.value) is kind
        assert driver.address in str(caught.value)
        assert words.encode() in caught.value.wire


def test_a_flipped_bit_in_the_memory_is_a_fault(on_line, image):
    driver, _, behind = on_line()
    driver.open()
    behind.flip_bit = True
    with pytest.raises(DeviceFault, match="memory has CRC-32"):
        driver.load(image(driver.spec))


def test_steps_beyond_the_protocol_are_refused(on_line, image):
    driver, _, _ = on_line()
    driver.open()
    driver.load(image(driver.spec))
    with pytest.raises(DeviceValueError, match="step_id is 4294967296; allowed: 0 to 4294967295"):
        driver.run(RunCodes(np.arange(1), 2**32))


# A cable that is pulled, a board that was switched off


def test_a_cable_pulled_between_two_runs_changes_nothing(on_line, image):
    driver, face, _ = on_line()
    beside = twin()
    for board in (driver, beside):
        board.open()
        board.load(image(board.spec))
    one = driver.run(RunCodes(np.arange(4)))
    face.replug()
    other = driver.run(RunCodes(np.arange(4), 1))
    alike(one, beside.run(RunCodes(np.arange(4))))
    alike(other, beside.run(RunCodes(np.arange(4), 1)))


def test_a_board_that_was_switched_off_is_programmed_again(on_line, image):
    driver, face, _ = on_line()
    driver.open()
    program = image(driver.spec)
    driver.load(program)
    before = driver.run(RunCodes(np.arange(4)))
    face.restart()
    assert driver.loaded().crc == program.crc
    face.restart()
    after = driver.run(RunCodes(np.arange(4)))
    off = (after.codes - before.codes + 128) % 256 - 128
    assert np.abs(off).max() <= 1  # a little later, a little warmer


def test_a_cable_that_stays_out_is_an_error_in_time(on_line, image):
    driver, face, _ = on_line(open_timeout_s=0.6)
    driver.open()
    face._line.unplug()
    begun = time.monotonic()
    with pytest.raises(DeviceUnavailable, match=r"^board: temperature_c: the port cannot be opened"):
        driver.temperature_c()
    assert time.monotonic() - begun < 4
    face._line.plug()
    assert driver.temperature_c() > 0


def test_an_upload_goes_on_where_it_stopped(on_line, image, mocker):
    driver, face, _ = on_line(attempts=3)
    driver.open()
    program = image(driver.spec, 16)
    writes = []
    server = face._server
    write = server._write

    def pulled(request):
        writes.append(request.offset)
        answer = write(request)
        if len(writes) == 2:
            face.replug()
        return answer

    mocker.patch.dict(server._do, {messages.Write: pulled})
    assert driver.load(program).crc == program.crc
    # the second chunk had arrived when the cable went: nothing is sent twice
    assert writes == sorted(set(writes))
    room = driver._session.max_payload - 5
    assert len(writes) == -(-len(blocks.encode_image(driver.spec, program)) // room)


# Bytes on the line


def dialogue(face, *frames):
    """Answers to raw frames, by pyserial alone."""
    with serial.Serial(face._line.address, timeout=0.3) as port:
        reader, got = FrameReader(), []
        for frame in frames:
            port.write(frame.encode())
            while found := reader.feed(port.read(1) + port.read(port.in_waiting)):
                got += found
                break
            else:
                got += reader.feed(port.read(4096))
        return got


@pytest.mark.dialogue("serial.oscillator-board", source="docs/reference/oscillator-board-protocol.md")
def test_the_protocol_page_shows_what_goes_over_the_line():
    """The example of docs/reference/oscillator-board-protocol.md."""
    hello = Frame(0, 1, 0x1234, 0, messages.Hello(1, 1).encode())
    assert hello.encode().hex(" ") == "00 01 04 01 34 12 01 01 01 07 01 01 82 ad 2b 6b 00"
    welcome = Frame(0, 0x81, 0x1234, 0, messages.Welcome(1, 4101).encode())
    assert FrameReader().feed(welcome.encode()) == [welcome]


@pytest.mark.dialogue("serial.oscillator-board", source="docs/reference/oscillator-board-protocol.md")
def test_a_stranger_is_told_what_is_wrong_and_disturbs_nobody(on_line):
    _, face, _ = on_line()
    open_ = Frame(1, messages.Open.KIND, 5, 1)
    (no_session,) = dialogue(face, open_)
    assert messages.decode(messages.Error, no_session.payload).code == messages.ErrorCode.SESSION
    hello = Frame(0, messages.Hello.KIND, 5, 0, messages.Hello(1, 3).encode())
    got = dialogue(
        face,
        hello,
        Frame(2, messages.Open.KIND, 5, 1),
        Frame(1, 0x44, 5, 2),
        Frame(1, messages.Read.KIND, 5, 3, b"\x00"),
        Frame(1, messages.Begin.KIND, 5, 4, messages.Begin(0, 4, 0).encode()),
        Frame(1, messages.Write.KIND, 5, 5, messages.Write(2, 0, b"x").encode()),
        Frame(1, messages.Temperature.KIND, 5, 6),
    )
    codes = [messages.decode(messages.Error, frame.payload).code for frame in got[1:]]
    kinds = messages.ErrorCode
    assert messages.decode(messages.Welcome, got[0].payload).version == 1
    assert codes == [
        kinds.VERSION, kinds.PROTOCOL, kinds.PROTOCOL, kinds.VALUE, kinds.INTEGRITY, kinds.STATE,
    ]  # fmt: skip


def test_an_order_is_done_once_for_each_number(on_line, image):
    driver, face, behind = on_line()
    driver.open()
    driver.load(image(driver.spec))
    session = driver._session
    driver.run(RunCodes(np.arange(2)))
    ran = behind._bench.now_us
    again = Frame(1, messages.Run.KIND, session.id, session.number - 1)
    remembered = face._server._remembered[0]
    answer = face._server.answer(dataclasses.replace(again, sequence=remembered[1]))
    assert answer[0] == messages.Ran.KIND
    assert behind._bench.now_us == ran
    face._server.answer(dataclasses.replace(again, sequence=session.next_number()))
    assert behind._bench.now_us > ran


def test_the_pace_of_the_line_is_its_baud_rate(on_line, image):
    driver, _, _ = on_line(baud=230_400)
    driver.open()
    program = image(driver.spec, 12)
    size = len(blocks.encode_image(driver.spec, program))
    begun = time.monotonic()
    driver.load(program)
    took_s = time.monotonic() - begun
    assert took_s > size * 10 / 230_400


def test_a_long_run_says_that_it_goes_on(on_line, image, mocker):
    driver, _, behind = on_line(timeout_s=0.4)
    driver.open()
    driver.load(image(driver.spec))
    do_run = behind._do_run

    def slow(codes, read_at_us):
        time.sleep(2.0)  # five times what the driver would wait in silence
        return do_run(codes, read_at_us)

    mocker.patch.object(behind, "_do_run", slow)
    assert driver.run(RunCodes(np.arange(2))).codes.shape == (2, 1, 64)
