"""Messages to other makers' instruments, byte for byte, against scripted answers; PyMeasure's beside them.

The instruments at the other end are tables of questions and answers made up after the source that each test
names: not our servers, which were written by the same hand as the drivers.
"""

from __future__ import annotations

import socket
import threading
from itertools import pairwise

import numpy as np
import pytest
from labctl_drivers.scpi.instruments import ScpiLaser, ScpiOscilloscope, ScpiPowerMeter, ScpiSignalGenerator

from labctl.devices import DeviceValueError
from labctl.devices.instruments import Wave

NONE = b'+0,"No error"'
POINTS = bytes([128, 138, 118, 128])
LASER = {b":POWer?": b"+7.50000000E+00", b":POWer:STATe?": b"1"}
METER = {b"SENSE:CORR:WAV?": b"5.325000E+02", b"MEAS:POW?": b"1.25000000E-03"}
SCOPE = {
    b":TIMebase:RANGe?": b"+4.0E-03",
    b":WAVeform:PREamble?": b"+0,+0,+4,+1,+1.0E-03,-2.0E-03,+0,+1.0E-02,+5.0E-01,+128",
    b":WAVeform:DATA?": b"#800000004" + POINTS,
}
GENERATOR = {
    b"SOUR1:FUNC?": b"SIN", b"SOUR1:FREQ?": b"+1.0E+03", b"SOUR1:VOLT?": b"+2.0E+00",
    b"SOUR1:VOLT:OFFS?": b"+5.0E-01",
}  # fmt: skip
OPENED = [b"*IDN?"]


