"""Small twins of bench instruments: a laser that a power meter sees, a generator on an oscilloscope."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceUnavailable, Identity, Scalar
from labctl.devices.device import Device
from labctl.devices.instruments import (
    GeneratorSpec,
    Laser,
    LaserSpec,
    Oscilloscope,
    OscilloscopeSpec,
    PowerMeter,
    PowerMeterSpec,
    SignalGenerator,
    Wave,
    Waveform,
)
from labctl.physics import Stream
from labctl_sim_devices.damage import LASER_RATED_MW, OUTPUT_RATED_VOLTS, DamageRecord

OFF = Wave("dc", 1000.0, 0.0, 0.0)
THROUGH = 0.8  # share of the laser's light that reaches the meter [A]
METER_NOISE, METER_DARK_MW = 1e-3, 2e-6  # relative, of a reading; of the dark sensor [A]
SCOPE_NOISE = 2e-3  # of a full screen, rms [A]
POINTS, LEVELS = 1000, 256


class InstrumentBench:
    """What the instruments share. Every reading draws its own noise, by `seed` and how many there were."""

    def __init__(self, *, seed: int = 0, noise_scale: float = 1.0) -> None:
        self.seed, self.noise_scale, self.present, self.now_us = seed, noise_scale, True, 0.0
        self.laser_mw = 0.0
        self.outputs: dict[int, Wave] = {}
        self._readings = 0
        self.damage = DamageRecord(np.ones(1))

    def noise(self, what: str, count: int) -> NDArray[np.float64]:
        """Standard normal draws [count] for the next reading."""
        self._readings += 1
        drawn = Stream(self.seed, what, "reading").normal(np.array([self._readings]), count)
        return self.noise_scale * np.asarray(drawn.numpy()[0], np.float64)

    def unplug(self) -> None:
        """Take the bench away from its instruments."""
        self.present = False


class _Twin(Device):
    MODEL = ("", "")

    def __init__(self, name: str, bench: InstrumentBench) -> None:
        super().__init__(name)
        self._bench = bench

    def _do_open(self) -> Identity:
        self._here("open")
        model, serial = self.MODEL
        return Identity("labctl", f"simulated {model}", f"{serial}-{self._bench.seed}", "1", simulated=True)

    def _here(self, operation: str) -> InstrumentBench:
        if not self._bench.present:
            raise DeviceUnavailable("the bench has disappeared", device=self.name, operation=operation)
        return self._bench


class LaserTwin(_Twin, Laser):
    """Emits its set-point, exactly."""

    MODEL = ("laser", "SIM-LASER")
    _set_mw, _on = 0.0, False

    @property
    def spec(self) -> LaserSpec:
        """20 mW at most."""
        return LaserSpec(20.0)

    def _do_close(self) -> None:
        self._on = False
        self._shine()

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._here("snapshot")
        return {"power_mw": self._set_mw}

    def _do_set_power_mw(self, power_mw: float) -> None:
        self._here("set_power_mw")
        self._set_mw = power_mw
        self._shine()

    def _do_power_mw(self) -> float:
        self._here("power_mw")
        return self._set_mw

    def _do_emit(self, on: bool) -> None:
        self._here("emit")
        self._on = on
        self._shine()

    def _do_emitting(self) -> bool:
        self._here("emitting")
        return self._on

    def _shine(self) -> None:
        bench = self._bench
        bench.laser_mw = self._set_mw if self._on else 0.0
        if bench.damage.rate(self.name, bench.now_us, "diode", "power (mW)", bench.laser_mw, LASER_RATED_MW):
            bench.damage.alive[:] = 0.0


class PowerMeterTwin(_Twin, PowerMeter):
    """Sees the laser's light behind the path; the same at every wavelength."""

    MODEL = ("power meter", "SIM-METER")
    _nm = 850.0

    @property
    def spec(self) -> PowerMeterSpec:
        """A silicon sensor."""
        return PowerMeterSpec((400.0, 1100.0), 50.0)

    def _do_close(self) -> None:
        pass

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._here("snapshot")
        return {"wavelength_nm": self._nm}

    def _do_set_wavelength_nm(self, wavelength_nm: float) -> None:
        self._here("set_wavelength_nm")
        self._nm = wavelength_nm

    def _do_wavelength_nm(self) -> float:
        self._here("wavelength_nm")
        return self._nm

    def _do_read_mw(self) -> float:
        bench = self._here("read_mw")
        light, draws = THROUGH * bench.laser_mw, bench.noise(self.name, 2)
        return float(light * (1 + METER_NOISE * draws[0]) + METER_DARK_MW * draws[1])


