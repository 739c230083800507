"""What drivers make of bytes from a wire: anything may come, and only stated errors come out.

Where a checksum protects an answer, a damaged one is never taken for another; where none does (bare text of
instruments of other makers, HID reports), it is read as what it says or refused.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache

import numpy as np
import pytest
from decoder_cases import DAMAGE, everyday_and_slow, harmed
from hypothesis import strategies as st
from labctl_drivers.display.window_wire import WindowWire
from labctl_drivers.dlpc900 import commands as c
from labctl_drivers.dlpc900.dmd import Dlpc900DMD
from labctl_drivers.dlpc900.hid_wire import HidWire, Refused
from labctl_drivers.genicam.camera import SfncCamera, _read
from labctl_drivers.genicam.features import Arrived
from labctl_drivers.genicam.features import Refused as FeatureRefused
from labctl_drivers.link import Deadline, WireError, WireGarbled, WireLog
from labctl_drivers.scpi.input_drive import ScpiInputDrive
from labctl_drivers.scpi.instruments import ScpiLaser, ScpiOscilloscope, ScpiPowerMeter, ScpiSignalGenerator
from labctl_drivers.scpi.loop_electronics import ScpiLoopElectronics
from labctl_sim_devices import EmitterTwin, OpticalBench, load_profile
from labctl_sim_devices.wires.dlpc900 import Dlpc900
from labctl_sim_devices.wires.scpi.drive import ScpiDriveFace
from labctl_sim_devices.wires.world import WorldWire

from labctl.devices import DeviceError
from labctl.devices.wire.records import RecordProblem, record_bytes, record_of
from labctl.devices.wire.scpi_records import DriveDescription, LoopDescription, Readings
from labctl.devices.wire.scpi_syntax import SyntaxProblem, block, message_length, number_of, parts, payload_of

U16 = st.integers(0, 2**16 - 1)
SOON = Deadline.after(3600.0)
ADDRESS = "TCPIP::127.0.0.1::9::SOCKET"
BYTES = st.binary(max_size=120)
NUMBERS = st.sampled_from(
    [b"1", b"-1.5E+3", b"nan", b"inf", b"1_0", b"1e999", b"9" * 5000, b"", b"+", b"0x10", b"1.5 V", b"\xb2"]
)


# SCPI: blocks, numbers, IDN, the error queue, sealed answers, the data sheet


def _block(payload, damage):
    """A whole block carries its bytes; a damaged one is another block by its own words, or refused."""
    whole = block(payload)
    assert payload_of(whole) == payload
    for data in (harmed(whole, *damage), payload):
        with suppress(SyntaxProblem):
            got = payload_of(data)
            assert data.endswith(got)
            assert len(data) == 2 + int(data[1:2]) + len(got)
        with suppress(SyntaxProblem):
            message_length(data)
        with suppress(SyntaxProblem):
            parts(data, b",")


test_blocks, test_blocks_slow = everyday_and_slow(_block, BYTES, DAMAGE)


@pytest.mark.dialogue(
    "scpi.laser", "scpi.power-meter", "scpi.oscilloscope", "scpi.signal-generator",
    source="IEEE 488.2, 7.7.2 (decimal numeric data)",
)  # fmt: skip
def _number(data):
    with suppress(SyntaxProblem):
        assert np.isfinite(number_of(data))
        assert set(data) <= set(b"0123456789+-.eE \t\r")


test_numbers, test_numbers_slow = everyday_and_slow(_number, st.one_of(NUMBERS, BYTES))


class Answering:
    """A wire that has one answer to everything, or what `answer` makes of each message."""

    has_end = True

    def __init__(self, answer):
        self._answer = answer if callable(answer) else lambda message: answer

    def ask(self, message, deadline):
        return self._answer(message)

    def tell(self, message, deadline):
        pass


def _only_stated(work):
    """What `work` gives, or None where it raises what the link layer or a user expects."""
    try:
        return work()
    except (WireError, DeviceError):
        return None


BARE = [cls("x", ADDRESS) for cls in (ScpiLaser, ScpiPowerMeter, ScpiOscilloscope, ScpiSignalGenerator)]
QUEUE = st.sampled_from([b'0,"No error"', b'-200,""', b'-113,"x"', b"9" * 5000 + b',"x"', b'302,""', b"0"])


def _bare(names, answer, queue):
    def told(message):
        return queue if message.startswith(b"SYST:ERR") else answer

    for driver in BARE:
        found = _only_stated(lambda driver=driver: driver._identify(Answering(names), SOON))
        assert found is None or names.count(b",") == 3
        _only_stated(lambda driver=driver: driver._refuse("x", Answering(queue), SOON))
    scope, wire = BARE[2], Answering(told)
    waveform = _only_stated(lambda: scope._acquired(1, wire, SOON))
    assert waveform is None or len(waveform.codes) <= len(answer)


test_bare_instruments, test_bare_instruments_slow = everyday_and_slow(
    _bare, st.one_of(BYTES, st.just(b"a,b,c,d")), st.one_of(BYTES, NUMBERS), st.one_of(QUEUE, BYTES)
)


@cache
def _instrument():
    """A sealed instrument without a wire, and its data sheet's answer."""
    bench = OpticalBench(load_profile("adm"))
    return ScpiDriveFace(EmitterTwin("drive", bench), threading.RLock()).instrument


