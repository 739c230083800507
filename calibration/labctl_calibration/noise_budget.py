"""A noise budget measured through the interfaces: each source by itself, and all of them at once.

Probes with the loop open say what light and detectors add: in the dark, and over light (shot noise is in
proportion to it, intensity noise to its square). Settles without gain say what the electronics add. The
effective map and the fitted rows say what becomes of each in a loop with gain, and that is compared with what
settled states really scatter by.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import (
    CalibrationRecord,
    Identity,
    LoopElectronics,
    LoopSpec,
    Scalar,
    SettleCodes,
    WeightModulator,
)
from labctl_calibration.closed_loop import LOOP_GAIN, STEP_ID, Rows
from labctl_calibration.effective_map import EffectiveMap
from labctl_calibration.light_noise import STEADY, WINDOWS, LightNoise, measure_light_noise
from labctl_calibration.open_loop import calibrate_steady
from labctl_calibration.series import (
    BLOCKS,
    ComplexArray,
    Lines,
    find_lines,
    scatter,
    scatter_of_blocks,
)

FloatArray = NDArray[np.float64]
KIND = "noise budget"
SETTLES, WAIT_US = 2048, 40.0  # of a series of states, one queue: 95 ms at usual windows, down to 26 Hz
_SEPARATOR = " | "
SURE = 2.0  # standard errors: what is less than so many is "below", not measured


@dataclass(frozen=True)
class Source:
    """One source: its part in a settled state, rms over rows, in % of full scale, with standard error.

    `measured` is False where it is only known to be below `percent`.
    """

    name: str
    percent: float
    error: float
    how: str
    measured: bool = True

    @property
    def line(self) -> str:
        """For print."""
        error = f" ± {self.error:.1g}" if self.error else ""
        value = f"{self.percent:.4f}{error}%" if self.measured else f"below {self.percent:.1g}%"
        return f"{self.name:12} {value:17} {self.how}"


@dataclass(frozen=True, eq=False)
class NoiseBudget:
    """Sources, their total as independent, and what states scatter by when read again and again ("seen").

    gain: of every row, on the hidden scale. Codes of the bias are not in the total: the same code is the same
    in every repeat.
    """

    gain: float
    sources: tuple[Source, ...]
    total: Source
    seen: Source
    lines_hz: tuple[float, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """One line a source, for print."""
        head = f"noise of a settled state, % of full scale, every row at gain {self.gain:.3f}:"
        return (head, *(source.line for source in self.all_sources))

    @property
    def all_sources(self) -> tuple[Source, ...]:
        """Sources, total, and last what was seen."""
        return (*self.sources, self.total, self.seen)

    @property
    def arrays(self) -> dict[str, FloatArray]:
        """As a record holds it: percent and error by source, in order of `settings["sources"]`."""
        return {
            "noise_percent": np.array([s.percent for s in self.all_sources]),
            "noise_error_percent": np.array([s.error for s in self.all_sources]),
            "measured": np.array([float(s.measured) for s in self.all_sources]),
            "lines_hz": np.array(self.lines_hz),
        }

    @property
    def settings(self) -> dict[str, Scalar]:
        """What goes with them; `how` in words, source by source."""
        return {
            "sources": ", ".join(s.name for s in self.all_sources),
            "how": _SEPARATOR.join(s.how for s in self.all_sources),
            "gain": self.gain,
            "full_scale_is": "the ADC's range",
        }

    def record(self, electronics: Identity) -> CalibrationRecord:
        """As a record."""
        return CalibrationRecord(
            kind=KIND,
            device_serial=electronics.serial,
            taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            arrays=self.arrays,
            settings=self.settings,
        )


def budget_of(record: CalibrationRecord) -> NoiseBudget:
    """Back."""
    names, hows = str(record.settings["sources"]).split(", "), str(record.settings["how"]).split(_SEPARATOR)
    columns = [record.array(name).tolist() for name in ("noise_percent", "noise_error_percent", "measured")]
    sources = [
        Source(name, percent, error, how, bool(measured))
        for name, how, percent, error, measured in zip(names, hows, *columns, strict=True)
    ]
    return NoiseBudget(
        gain=float(record.settings["gain"]),
        sources=tuple(sources[:-2]),
        total=sources[-2],
        seen=sources[-1],
        lines_hz=tuple(record.array("lines_hz").tolist()),
    )


def measure_noise(
    modulator: WeightModulator, electronics: LoopElectronics, light: EffectiveMap, rows: Rows
) -> NoiseBudget:
    """The budget of the frame on display, which is on display and nulled again in the end, around states of
    zero. Raises DeviceFault where detectors clip.
    """
    spec = electronics.spec
    light_noise = measure_light_noise(modulator, electronics)
    offset_units = calibrate_steady(electronics).array("offset_units")
    slowest = float(np.abs(np.linalg.eigvals(light.powers[0])).max())
    code = int(spec.hidden_gain.code(np.array([LOOP_GAIN / max(slowest, 1e-3)]))[0])
    gain = float(spec.hidden_gain.value(np.array([code]))[0])
    spacing_us = WAIT_US + spec.window_us
    still = find_lines(_states(electronics, rows, 0, STEP_ID + 3), spacing_us)
    states = _states(electronics, rows, code, STEP_ID + 4)
    paths = _Propagation.of(electronics, light, rows, gain)
    sources = (
        *_electronic_sources(spec, still, paths),
        *_light_sources(light_noise, paths, light_noise.pedestal * light.powers[0], offset_units),
    )
    known = [s for s in sources if s.measured]
    total = float(np.sqrt(sum(s.percent**2 for s in known)))
    error = float(np.sqrt(sum((s.percent * s.error) ** 2 for s in known))) / total
    codes = Source(
        "bias codes",
        paths.of_rows(np.full(spec.n_channels, spec.dac.units_per_code**2 / 12)),
        0.0,
        f"{spec.dac.bits} bits; the same in every repeat, so not in the total",
    )
    parts = [part.var(axis=0, ddof=1) for part in np.array_split(states, BLOCKS)]
    return NoiseBudget(
        gain=gain,
        sources=(*sources, codes),
        total=Source("total", total, error, "all of these but bias codes, as independent"),
        seen=_blocks(
            "seen",
            [paths.percent(np.sqrt(v)) for v in (states.var(axis=0, ddof=1), *parts)],
            f"{SETTLES} settles with gain, all that they scatter by in {1e-3 * SETTLES * spacing_us:.0f} ms",
        ),
        lines_hz=(*light_noise.flicker_hz.tolist(), *still.frequency_hz.tolist()),
    )


def _light_sources(
    noise: LightNoise, paths: _Propagation, pedestal_units: FloatArray, offset_units: FloatArray
) -> tuple[Source, ...]:
    """Of light and detectors; the pedestal's photocurrents [out, in], and what they add up to in rows [n]."""
    common = paths.of_common(offset_units)
    return (
        _blocks(
            "detectors",
            [paths.of_detectors(v) for v in (noise.dark, *noise.dark_blocks)],
            f"{WINDOWS} windows in the dark",
        ),
        _slope("shot", noise.shot, paths.of_detectors(noise.total_units), "slope of the variance over light"),
        _slope(
            "intensity",
            noise.intensity,
            paths.of_emitters(pedestal_units),
            "what the variance rises by beyond that slope",
        ),
        _of_lines(
            "flicker",
            noise.flicker_hz,
            noise.flicker * common,
            noise.flicker_error * common,
            f"{STEADY} windows of steady light",
        ),
    )


