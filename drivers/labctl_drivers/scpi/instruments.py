"""Bench instruments of other makers: tables of their commands first, the logic that all share last.

Commands are those of named open implementations, PyMeasure's (MIT): they were not tried on the instruments.
A foreign instrument proves nothing with its answers: a damaged or repeated one that still is a number cannot
be told from the right one. SYSTem:ERRor? is drained after every command, and where no answer comes.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import Field

from labctl.devices import DeviceError, DeviceFault, DeviceUnavailable, Identity, Scalar
from labctl.devices.instruments import (
    GeneratorSpec,
    Laser,
    LaserSpec,
    Oscilloscope,
    OscilloscopeSpec,
    PowerMeter,
    PowerMeterSpec,
    Shape,
    SignalGenerator,
    Wave,
    Waveform,
)
from labctl.devices.wire.scpi_syntax import SyntaxProblem, number_of, payload_of
from labctl_drivers.link import Deadline, LinkSettings, Wired, WireGarbled, WireTimeout
from labctl_drivers.scpi.sealed import MEANINGS
from labctl_drivers.scpi.visa_wire import VisaWire

S = TypeVar("S", bound="InstrumentSettings")


@dataclass(frozen=True)
class LaserCommands:
    """After Santec's TSL-500 series: PyMeasure, instruments/santec/tsl500series.py."""

    setup: str = ":POWer:UNIT 1"  # mW
    set_power: str = ":POWer {:.9g}"
    power: str = ":POWer?"
    emit: str = ":POWer:STATe {:d}"
    emitting: str = ":POWer:STATe?"


@dataclass(frozen=True)
class PowerMeterCommands:
    """After Thorlabs' PM100 series: PyMeasure, instruments/thorlabs/thorlabspm100usb.py. Watts."""

    set_wavelength: str = "SENSE:CORR:WAV {:.9g}"
    wavelength: str = "SENSE:CORR:WAV?"
    read: str = "MEAS:POW?"


@dataclass(frozen=True)
class OscilloscopeCommands:
    """After Keysight's DSOX1102G: PyMeasure, instruments/keysight/keysightDSOX1102G.py."""

    setup: str = ":WAVeform:FORMat BYTE"
    volts: str = ":CHANnel{:d}:RANGe {:.9g}"
    seconds: str = ":TIMebase:RANGe {:.9g}"
    screen: str = ":TIMebase:RANGe?"
    digitize: str = ":DIGitize CHAN{:d}"
    source: str = ":WAVeform:SOURce CHAN{:d}"
    preamble: str = ":WAVeform:PREamble?"
    data: str = ":WAVeform:DATA?"


@dataclass(frozen=True)
class GeneratorCommands:
    """After Agilent's 33500 series: PyMeasure, instruments/agilent/agilent33500.py."""

    shape: str = "SOUR{:d}:FUNC {}"
    hz: str = "SOUR{:d}:FREQ {:.9g}"
    volts_pp: str = "SOUR{:d}:VOLT {:.9g}"
    offset: str = "SOUR{:d}:VOLT:OFFS {:.9g}"
    output: str = "OUTP{:d} {:d}"


SHAPES: dict[Shape, str] = {"sine": "SIN", "square": "SQU", "ramp": "RAMP", "dc": "DC"}
ERROR = re.compile(r'([+-]?\d{1,9}),"?([^"]*)"?')
LASER, METER, SCOPE, GENERATOR = (
    LaserCommands(),
    PowerMeterCommands(),
    OscilloscopeCommands(),
    GeneratorCommands(),
)
PREAMBLE_FIELDS = 10


class InstrumentSettings(LinkSettings):
    """visa_library: pyvisa's choice where empty. baud_rate: of a serial port."""

    visa_library: str = ""
    baud_rate: int = Field(default=9600, ge=300, le=4_000_000)


class LaserSettings(InstrumentSettings):
    """max_power_mw: largest set-point, from the data sheet or what the bench bears."""

    max_power_mw: float = Field(default=20.0, gt=0)


class PowerMeterSettings(InstrumentSettings):
    """Of the sensor, from its data sheet."""

    wavelength_min_nm: float = Field(default=400.0, gt=0)
    wavelength_max_nm: float = Field(default=1100.0, gt=0)
    max_power_mw: float = Field(default=50.0, gt=0)


class OscilloscopeSettings(InstrumentSettings):
    """From the data sheet."""

    n_channels: int = Field(default=2, ge=1, le=16)
    max_points: int = Field(default=1000, ge=1)


class GeneratorSettings(InstrumentSettings):
    """From the data sheet, or what the bench bears."""

    n_channels: int = Field(default=2, ge=1, le=16)
    max_hz: float = Field(default=20e6, gt=0)
    max_volts: float = Field(default=5.0, gt=0)
    min_volts_pp: float = Field(default=0.01, ge=0)


