"""Bench instruments that interlocks, calibrations and settling measurements use: laser, power meter,
oscilloscope, signal generator.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from labctl.devices.device import Device, Stage
from labctl.devices.errors import DeviceValueError

Shape = Literal["sine", "square", "ramp", "dc"]
SHAPES: tuple[Shape, ...] = ("sine", "square", "ramp", "dc")


@dataclass(frozen=True)
class LaserSpec:
    """Power set-points up to max_power_mw."""

    max_power_mw: float


@dataclass(frozen=True)
class PowerMeterSpec:
    """Wavelengths (lowest, highest) that the sensor is calibrated for, and the most it bears."""

    wavelength_range_nm: tuple[float, float]
    max_power_mw: float


@dataclass(frozen=True)
class OscilloscopeSpec:
    """Input channels 1 .. n_channels; full screens in volts and seconds (lowest, highest); most points."""

    n_channels: int
    volts_range: tuple[float, float]
    seconds_range: tuple[float, float]
    max_points: int


@dataclass(frozen=True)
class GeneratorSpec:
    """Output channels 1 .. n_channels; the highest frequency, the largest voltage either way, and the
    smallest peak-to-peak voltage of what is no "dc".
    """

    n_channels: int
    max_hz: float
    max_volts: float
    min_volts_pp: float = 0.0


@dataclass(frozen=True)
class Waveform:
    """codes [n] of an ADC: sample i is at start_s + i step_s (trigger = 0) and is
    (codes[i] - zero_code) volts_per_code + middle_volts.
    """

    codes: NDArray[np.uint16]
    start_s: float
    step_s: float
    volts_per_code: float
    zero_code: float
    middle_volts: float = 0.0

    @property
    def volts(self) -> NDArray[np.float64]:
        """Voltages [n]."""
        codes = self.codes.astype(np.float64)
        return np.asarray((codes - self.zero_code) * self.volts_per_code + self.middle_volts, np.float64)

    @property
    def time_s(self) -> NDArray[np.float64]:
        """Times [n]."""
        return np.asarray(self.start_s + self.step_s * np.arange(len(self.codes)), np.float64)


@dataclass(frozen=True)
class Wave:
    """A periodic signal: shape, frequency, peak-to-peak voltage, offset. A "dc" has its offset alone."""

    shape: Shape
    hz: float
    volts_pp: float
    offset_volts: float = 0.0


class _Instrument(Device):
    def _in_range(
        self, operation: str, field: str, value: float, low: float, high: float, unit: str
    ) -> float:
        """The value; DeviceValueError where it is no number from low to high."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not low <= value <= high:
            raise DeviceValueError(
                f"{field} is {value!r}; allowed: {low:g} to {high:g} {unit}",
                device=self.name,
                operation=operation,
            )
        return float(value)

    def _channel(self, operation: str, channel: int, n_channels: int) -> int:
        if isinstance(channel, bool) or not isinstance(channel, int) or not 1 <= channel <= n_channels:
            raise DeviceValueError(
                f"channel is {channel!r}; allowed: 1 to {n_channels}", device=self.name, operation=operation
            )
        return channel


class Laser(_Instrument):
    """A laser with a power set-point. Closing it switches the emission off."""

    safe_stage: ClassVar[Stage] = "light"

    @property
    @abstractmethod
    def spec(self) -> LaserSpec:
        """Its largest set-point."""

    def set_power_mw(self, power_mw: float) -> None:
        """Set-point, whether it emits or not. Raises DeviceValueError out of range."""
        self._require_open("set_power_mw")
        high = self.spec.max_power_mw
        self._do_set_power_mw(self._in_range("set_power_mw", "power_mw", power_mw, 0.0, high, "mW"))

    def power_mw(self) -> float:
        """The set-point as read back."""
        self._require_open("power_mw")
        return self._do_power_mw()

    def emit(self, on: bool) -> None:
        """Switch the emission on or off."""
        self._require_open("emit")
        self._do_emit(bool(on))

    def emitting(self) -> bool:
        """Whether it emits, as read back."""
        self._require_open("emitting")
        return self._do_emitting()

    @abstractmethod
    def _do_set_power_mw(self, power_mw: float) -> None: ...

    @abstractmethod
    def _do_power_mw(self) -> float: ...

    @abstractmethod
    def _do_emit(self, on: bool) -> None: ...

    @abstractmethod
    def _do_emitting(self) -> bool: ...


