"""An examination of an optical bench: cheap probes beside the charted ones, chosen so that faults part.

Everything is by interfaces, on the dense frame: dark, rest and slopes of every emitter with the loop open;
the frame's light right after it was shown and later; lines, steps, noise and answers with the loop closed.
Readings are reduced to what can be averaged over looks; the arrays' names say what they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Hold, LoopElectronics, SettleCodes, WeightModulator
from labctl_calibration.drift.look import FloatArray

STEP_ID = 0x0E000000
DARKS, FLATS = 64, 512  # windows; the flats last longer than a period of a panel's flicker
SLOPE_ROUNDS = 4
PATTERNS, TURNS = 6, 48  # fixed patterns, rounds of them: a period of flicker too
RAMP_UNITS, RAMP = 3.0, 33
HALF_UNITS, HALF_RAMP = 1.2, 17
QUIET, QUIET_EVERY_US = 128, 400.0  # 51 ms: two and a half periods of the mains
MAINS_HZ, ORDERS = (50.0, 60.0), 3
STEP_UNITS, STEPS = 1.5, 4  # of each sign
GAIN, ANSWER_UNITS, ANSWERS, ANSWER_REPEATS = 0.08, 1.0, 8, 4
LOW, HIGH = 0.2, 0.8  # of a step: where its time constant is read


class Examination:
    """Arrays by name, network units; n channels, the electronics' own order.

    temperature_c [1]; dark_units, rest_units [n]; slope_units [n, n]; flicker [1] relative sd of all light;
    unsettled [1] share of the frame's light still missing after the panel's settle time; offset_units,
    adc_units, line_slope, bit_units [n] of settles without gain; hum_units, noise_units, tau_us [n];
    delay_us [1]; answer_units [P, n].
    """

    def __init__(self, modulator: WeightModulator, electronics: LoopElectronics, levels: NDArray[np.integer]):
        self._modulator, self._electronics, self._levels = modulator, electronics, levels
        self._batches = 0
        n, top = electronics.spec.n_channels, electronics.spec.probe_dac.max_code
        rng = np.random.Generator(np.random.Philox(key=7713))
        self._patterns = (rng.choice([-1.0, 1.0], size=(PATTERNS, n)) * 0.8 * top).astype(np.int64)
        biases = rng.choice([-1.0, 1.0], size=(ANSWERS, n)) * ANSWER_UNITS
        self._biases = np.rint(biases / electronics.spec.dac.units_per_code).astype(np.int64)

    @property
    def device_us(self) -> float:
        """By the data sheets."""
        spec = self._electronics.spec
        windows = DARKS + FLATS + 2 * SLOPE_ROUNDS * spec.n_channels + 2 * PATTERNS * TURNS
        settles = 2 * RAMP + 2 * HALF_RAMP + 2 * STEPS + 2 * ANSWERS * ANSWER_REPEATS
        shown = 2 * self._modulator.spec.settle_time_us
        every = spec.wait_us + spec.window_us
        return shown + windows * spec.window_us + settles * every + QUIET * max(QUIET_EVERY_US, every)

    def look(self, null_codes: FloatArray) -> dict[str, FloatArray]:
        """Examine once; the dense frame is on display afterwards, its null (codes [n]) in force."""
        electronics, unit = self._electronics, self._electronics.spec.offset_dac.units_per_code
        n = electronics.spec.n_channels
        temperature = electronics.temperature_c()
        self._modulator.show(np.zeros_like(self._levels))
        self._modulator.show(self._levels)
        early = self._turns()
        null = null_codes * unit
        dark = electronics.probe(np.zeros((DARKS, n), np.int64), at="emitter").counts * unit + null
        flat = electronics.probe(np.zeros((FLATS, n), np.int64)).counts * unit + null
        found = {
            "temperature_c": np.array([temperature]),
            "dark_units": dark.mean(axis=0),
            "rest_units": flat.mean(axis=0),
            "flicker": np.array([_flicker(flat - dark.mean(axis=0))]),
        }
        found |= self._lines() | self._quiet() | self._steps() | {"answer_units": self._answers()}
        found["slope_units"] = self._slopes()
        late = self._turns()
        power = float((late**2).sum())
        missing = 1 - float((early * late).sum()) / power if power > 1e-6 else 0.0
        found["unsettled"] = np.array([missing])
        return found

    def _turns(self) -> FloatArray:
        """Currents [P, n] of fixed patterns, what is seen at phi = 0 taken away."""
        n = self._electronics.spec.n_channels
        once = np.concatenate([self._patterns, -self._patterns])
        seen = self._electronics.probe(np.tile(once, (TURNS // 2, 1))).counts.reshape(-1, 2, PATTERNS, n)
        unit = self._electronics.spec.offset_dac.units_per_code
        return np.asarray((seen[:, 0] - seen[:, 1]).mean(axis=0) * unit / 2)

    def _slopes(self) -> FloatArray:
        """Current per unit of phi [out, in], both signs next to each other in time."""
        spec = self._electronics.spec
        n = spec.n_channels
        pairs = np.stack([np.eye(n), -np.eye(n)], axis=1).reshape(-1, n) * spec.probe_dac.max_code
        codes = np.tile(pairs.astype(np.int64), (SLOPE_ROUNDS, 1))
        seen = self._electronics.probe(codes).counts.reshape(SLOPE_ROUNDS, n, 2, n).mean(axis=0)
        return np.asarray((seen[:, 0] - seen[:, 1]).T / 2 * spec.offset_dac.units_per_code)

    def _settle(
        self, bias: NDArray[np.int64], gain: float, leak: int, *, trace: bool = False, every_us: float = 0.0
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """States [B, n] at the end; trace [S, B, n] and its times (none unless asked for)."""
        spec, count = self._electronics.spec, len(bias)
        n = spec.n_channels
        self._batches += 1
        codes = SettleCodes(
            bias=bias,
            gain=np.asarray(spec.hidden_gain.code(np.full((1, n), gain))),
            leak=np.full((1, n), leak),
            gain_range=np.ones(n, np.int64),
            start=np.zeros((count, n), np.int64),
            step_id=STEP_ID + self._batches % 2**20,
            sample_id=np.arange(count),
        )
        hold = Hold(spec.window_us, every_us) if every_us else None
        seen = self._electronics.settle(codes, trace=trace, hold=hold)
        unit = spec.adc.units_per_code
        none = np.zeros((0, count, n))
        traced = none if seen.trace_counts is None else seen.trace_counts * unit
        times = np.zeros(0) if seen.trace_time_us is None else seen.trace_time_us
        return seen.counts * unit, traced, times

    def _ramp(self, reach: float, count: int, leak: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Intercepts, slopes [n] of states over biases, and what two runs agree on of the rest, rms [n]."""
        spec = self._electronics.spec
        units = np.linspace(-reach, reach, count)
        codes = np.rint(units / spec.dac.units_per_code).astype(np.int64)
        asked = codes * spec.dac.units_per_code
        both = np.tile(np.repeat(codes[:, None], spec.n_channels, axis=1), (2, 1))
        runs = self._settle(both, 0.0, leak)[0].reshape(2, count, spec.n_channels)
        mean = runs.mean(axis=0)
        slope = (asked[:, None] * mean).sum(axis=0) / (asked**2).sum()
        left = runs - mean.mean(axis=0) - asked[:, None] * slope
        shared = (left[0] * left[1]).mean(axis=0)
        return mean.mean(axis=0), slope, np.sign(shared) * np.sqrt(np.abs(shared))

    def _lines(self) -> dict[str, FloatArray]:
        """Without gain: what moves with the leak is the loop's offset, the rest is the converters'."""
        full = self._electronics.spec.max_leak_code
        at, slope, bit = self._ramp(RAMP_UNITS, RAMP, full)
        half_at, half_slope, _ = self._ramp(HALF_UNITS, HALF_RAMP, full // 2)
        offset = (half_at - at) / np.maximum(half_slope - slope, 0.1)
        return {
            "offset_units": offset, "adc_units": at - offset * slope, "line_slope": slope, "bit_units": bit
        }  # fmt: skip

    def _quiet(self) -> dict[str, FloatArray]:
        """States without bias or gain over some periods of the mains: their hum, and the noise left."""
        spec = self._electronics.spec
        every = max(QUIET_EVERY_US, spec.wait_us + spec.window_us)
        z = self._settle(
            np.zeros((QUIET, spec.n_channels), np.int64), 0.0, spec.max_leak_code, every_us=every
        )[0]
        time_s = np.arange(QUIET) * every * 1e-6
        least, found = np.inf, {}
        for hz in MAINS_HZ:
            angle = 2 * np.pi * hz * time_s[:, None] * np.arange(1, ORDERS + 1)
            design = np.column_stack([np.ones(QUIET), np.cos(angle), np.sin(angle)])
            fit, *_ = np.linalg.lstsq(design, z, rcond=None)
            left = z - design @ fit
            if (power := float((left**2).sum())) < least:
                noise = np.sqrt((left**2).sum(axis=0) / (QUIET - design.shape[1]))
                least = power
                found = {"hum_units": np.hypot(fit[1], fit[1 + ORDERS]), "noise_units": noise}
        return found

    def _steps(self) -> dict[str, FloatArray]:
        """Time constant [n] and delay of a step without gain; NaN where the electronics give no trace."""
        spec = self._electronics.spec
        code = round(STEP_UNITS / spec.dac.units_per_code)
        bias = np.repeat(np.array([code, -code]), STEPS)[:, None].repeat(spec.n_channels, axis=1)
        _, trace, time_us = self._settle(bias, 0.0, spec.max_leak_code, trace=True)
        if len(time_us) < 3:
            return {"tau_us": np.full(spec.n_channels, np.nan), "delay_us": np.array([np.nan])}
        odd = (trace[:, :STEPS].mean(axis=1) - trace[:, STEPS:].mean(axis=1)) / 2
        end = odd[-16:].mean(axis=0)
        low, high = (_crossing(time_us, odd / np.where(end == 0, 1.0, end), at) for at in (LOW, HIGH))
        tau = (high - low) / np.log((1 - LOW) / (1 - HIGH))
        return {"tau_us": tau, "delay_us": np.array([np.median(low + tau * np.log(1 - LOW))])}

    def _answers(self) -> FloatArray:
        """Odd part [P, n] of where the loop rests under fixed biases and a little gain."""
        spec = self._electronics.spec
        both = np.concatenate([self._biases, -self._biases])
        z = self._settle(np.repeat(both, ANSWER_REPEATS, axis=0), GAIN, spec.max_leak_code)[0]
        mean = z.reshape(2, ANSWERS, ANSWER_REPEATS, spec.n_channels).mean(axis=2)
        return np.asarray((mean[0] - mean[1]) / 2)

    @property
    def biases_units(self) -> FloatArray:
        """Of the answers [P, n]."""
        return np.asarray(self._biases * self._electronics.spec.dac.units_per_code)


def _flicker(light: FloatArray) -> float:
    """Relative sd of what all rows [T, n] have in common."""
    mean = light.mean(axis=0)
    power = float((mean**2).sum())
    return float((light @ mean / power).std()) if power > 1e-4 else 0.0


def _crossing(time_us: FloatArray, share: FloatArray, at: float) -> FloatArray:
    """First time [n] at which shares [S, n] of a step pass a value, straight between samples."""
    first = np.maximum((share >= at).argmax(axis=0), 1)
    rows = np.arange(share.shape[1])
    before, after = share[first - 1, rows], share[first, rows]
    part = (at - before) / np.where(after == before, 1.0, after - before)
    return np.asarray(time_us[first - 1] + part * (time_us[first] - time_us[first - 1]))