def _electronic_sources(spec: LoopSpec, still: Lines, paths: _Propagation) -> tuple[Source, ...]:
    """Of the loop without gain: its noise from settle to settle, mains, and the converter's codes."""
    adc = np.full(spec.n_channels, spec.adc.units_per_code**2 / 12 / spec.window_samples)
    alone = [scatter(still.rest), *scatter_of_blocks(still.rest)]
    return (
        _blocks(
            "electronics",
            [paths.of_rows(np.maximum(v - adc, 0.0)) for v in alone],
            f"{SETTLES} settles without gain, from one to the next",
        ),
        _of_lines(
            "mains",
            still.frequency_hz,
            paths.of_lines(still.amplitude),
            paths.of_rows(alone[0]) / float(np.sqrt(SETTLES * spec.n_channels)),
            f"{SETTLES} settles without gain",
        ),
        Source(
            "ADC codes",
            paths.percent(np.sqrt(adc)),
            0.0,
            f"codes of {spec.adc.units_per_code:.2g} units, {spec.window_samples} readings a window",
        ),
    )


@dataclass(frozen=True, eq=False)
class _Propagation:
    """From forcings to settled states: settled [n, n], acting gains [n], share of a white forcing's variance
    that a window sees (a window of x tau sees 1 - (1 - exp(-x)) / x of it), full scale in units.
    """

    settled: FloatArray
    acting: FloatArray
    resolved: float
    full_scale_units: float

    @classmethod
    def of(cls, electronics: LoopElectronics, light: EffectiveMap, rows: Rows, gain: float) -> _Propagation:
        """Linear around z = 0, by the measured map and rows."""
        spec, acting = electronics.spec, gain * rows.gain_scale
        feedback = acting[:, None] * light.powers[0] * _slopes(rows)
        x = spec.window_us / spec.tau_us
        return cls(
            settled=np.linalg.inv(np.diag(rows.leak_scale + rows.leak_offset) - feedback),
            acting=acting,
            resolved=1 + float(np.expm1(-x)) / x,
            full_scale_units=spec.adc.range_units,
        )

    def percent(self, deviation: FloatArray | ComplexArray) -> float:
        """rms over rows of standard deviations [n] (units), in % of full scale."""
        return 100 / self.full_scale_units * float(np.sqrt((np.abs(deviation) ** 2).mean()))

    def of_rows(self, variance: FloatArray) -> float:
        """Of what a window of each row shows by itself, without gain."""
        return self.percent(np.sqrt(self.settled**2 @ variance))

    def of_detectors(self, variance: FloatArray) -> float:
        """Of white noise in the photocurrents, as variances [n] of an open-loop window."""
        return self.percent(np.sqrt(self.resolved * (self.settled * self.acting) ** 2 @ variance))

    def of_emitters(self, currents: FloatArray) -> float:
        """Of white noise of relative variance 1 on every emitter, with these photocurrents [out, in]."""
        seen = (self.settled * self.acting) @ currents
        return self.percent(np.sqrt(self.resolved * (seen**2).sum(axis=1)))

    def of_common(self, current_units: FloatArray) -> float:
        """Of a slow change of all light by its own size, where the rows' photocurrents are these [n]."""
        return self.percent((self.settled * self.acting) @ current_units)

    def of_lines(self, amplitude: ComplexArray) -> float:
        """Of slow sines [L, n] that rows show without gain."""
        return self.percent(np.sqrt((np.abs(amplitude @ self.settled.T) ** 2).sum(axis=0) / 2))