class ScpiInstrument(Wired[VisaWire]):
    """What the drivers below share."""

    Settings: ClassVar[type[LinkSettings]] = InstrumentSettings

    @abstractmethod
    def _reads(self) -> Mapping[str, str]:
        """Queries of a snapshot by key."""

    def _connect(self, deadline: Deadline) -> VisaWire:
        settings = self._own(InstrumentSettings)
        serial = {"baud_rate": settings.baud_rate} if self.address.upper().startswith("ASRL") else {}
        return VisaWire(self.address, settings.visa_library, self.wire_log, deadline, serial)

    def _identify(self, wire: VisaWire, deadline: Deadline) -> Identity:
        fields = self._answer("open", "*IDN?", wire, deadline).decode("ascii", "replace").split(",")
        if len(fields) != 4:
            raise WireGarbled(f"*IDN? gives {fields!r}")
        vendor, model, serial, firmware = (field.strip() for field in fields)
        simulated = vendor == "labctl" and model.startswith("simulated")
        return Identity(vendor, model, serial, firmware, simulated=simulated)

    def _safe_commands(self) -> tuple[str, ...]:
        """What switches it off; nothing for one that only looks."""
        return ()

    def _make_safe(self, wire: VisaWire, deadline: Deadline) -> None:
        for command in self._safe_commands():
            with suppress(DeviceUnavailable):  # it says that what is behind it has gone: nothing is left on
                self._command("close", command, wire, deadline)

    def _command_safe(self, wire: VisaWire, deadline: Deadline) -> None:
        for command in self._safe_commands():
            wire.tell(command.encode() + b"\n", deadline)

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        return {key: self._ask("snapshot", question) for key, question in self._reads().items()}

    def _own(self, kind: type[S]) -> S:
        settings = self.settings
        if not isinstance(settings, kind):
            raise TypeError(f"{type(self).__name__}.Settings must derive from {kind.__name__}")
        return settings

    def _ask(self, operation: str, question: str) -> float:
        def work(wire: VisaWire, deadline: Deadline) -> float:
            answer = self._answer(operation, question, wire, deadline)
            try:
                return number_of(answer)
            except SyntaxProblem as error:
                raise WireGarbled(f"{question}: {error}") from None

        return self._exchange(operation, work)

    def _tell(self, operation: str, *commands: str) -> None:
        def work(wire: VisaWire, deadline: Deadline) -> None:
            for command in commands:
                self._command(operation, command, wire, deadline)

        self._exchange(operation, work)

    def _command(self, operation: str, command: str, wire: VisaWire, deadline: Deadline) -> None:
        wire.tell(command.encode() + b"\n", deadline)
        self._refuse(operation, wire, deadline)

    def _answer(self, operation: str, question: str, wire: VisaWire, deadline: Deadline) -> bytes:
        """What it answers; where nothing comes, why not."""
        share = Deadline.after(max(1e-3, deadline.left_s / 2))
        try:
            return wire.ask(question.encode() + b"\n", share)
        except WireTimeout:
            self._refuse(operation, wire, deadline)
            raise

    def _refuse(self, operation: str, wire: VisaWire, deadline: Deadline) -> None:
        """Drain the error queue; raise the first of its errors."""
        errors: list[tuple[int, str]] = []
        for _ in range(64):
            answer = wire.ask(b"SYST:ERR?\n", deadline).decode("ascii", "replace")
            found = ERROR.match(answer)
            if found is None:
                raise WireGarbled(f"SYST:ERR? gives {answer[:40]!r}")
            if int(found[1]) == 0:
                break
            errors.append((int(found[1]), found[2]))
        if errors:
            number, text = errors[0]
            more = "".join(f"; then {n}, {t}" for n, t in errors[1:])
            kind: type[DeviceError] = MEANINGS.get(number, DeviceFault)
            said = f"the instrument reports {number}, {text or '(without a text)'}{more}"
            raise self._fault(operation, said, kind)


class ScpiLaser(ScpiInstrument, Laser):
    """Commands: `LaserCommands`."""

    Settings = LaserSettings

    @property
    def spec(self) -> LaserSpec:
        """As the rig file says."""
        return LaserSpec(self._own(LaserSettings).max_power_mw)

    def _program(self, wire: VisaWire, deadline: Deadline) -> None:
        self._command("open", LASER.setup, wire, deadline)

    def _safe_commands(self) -> tuple[str, ...]:
        return (LASER.emit.format(0),)

    def _reads(self) -> Mapping[str, str]:
        return {"power_mw": LASER.power}

    def _do_set_power_mw(self, power_mw: float) -> None:
        self._tell("set_power_mw", LASER.set_power.format(power_mw))

    def _do_power_mw(self) -> float:
        return self._ask("power_mw", LASER.power)

    def _do_emit(self, on: bool) -> None:
        self._tell("emit", LASER.emit.format(on))

    def _do_emitting(self) -> bool:
        return self._ask("emitting", LASER.emitting) != 0


class ScpiPowerMeter(ScpiInstrument, PowerMeter):
    """Commands: `PowerMeterCommands`."""

    Settings = PowerMeterSettings

    @property
    def spec(self) -> PowerMeterSpec:
        """As the rig file says."""
        own = self._own(PowerMeterSettings)
        return PowerMeterSpec((own.wavelength_min_nm, own.wavelength_max_nm), own.max_power_mw)

    def _reads(self) -> Mapping[str, str]:
        return {"wavelength_nm": METER.wavelength}

    def _do_set_wavelength_nm(self, wavelength_nm: float) -> None:
        self._tell("set_wavelength_nm", METER.set_wavelength.format(wavelength_nm))

    def _do_wavelength_nm(self) -> float:
        return self._ask("wavelength_nm", METER.wavelength)

    def _do_read_mw(self) -> float:
        return 1e3 * self._ask("read_mw", METER.read)