@pytest.mark.dialogue("scpi.input-drive", source="docs/reference/scpi.md")
def _sealed(damage, wrong):
    """A harmed answer is never another data sheet, temperature or snapshot."""
    instrument = _instrument()

    def honest(message):
        return instrument.answer(message).removesuffix(b"\n")

    def altered(message):
        answer = honest(message)
        return harmed(answer, *damage) if message.startswith(wrong) else answer

    right, driver = (ScpiInputDrive("drive", ADDRESS) for _ in range(2))
    expected = right._identify(Answering(honest), SOON), right.spec
    identity = _only_stated(lambda: driver._identify(Answering(altered), SOON))
    assert identity is None or (identity, driver.spec) == expected
    if identity is None:
        assert driver._described is None
    values = _only_stated(lambda: driver._sealed("x", (b"SYST:TEMP?",), Answering(altered), SOON))
    assert values in (None, [b"25.0"])
    with pytest.raises((WireError, DeviceError)):  # an error is an error, however it arrives
        driver._sealed("x", (b"NOBODY?",), Answering(altered), SOON)
    instrument.answer(b"*CLS")


test_sealed_answers, test_sealed_answers_slow = everyday_and_slow(
    _sealed, DAMAGE, st.sampled_from([b"*IDN?", b"SYST:TEMP?", b"SYST:ERR", b"NOBODY?"])
)


def _any_sealed(answer):
    driver = ScpiLoopElectronics("loop", ADDRESS)
    for work in (
        lambda: driver._identify(Answering(answer), SOON),
        lambda: driver._sealed("x", (b"A?",), Answering(answer), SOON),
        lambda: driver._refuse("x", Answering(answer), SOON),
    ):
        with pytest.raises((WireError, DeviceError)):
            work()


test_any_bytes_are_no_sealed_answer, test_any_bytes_are_no_sealed_answer_slow = everyday_and_slow(
    _any_sealed, st.one_of(BYTES, QUEUE)
)


@cache
def _sheet():
    return record_bytes(Readings({"a_us": 1.5, "b": 2, "c": True, "d": "x"}))


def _harmed_record(damage, tail):
    whole = _sheet()
    for data in (harmed(whole, *damage), tail, whole[:4] + tail):
        if data != whole:
            for kind in (Readings, DriveDescription, LoopDescription):
                with pytest.raises(RecordProblem):
                    record_of(kind, data)


test_records, test_records_slow = everyday_and_slow(_harmed_record, DAMAGE, BYTES)


# DLPC900: HID reports at the host, commands at the controller


class HeldReports:
    """Gives the same answer to every report; with `fits`, under the number that was asked."""

    def __init__(self, answer, *, fits=False):
        self._answer, self._fits = answer.ljust(64, b"\0")[:64], fits

    def write(self, report, deadline):
        if self._fits:
            self._answer = bytes([report[0], report[1]]) + self._answer[2:]

    def read(self, deadline):
        return self._answer

    def close(self):
        pass


DMD = Dlpc900DMD("d", "hid:", serial="1")
HEADS = st.tuples(st.sampled_from([0x40, 0x60, 0xC0, 0xE0, 0x00]), st.sampled_from([2, 3, 4, 6]), U16).map(
    lambda head: bytes(head[:2]) + min(head[2], 80).to_bytes(2, "little")
)


def _report(head, rest):
    for answer in (head + rest, rest):
        for ask in (
            lambda wire: wire.ask(c.MAIN_STATUS, SOON),
            lambda wire: wire.tell(c.RUN, b"\x02", SOON),
            lambda wire: DMD._identity_of(wire, SOON),
            lambda wire: wire.ask(c.VERSION, SOON, least=4)[3],
        ):
            for fits in (False, True):
                with suppress(WireError, Refused, DeviceError):
                    ask(HidWire(HeldReports(answer, fits=fits), WireLog()))
        wire = HidWire(HeldReports(answer), WireLog())
        with suppress(WireError, Refused):
            data = wire.ask(c.MAIN_STATUS, SOON)
            assert answer[1] == 2  # the number of its question
            assert data == answer.ljust(64, b"\0")[4 : 4 + len(data)]


