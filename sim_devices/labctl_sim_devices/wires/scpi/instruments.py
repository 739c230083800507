"""Bench instruments in the SCPI of real ones; the drivers' tables name whose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from labctl.devices.instruments import Laser, Oscilloscope, PowerMeter, Shape, SignalGenerator, Wave, Waveform
from labctl.devices.wire.scpi_syntax import block
from labctl_sim_devices.wires.scpi.arguments import Arguments, ScpiError
from labctl_sim_devices.wires.scpi.face import AnyDevice, ScpiFace
from labctl_sim_devices.wires.scpi.instrument import Handler

SHAPES: dict[str, Shape] = {"SIN": "sine", "SQU": "square", "RAMP": "ramp", "DC": "dc"}


class _InstrumentFace(ScpiFace[AnyDevice]):
    def _asks(self, read: Callable[[], float]) -> Handler:
        def handler(arguments: Arguments) -> str:
            arguments.expect(0)
            self._told(self._open)
            return f"{self._told(read):+.9E}"

        return handler

    def _sets(self, write: Callable[[float], object]) -> Handler:
        def handler(arguments: Arguments) -> None:
            arguments.expect(1)
            value = arguments.number(0)
            self._told(self._open)
            self._told(lambda: write(value))

        return handler


class ScpiLaserFace(_InstrumentFace[Laser]):
    """As a Santec TSL-500 series."""

    DRIVER: ClassVar[str] = "scpi.laser"
    _unit = 0

    def _commands(self) -> Mapping[str, Handler]:
        return {
            "POWer": self._sets(self._set_power),
            "POWer?": self._asks(lambda: self._device.power_mw()),
            "POWer:UNIT": self._set_unit,
            "POWer:STATe": self._set_state,
            "POWer:STATe?": self._state,
        }

    def _set_power(self, value: float) -> None:
        if self._unit != 1:
            raise ScpiError(-221, "set in mW: POWer:UNIT 1")
        self._device.set_power_mw(value)

    def _set_unit(self, arguments: Arguments) -> None:
        arguments.expect(1)
        self._unit = arguments.whole(0, 0, 1)

    def _set_state(self, arguments: Arguments) -> None:
        arguments.expect(1)
        on = arguments.boolean(0)
        self._told(lambda: self._open().emit(on))

    def _state(self, arguments: Arguments) -> str:
        arguments.expect(0)
        return str(int(self._told(lambda: self._open().emitting())))


class ScpiPowerMeterFace(_InstrumentFace[PowerMeter]):
    """As a Thorlabs PM100 series."""

    DRIVER: ClassVar[str] = "scpi.power-meter"

    def _commands(self) -> Mapping[str, Handler]:
        return {
            "SENSe:CORRection:WAVelength": self._sets(lambda nm: self._device.set_wavelength_nm(nm)),
            "SENSe:CORRection:WAVelength?": self._asks(lambda: self._device.wavelength_nm()),
            "MEASure:POWer?": self._asks(lambda: self._device.read_mw() * 1e-3),
        }


class ScpiGeneratorFace(_InstrumentFace[SignalGenerator]):
    """As an Agilent 33500 series."""

    DRIVER: ClassVar[str] = "scpi.signal-generator"

    def _commands(self) -> Mapping[str, Handler]:
        return {
            "SOURce<n>:FUNCtion": self._set_shape,
            "SOURce<n>:FUNCtion?": self._shape,
            "SOURce<n>:FREQuency": self._changes("hz"),
            "SOURce<n>:FREQuency?": self._reads("hz"),
            "SOURce<n>:VOLTage": self._changes("volts_pp"),
            "SOURce<n>:VOLTage?": self._reads("volts_pp"),
            "SOURce<n>:VOLTage:OFFSet": self._changes("offset_volts"),
            "SOURce<n>:VOLTage:OFFSet?": self._reads("offset_volts"),
            "OUTPut<n>[:STATe]": self._output,
        }

    def _wave(self, channel: int) -> Wave:
        return self._told(lambda: self._open().wave(channel))

    def _change(self, channel: int, **fields: object) -> None:
        wave = Wave(**{**vars(self._wave(channel)), **fields})
        self._told(lambda: self._device.set_wave(channel, wave))

    def _changes(self, field: str) -> Handler:
        def handler(arguments: Arguments) -> None:
            arguments.expect(1)
            self._change(arguments.suffixes[0], **{field: arguments.number(0)})

        return handler

    def _reads(self, field: str) -> Handler:
        def handler(arguments: Arguments) -> str:
            arguments.expect(0)
            return f"{getattr(self._wave(arguments.suffixes[0]), field):+.15E}"

        return handler

    def _set_shape(self, arguments: Arguments) -> None:
        arguments.expect(1)
        shape = SHAPES[arguments.word(0, *((word,) for word in SHAPES))]
        self._change(arguments.suffixes[0], shape=shape)

    def _shape(self, arguments: Arguments) -> str:
        arguments.expect(0)
        shape = self._wave(arguments.suffixes[0]).shape
        return next(word for word, name in SHAPES.items() if name == shape)

    def _output(self, arguments: Arguments) -> None:
        arguments.expect(1)
        on = arguments.boolean(0)
        self._told(lambda: self._open().output(arguments.suffixes[0], on))


class ScpiOscilloscopeFace(_InstrumentFace[Oscilloscope]):
    """As a Keysight InfiniiVision 1000 X series, data format BYTE."""

    DRIVER: ClassVar[str] = "scpi.oscilloscope"
    _source = 1
    _seconds = 1e-3
    _held: Waveform | None = None

    def _commands(self) -> Mapping[str, Handler]:
        self._volts: dict[int, float] = {}
        return {
            "CHANnel<n>:RANGe": self._set_range,
            "TIMebase:RANGe": self._sets(self._set_seconds),
            "TIMebase:RANGe?": self._asks(lambda: float(self._device.snapshot()["screen_s"])),
            "DIGitize": self._digitize,
            "WAVeform:SOURce": self._set_source,
            "WAVeform:FORMat": self._set_format,
            "WAVeform:PREamble?": self._preamble,
            "WAVeform:DATA?": self._data,
        }

    def _set_seconds(self, seconds: float) -> None:
        self._device.set_screen(self._source, volts=self._volts.get(self._source, 4.0), seconds=seconds)
        self._seconds = seconds

    def _set_range(self, arguments: Arguments) -> None:
        arguments.expect(1)
        channel, volts = arguments.suffixes[0], arguments.number(0)
        self._told(lambda: self._open().set_screen(channel, volts=volts, seconds=self._seconds))
        self._volts[channel] = volts

    def _channel_of(self, arguments: Arguments) -> int:
        arguments.expect(1)
        words = [(f"CHAN{k}", f"CHANNEL{k}") for k in range(1, self._device.spec.n_channels + 1)]
        return int(arguments.word(0, *words).removeprefix("CHAN"))

    def _digitize(self, arguments: Arguments) -> None:
        channel = self._channel_of(arguments)
        self._held = self._told(lambda: self._open().acquire(channel))

    def _set_source(self, arguments: Arguments) -> None:
        self._source = self._channel_of(arguments)

    def _set_format(self, arguments: Arguments) -> None:
        arguments.expect(1)
        arguments.word(0, ("BYTE",))

    def _waveform(self) -> Waveform:
        if self._held is None:
            raise ScpiError(-230, "nothing was digitized")
        return self._held

    def _preamble(self, arguments: Arguments) -> str:
        arguments.expect(0)
        held = self._waveform()
        return (
            f"+0,+0,+{len(held.codes)},+1,{held.step_s:+.15E},{held.start_s:+.15E},+0,"
            f"{held.volts_per_code:+.15E},{held.middle_volts:+.15E},{held.zero_code:+.0f}"
        )

    def _data(self, arguments: Arguments) -> bytes:
        arguments.expect(0)
        return block(self._waveform().codes.astype(np.uint8).tobytes())