class ScpiOscilloscope(ScpiInstrument, Oscilloscope):
    """Commands: `OscilloscopeCommands`."""

    Settings = OscilloscopeSettings

    @property
    def spec(self) -> OscilloscopeSpec:
        """As the rig file says; ranges of the named series."""
        own = self._own(OscilloscopeSettings)
        return OscilloscopeSpec(own.n_channels, (8e-3, 40.0), (50e-9, 500.0), own.max_points)

    def _program(self, wire: VisaWire, deadline: Deadline) -> None:
        self._command("open", SCOPE.setup, wire, deadline)

    def _reads(self) -> Mapping[str, str]:
        return {"screen_s": SCOPE.screen}

    def _do_set_screen(self, channel: int, volts: float, seconds: float) -> None:
        self._tell("set_screen", SCOPE.volts.format(channel, volts), SCOPE.seconds.format(seconds))

    def _do_acquire(self, channel: int) -> Waveform:
        return self._exchange("acquire", partial(self._acquired, channel))

    def _acquired(self, channel: int, wire: VisaWire, deadline: Deadline) -> Waveform:
        for command in (SCOPE.digitize, SCOPE.source):
            self._command("acquire", command.format(channel), wire, deadline)
        answer = self._answer("acquire", SCOPE.preamble, wire, deadline)
        data = self._answer("acquire", SCOPE.data, wire, deadline)
        try:
            preamble = [number_of(field) for field in answer.split(b",")]
            codes = np.frombuffer(payload_of(data), np.uint8).astype(np.uint16)
        except SyntaxProblem as error:
            raise WireGarbled(f"a waveform that cannot be read: {error}") from None
        if len(preamble) != PREAMBLE_FIELDS or preamble[2] != len(codes):
            raise WireGarbled(f"a preamble of {preamble} with {len(codes)} points")
        step_s, origin_s, reference, per_code, middle, zero = preamble[4:]
        return Waveform(codes, origin_s - reference * step_s, step_s, per_code, zero, middle)


class ScpiSignalGenerator(ScpiInstrument, SignalGenerator):
    """Commands: `GeneratorCommands`."""

    Settings = GeneratorSettings

    @property
    def spec(self) -> GeneratorSpec:
        """As the rig file says."""
        own = self._own(GeneratorSettings)
        return GeneratorSpec(own.n_channels, own.max_hz, own.max_volts, own.min_volts_pp)

    def _safe_commands(self) -> tuple[str, ...]:
        return tuple(GENERATOR.output.format(channel, 0) for channel in range(1, self.spec.n_channels + 1))

    def _reads(self) -> Mapping[str, str]:
        channels = range(1, self.spec.n_channels + 1)
        return {f"output_{k}_hz": _question(GENERATOR.hz, k) for k in channels}

    def _do_set_wave(self, channel: int, wave: Wave) -> None:
        commands = [GENERATOR.shape.format(channel, SHAPES[wave.shape])]
        volts_pp = wave.volts_pp
        if wave.shape == "dc":  # which has neither; an amplitude is there and must leave room for the offset
            volts_pp = max(volts_pp, self.spec.min_volts_pp)
        else:
            commands.append(GENERATOR.hz.format(channel, wave.hz))
        steps = [
            GENERATOR.volts_pp.format(channel, volts_pp),
            GENERATOR.offset.format(channel, wave.offset_volts),
        ]
        # so that no step on the way has a larger peak than the ends
        if volts_pp > self._ask("set_wave", _question(GENERATOR.volts_pp, channel)):
            steps.reverse()
        self._tell("set_wave", *commands, *steps)

    def _do_wave(self, channel: int) -> Wave:
        def work(wire: VisaWire, deadline: Deadline) -> Wave:
            def asked(command: str) -> bytes:
                return self._answer("wave", _question(command, channel), wire, deadline)

            word = asked(GENERATOR.shape).decode("ascii", "replace")
            shape = next((name for name, known in SHAPES.items() if word.startswith(known)), None)
            if shape is None:
                raise WireGarbled(f"a shape of {word!r}")
            try:
                hz, volts_pp, offset = (
                    number_of(asked(c)) for c in (GENERATOR.hz, GENERATOR.volts_pp, GENERATOR.offset)
                )
            except SyntaxProblem as error:
                raise WireGarbled(str(error)) from None
            return Wave(shape, hz, volts_pp, offset)

        return self._exchange("wave", work)

    def _do_output(self, channel: int, on: bool) -> None:
        self._tell("output", GENERATOR.output.format(channel, on))


def _question(command: str, channel: int) -> str:
    """The query of a command with a channel: what stands before its first blank, and "?"."""
    header: Any = command.split(" ")[0]
    return f"{header.format(channel)}?"