test_reports, test_reports_slow = everyday_and_slow(_report, HEADS, st.binary(max_size=60))


def _commands(orders):
    """A controller survives anything, and shows nothing that was not loaded whole."""
    shown = []
    controller = Dlpc900((4, 40), lambda *arguments: shown.append(arguments))
    for command, data in orders:
        answer, failed = controller.carry_out(command, data, 0)
        assert not (failed and answer)
    assert controller.carry_out(c.ERROR_CODE, b"", 0)[1] is False
    assert not shown


test_commands, test_commands_slow = everyday_and_slow(
    _commands,
    st.lists(
        st.tuples(
            st.sampled_from([c.RUN, c.DISPLAY_MODE, c.INIT_LOAD, c.LOAD_IMAGE, c.CONFIGURE, c.DEFINE, 9]),
            st.one_of(st.sampled_from([b"\x02", b"\x03", b"\x00"]), st.binary(max_size=16)),
        ),
        max_size=8,
    ),
)


# GenICam: features of any type and value


class AnyFeatures:
    """A camera that says anything about itself."""

    def __init__(self, values):
        self._values = values

    def has(self, name):
        return name in self._values

    def get(self, name):
        if name not in self._values:
            raise FeatureRefused(name)
        return self._values[name]

    def put(self, name, value):
        pass

    def limits(self, name):
        return float(self._values.get("low", 0.0)), float(self._values.get("high", 1.0))

    def entries(self, name):
        return tuple(str(self._values[key]) for key in sorted(self._values))[:4]

    def execute(self, name):
        pass

    def enable_chunks(self, selectors):
        pass

    def start(self, n):
        pass

    def next(self, wait_s):
        return None

    def stop(self):
        pass

    def close(self):
        pass


class AnyCamera(SfncCamera):
    def _connect(self, deadline):
        return None  # the wires are given


DATA_SHEET = {"full_well_e": 32e3, "quantum_efficiency": 0.7, "read_noise_e": 7.0, "line_us": 5.2}
VALUES = st.one_of(
    st.integers(-(2**40), 2**40), st.floats(), st.booleans(), st.text(max_size=8),
    st.sampled_from(["Mono12", "On", "Off", "Line0", "FrameTrigger", "Rolling", 64, 24]),
)  # fmt: skip
NAMES = st.sampled_from(
    ["Width", "Height", "OffsetX", "OffsetY", "ExposureTime", "Gain", "BlackLevel", "TriggerMode",
     "TriggerSource", "TriggerDelay", "PixelFormat", "SensorWidth", "SensorHeight", "SensorShutterMode",
     "CounterSelector", "CounterEventSource", "CounterValue", "DeviceTemperature", "DeviceSerialNumber",
     "DeviceVendorName", "DeviceModelName", "AcquisitionMode", "TransferControlMode", "UserSetLoad"]
)  # fmt: skip


def read(wire, _):
    return _read(wire)


def _features(values, pixels):
    camera, wire = AnyCamera("camera", "x", **DATA_SHEET), AnyFeatures(values)
    for work in (
        lambda: camera._identify(wire, SOON),
        lambda: camera._program(wire, SOON),
        lambda: camera._worded("x", read)(wire, SOON),
        lambda: camera._worded("x", lambda w, _: camera._counted(w, "FrameTrigger", 0))(wire, SOON),
    ):
        with suppress(WireError, DeviceError, FeatureRefused):
            work()
    if camera._spec is not None:
        settings = _only_stated(lambda: camera._worded("x", read)(wire, SOON))
        if settings is not None:
            came = [Arrived(np.zeros(pixels, np.uint16), 0, 0.0)]
            frames = _only_stated(lambda: camera._frames(came, 1, settings))
            assert frames is None or frames.counts.shape[1:] == pixels


test_features, test_features_slow = everyday_and_slow(
    _features, st.dictionaries(NAMES, VALUES, max_size=24), st.tuples(st.just(24), st.sampled_from([64, 65]))
)


# lines of JSON: the window's answers, a world's questions

LINES = st.one_of(
    st.text(max_size=60), st.sampled_from(["[" * 50_000, "1" * 5000, "null", '{"do": 1}', '{"do": "begin"}'])
)


def _line(line):
    wire = object.__new__(WindowWire)
    wire._answers, wire._said = _Held(line), ""
    with suppress(WireGarbled):
        assert isinstance(wire.answer(SOON), dict)
    world = WorldWire(lambda: None, threading.RLock(), {"seed": 1})
    assert set(world._answer(line.encode(), None)) & {"refused", "wrong"}


class _Held:
    def __init__(self, line):
        self._line = line

    def get(self, timeout):
        return self._line


test_lines, test_lines_slow = everyday_and_slow(_line, LINES)