def _blocks(name: str, values: list[float], how: str) -> Source:
    """The whole series' value, and from the scatter of its parts the error."""
    return Source(name, values[0], float(np.std(values[1:], ddof=1) / np.sqrt(BLOCKS)), how)


def _slope(name: str, slope: tuple[float, float], per_unit: float, how: str) -> Source:
    """A part that goes with the root of a fitted slope (value, error) of a variance."""
    value, error = slope
    if value < SURE * error:
        return Source(name, per_unit * float(np.sqrt(max(value, 0.0) + SURE * error)), 0.0, how, False)
    root = float(np.sqrt(value))
    return Source(name, per_unit * root, per_unit * error / (2 * root), how)


def _of_lines(name: str, lines_hz: FloatArray, percent: float, error: float, where: str) -> Source:
    if len(lines_hz):
        named = ", ".join(f"{f:.0f}" for f in sorted(lines_hz))
        return Source(name, percent, error, f"lines at {named} Hz in {where}")
    return Source(name, float(max(percent, SURE * error)), 0.0, f"no line in {where}", False)


def _slopes(rows: Rows) -> FloatArray:
    """Of every channel's curve at zero."""
    step = 1e-3
    ends = torch.tensor([[step], [-step]], dtype=torch.float64).expand(2, len(rows.leak_scale))
    up, down = rows.curve(ends).numpy()
    return np.asarray((up - down) / (2 * step))


def _states(electronics: LoopElectronics, rows: Rows, code: int, step_id: int) -> FloatArray:
    """Settled states [SETTLES, n] in units, with biases that hold them near zero."""
    spec = electronics.spec
    gain = float(spec.hidden_gain.value(np.array([code]))[0])
    held = -(rows.offset_units + gain * rows.gain_scale * rows.light_offset)
    top = spec.dac.max_code
    bias = np.clip(np.rint(held / spec.dac.units_per_code), -top, top).astype(np.int64)
    codes = SettleCodes(
        bias=np.tile(bias, (SETTLES, 1)),
        gain=np.full((1, spec.n_channels), code, np.int64),
        leak=np.full((1, spec.n_channels), spec.max_leak_code),
        gain_range=np.ones(spec.n_channels, np.int64),
        start=np.zeros((SETTLES, spec.n_channels), np.int64),
        step_id=step_id,
        sample_id=np.arange(SETTLES),
    )
    return electronics.settle(codes, wait_us=WAIT_US).counts * spec.adc.units_per_code