class GeneratorTwin(_Twin, SignalGenerator):
    """Gives its waves, exactly; its outputs are the oscilloscope's inputs of the same number."""

    MODEL = ("signal generator", "SIM-GEN")

    def __init__(self, name: str, bench: InstrumentBench) -> None:
        super().__init__(name, bench)
        self._waves: dict[int, Wave] = {}
        self._on: set[int] = set()

    @property
    def spec(self) -> GeneratorSpec:
        """Two channels."""
        return GeneratorSpec(2, 20e6, 5.0)

    def _do_close(self) -> None:
        self._on.clear()
        self._give()

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._here("snapshot")
        channels = range(1, self.spec.n_channels + 1)
        return {f"output_{k}_hz": self._waves.get(k, OFF).hz for k in channels}

    def _do_set_wave(self, channel: int, wave: Wave) -> None:
        self._here("set_wave")
        self._waves[channel] = wave
        self._give()

    def _do_wave(self, channel: int) -> Wave:
        self._here("wave")
        return self._waves.get(channel, OFF)

    def _do_output(self, channel: int, on: bool) -> None:
        self._here("output")
        (self._on.add if on else self._on.discard)(channel)
        self._give()

    def _give(self) -> None:
        bench = self._bench
        bench.outputs = {k: self._waves.get(k, OFF) for k in self._on}
        for channel, wave in bench.outputs.items():
            peak = abs(wave.offset_volts) + wave.volts_pp / 2
            where = f"output {channel}"
            bench.damage.rate(self.name, bench.now_us, where, "voltage (V)", peak, OUTPUT_RATED_VOLTS)


class OscilloscopeTwin(_Twin, Oscilloscope):
    """Triggers where its channel's wave begins, at the middle of the screen; 8 bits."""

    MODEL = ("oscilloscope", "SIM-SCOPE")

    def __init__(self, name: str, bench: InstrumentBench) -> None:
        super().__init__(name, bench)
        self._volts: dict[int, float] = {}
        self._seconds = 1e-3

    @property
    def spec(self) -> OscilloscopeSpec:
        """Two channels."""
        return OscilloscopeSpec(2, (8e-3, 40.0), (50e-9, 500.0), POINTS)

    def _do_close(self) -> None:
        pass

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._here("snapshot")
        return {"screen_s": self._seconds}

    def _do_set_screen(self, channel: int, volts: float, seconds: float) -> None:
        self._here("set_screen")
        self._volts[channel], self._seconds = volts, seconds

    def _do_acquire(self, channel: int) -> Waveform:
        bench = self._here("acquire")
        screen = self._volts.get(channel, 4.0)
        step_s, start_s = self._seconds / POINTS, -self._seconds / 2
        time_s = np.asarray(start_s + step_s * np.arange(POINTS), np.float64)
        seen = voltage(bench.outputs.get(channel, OFF), time_s)
        seen = seen + SCOPE_NOISE * screen * bench.noise(f"{self.name} {channel}", POINTS)
        per_code = screen / LEVELS
        codes = np.clip(np.rint(seen / per_code + LEVELS / 2), 0, LEVELS - 1)
        bench.now_us += self._seconds * 1e6
        return Waveform(codes.astype(np.uint16), start_s, step_s, per_code, LEVELS / 2)


def voltage(wave: Wave, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """A wave at these times; its period begins at 0."""
    turns = (time_s * wave.hz) % 1.0
    unit = {
        "sine": np.sin(2 * np.pi * turns),
        "square": np.where(turns < 0.5, 1.0, -1.0),
        "ramp": 2 * turns - 1,
        "dc": np.zeros_like(turns),
    }[wave.shape]
    return np.asarray(wave.offset_volts + wave.volts_pp / 2 * unit)