class PowerMeter(_Instrument):
    """Reads optical power."""

    @property
    @abstractmethod
    def spec(self) -> PowerMeterSpec:
        """What the sensor is calibrated for."""

    def set_wavelength_nm(self, wavelength_nm: float) -> None:
        """Calibrated for this wavelength from now on. Raises DeviceValueError out of range."""
        self._require_open("set_wavelength_nm")
        low, high = self.spec.wavelength_range_nm
        self._do_set_wavelength_nm(
            self._in_range("set_wavelength_nm", "wavelength_nm", wavelength_nm, low, high, "nm")
        )

    def wavelength_nm(self) -> float:
        """The wavelength as read back."""
        self._require_open("wavelength_nm")
        return self._do_wavelength_nm()

    def read_mw(self) -> float:
        """One reading; below 0 where the zero has drifted."""
        self._require_open("read_mw")
        return self._do_read_mw()

    @abstractmethod
    def _do_set_wavelength_nm(self, wavelength_nm: float) -> None: ...

    @abstractmethod
    def _do_wavelength_nm(self) -> float: ...

    @abstractmethod
    def _do_read_mw(self) -> float: ...


class Oscilloscope(_Instrument):
    """Records one channel after a trigger."""

    @property
    @abstractmethod
    def spec(self) -> OscilloscopeSpec:
        """Channels, ranges, memory."""

    def set_screen(self, channel: int, *, volts: float, seconds: float) -> None:
        """Full screen of a channel, and of the time base that all share. DeviceValueError out of range."""
        self._require_open("set_screen")
        spec, operation = self.spec, "set_screen"
        self._do_set_screen(
            self._channel(operation, channel, spec.n_channels),
            self._in_range(operation, "volts", volts, *spec.volts_range, "V"),
            self._in_range(operation, "seconds", seconds, *spec.seconds_range, "s"),
        )

    def acquire(self, channel: int) -> Waveform:
        """Record after the next trigger: codes, and what they mean."""
        self._require_open("acquire")
        return self._do_acquire(self._channel("acquire", channel, self.spec.n_channels))

    @abstractmethod
    def _do_set_screen(self, channel: int, volts: float, seconds: float) -> None: ...

    @abstractmethod
    def _do_acquire(self, channel: int) -> Waveform: ...


class SignalGenerator(_Instrument):
    """Periodic signals on one or more outputs. Closing it switches all of them off."""

    safe_stage: ClassVar[Stage] = "loop"

    @property
    @abstractmethod
    def spec(self) -> GeneratorSpec:
        """Channels and limits."""

    def set_wave(self, channel: int, wave: Wave) -> None:
        """What an output gives, once it is on. Raises DeviceValueError out of range."""
        self._require_open("set_wave")
        spec, operation = self.spec, "set_wave"
        number = self._channel(operation, channel, spec.n_channels)
        if wave.shape not in SHAPES:
            raise DeviceValueError(
                f"shape is {wave.shape!r}; allowed: {', '.join(SHAPES)}",
                device=self.name,
                operation=operation,
            )
        self._in_range(operation, "hz", wave.hz, 0.0, spec.max_hz, "Hz")
        least = 0.0 if wave.shape == "dc" else spec.min_volts_pp
        self._in_range(operation, "volts_pp", wave.volts_pp, least, 2 * spec.max_volts, "V")
        peak = abs(wave.offset_volts) + wave.volts_pp / 2
        self._in_range(operation, "offset_volts with half of volts_pp", peak, 0.0, spec.max_volts, "V")
        self._do_set_wave(number, wave)

    def wave(self, channel: int) -> Wave:
        """As read back."""
        self._require_open("wave")
        return self._do_wave(self._channel("wave", channel, self.spec.n_channels))

    def output(self, channel: int, on: bool) -> None:
        """Switch an output on or off."""
        self._require_open("output")
        self._do_output(self._channel("output", channel, self.spec.n_channels), bool(on))

    @abstractmethod
    def _do_set_wave(self, channel: int, wave: Wave) -> None: ...

    @abstractmethod
    def _do_wave(self, channel: int) -> Wave: ...

    @abstractmethod
    def _do_output(self, channel: int, on: bool) -> None: ...