@pytest.fixture
def scripted():
    """Factory: an instrument that knows these answers alone, on a socket; its address, what it was told."""
    ends = []

    def build(answers):
        told, server = [], socket.create_server(("127.0.0.1", 0))
        known = {b"*IDN?": b"Maker,Model,42,1.0", b"SYST:ERR?": NONE, **answers}

        def serve():
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    message = line.removesuffix(b"\n")
                    told.append(message)
                    if message.endswith(b"?"):
                        connection.sendall(known[message] + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        ends.append((server, thread))
        return f"TCPIP::127.0.0.1::{server.getsockname()[1]}::SOCKET", told

    yield build
    for server, thread in ends:
        thread.join(10)
        server.close()


def said(told):
    """What was said but for the error queue, which is asked for after every command."""
    commands = [message for message in told if not message.endswith(b"?")]
    assert told.count(b"SYST:ERR?") >= len(commands)
    for before, after in pairwise(told):
        assert before.endswith(b"?") or after == b"SYST:ERR?"
    return [message for message in told if message != b"SYST:ERR?"]


@pytest.mark.dialogue("scpi.laser", source="PyMeasure 0.16.0, santec/tsl500series.py")
def test_a_laser_is_spoken_to_as_santecs(scripted):
    address, told = scripted(LASER)
    with ScpiLaser("laser", address) as laser:
        laser.set_power_mw(7.5)
        assert laser.power_mw() == 7.5
        laser.emit(True)
        assert laser.emitting()
    assert said(told) == [
        *OPENED, b":POWer:UNIT 1", b":POWer 7.5", b":POWer?", b":POWer:STATe 1", b":POWer:STATe?",
        b":POWer:STATe 0",
    ]  # fmt: skip


@pytest.mark.dialogue("scpi.power-meter", source="PyMeasure 0.16.0, thorlabs/thorlabspm100usb.py")
def test_a_power_meter_is_spoken_to_as_thorlabs(scripted):
    address, told = scripted(METER)
    with ScpiPowerMeter("meter", address) as meter:
        meter.set_wavelength_nm(532.5)
        assert meter.wavelength_nm() == 532.5
        assert meter.read_mw() == pytest.approx(1.25)
    assert said(told) == [*OPENED, b"SENSE:CORR:WAV 532.5", b"SENSE:CORR:WAV?", b"MEAS:POW?"]


@pytest.mark.dialogue("scpi.oscilloscope", source="PyMeasure 0.16.0, keysight/keysightDSOX1102G.py")
def test_an_oscilloscope_is_spoken_to_as_keysights(scripted):
    """The preamble's ten numbers in PyMeasure's order; a definite-length block of bytes (IEEE 488.2)."""
    address, told = scripted(SCOPE)
    with ScpiOscilloscope("scope", address) as scope:
        scope.set_screen(1, volts=4.0, seconds=4e-3)
        wave = scope.acquire(1)
    np.testing.assert_array_equal(wave.codes, list(POINTS))
    np.testing.assert_allclose(wave.volts, [0.5, 0.6, 0.4, 0.5])
    np.testing.assert_allclose(wave.time_s, [-2e-3, -1e-3, 0.0, 1e-3], atol=1e-12)
    assert said(told) == [
        *OPENED, b":WAVeform:FORMat BYTE", b":CHANnel1:RANGe 4", b":TIMebase:RANGe 0.004", b":DIGitize CHAN1",
        b":WAVeform:SOURce CHAN1", b":WAVeform:PREamble?", b":WAVeform:DATA?",
    ]  # fmt: skip


@pytest.mark.dialogue("scpi.signal-generator", source="PyMeasure 0.16.0, agilent/agilent33500.py")
def test_a_generator_is_spoken_to_as_agilents(scripted):
    address, told = scripted(GENERATOR)
    wave = Wave("sine", 1e3, 2.0, 0.5)
    with ScpiSignalGenerator("generator", address, n_channels=1) as generator:
        generator.set_wave(1, wave)
        generator.output(1, True)
        assert generator.wave(1) == wave
    assert said(told) == [
        *OPENED, b"SOUR1:VOLT?", b"SOUR1:FUNC SIN", b"SOUR1:FREQ 1000", b"SOUR1:VOLT 2",
        b"SOUR1:VOLT:OFFS 0.5", b"OUTP1 1", b"SOUR1:FUNC?", b"SOUR1:FREQ?", b"SOUR1:VOLT?",
        b"SOUR1:VOLT:OFFS?", b"OUTP1 0",
    ]  # fmt: skip


@pytest.mark.dialogue("scpi.signal-generator", source="PyMeasure 0.16.0, agilent/agilent33500.py")
def test_a_generator_is_never_asked_for_no_amplitude_or_a_larger_peak_on_the_way(scripted):
    """PyMeasure lets 10 mV pass and less not; the wave before had 2 V."""
    address, told = scripted(GENERATOR)
    with ScpiSignalGenerator("generator", address, n_channels=1) as generator:
        with pytest.raises(DeviceValueError, match=r"volts_pp is 0\.005; allowed: 0\.01 to 10 V"):
            generator.set_wave(1, Wave("sine", 1e3, 0.005))
        generator.set_wave(1, Wave("sine", 1e3, 4.0, 3.0))
        assert [m for m in told if b"VOLT" in m][-2:] == [b"SOUR1:VOLT:OFFS 3", b"SOUR1:VOLT 4"]
        generator.set_wave(1, Wave("dc", 0.0, 0.0, 5.0 - 0.005))
        assert [m for m in told if b"VOLT" in m][-2:] == [b"SOUR1:VOLT 0.01", b"SOUR1:VOLT:OFFS 4.995"]
    assert b"SOUR1:FREQ 0" not in told


# -- PyMeasure itself, where it is installed ---------------------------------------------------------------


@pytest.fixture
def listening():
    """Factory: a PyMeasure adapter that answers from a table, and what PyMeasure told it."""
    adapters = pytest.importorskip("pymeasure.adapters", reason="PyMeasure is not installed")

    class Listening(adapters.Adapter):
        def __init__(self, answers):
            super().__init__()
            self.told, self._answers, self._next = [], answers, ""

        def _write(self, command, **_):
            self.told.append(command)
            if "?" in command:
                known = {key.upper(): value for key, value in self._answers.items()}
                self._next = known[command.encode().upper()].decode("latin-1")

        def _read(self, **_):
            return self._next

    return Listening


def alike(messages):
    """Headers without case, numbers as numbers: 7.5 and 7.500000 are the same message."""

    def read(word):
        try:
            return float(word)
        except ValueError:
            return word

    return {tuple(read(word) for word in message.upper().split(" ")) for message in messages}


def commands_of(told):
    return {m.decode() for m in told if m not in (*OPENED, b"SYST:ERR?")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("instrument", ["laser", "meter", "scope", "generator"])
def test_pymeasure_says_what_our_drivers_say(listening, scripted, instrument):
    """Every message of ours is one that PyMeasure's class sends for the same work."""
    from pymeasure.instruments.agilent import Agilent33500
    from pymeasure.instruments.keysight import KeysightDSOX1102G
    from pymeasure.instruments.santec import TSL500Series
    from pymeasure.instruments.thorlabs import ThorlabsPM100USB

    more = {b"SYST:ERR?": NONE}
    if instrument == "laser":
        address, told = scripted(LASER)
        with ScpiLaser("laser", address) as ours:
            ours.set_power_mw(7.5)
            ours.emit(True)
            assert (ours.power_mw(), ours.emitting()) == (7.5, True)
        adapter = listening(LASER | more)
        theirs = TSL500Series(adapter)
        theirs.power_unit, theirs.power_setpoint, theirs.output_enabled = "mW", 7.5, True
        assert (theirs.power_setpoint, theirs.output_enabled) == (7.5, True)
        theirs.output_enabled = False
    elif instrument == "meter":
        address, told = scripted(METER)
        with ScpiPowerMeter("meter", address) as ours:
            ours.set_wavelength_nm(532.5)
            seen = ours.wavelength_nm(), ours.read_mw()
        sensor = {b"SYST:SENSOR:IDN?": b"S120C,1,1,1,18,289"}
        limits = {b"SENS:CORR:WAV? MIN": b"400", b"SENS:CORR:WAV? MAX": b"1100"}
        adapter = listening(METER | sensor | limits)
        theirs = ThorlabsPM100USB(adapter)
        theirs.wavelength = 532.5
        assert (theirs.wavelength, 1e3 * theirs.power) == seen
    elif instrument == "scope":
        address, told = scripted(SCOPE)
        with ScpiOscilloscope("scope", address) as ours:
            ours.set_screen(1, volts=4.0, seconds=4e-3)
            ours.acquire(1)
        adapter = listening(SCOPE | {b":WAVEFORM:DATA?": b"#800000012 0.1, 0.2"})
        theirs = KeysightDSOX1102G(adapter)
        theirs.waveform_format, theirs.ch1.range, theirs.timebase_range = "byte", 4.0, 4e-3
        theirs.digitize("channel1")
        theirs.waveform_source = "channel1"
        preamble = theirs.waveform_preamble
        assert (preamble["points"], preamble["yincrement"], preamble["yreference"]) == (4, 0.01, 128)
        _ = theirs.waveform_data
    else:
        address, told = scripted(GENERATOR)
        with ScpiSignalGenerator("generator", address, n_channels=1) as ours:
            ours.set_wave(1, Wave("sine", 1e3, 2.0, 0.5))
            ours.output(1, True)
            seen = ours.wave(1)
        adapter = listening(GENERATOR)
        theirs = Agilent33500(adapter).ch_1
        theirs.offset, theirs.shape, theirs.frequency, theirs.amplitude = 0.5, "SIN", 1e3, 2.0
        theirs.output = "on"
        read = theirs.frequency, theirs.amplitude, theirs.offset
        assert read == (seen.hz, seen.volts_pp, seen.offset_volts)
        assert theirs.shape == "SIN"
        theirs.output = "off"
    assert alike(commands_of(told)) <= alike(adapter.told)
