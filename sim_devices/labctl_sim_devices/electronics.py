"""Twin of the loop electronics: codes in, loop law with noise, counts out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices import (
    ChainCodes,
    ChainReadout,
    ChainSpec,
    Converter,
    DeviceUnavailable,
    GainScale,
    Hold,
    Identity,
    LinkSpec,
    LoopElectronics,
    LoopReadout,
    LoopSpec,
    ProbeReadout,
    Scalar,
    SettleCodes,
    joined_readouts,
)
from labctl.physics import ExponentialStep, LoopLaw, Stream, saturate
from labctl.physics.kernels import adc_sample, modulate, noisy_step
from labctl_sim_devices.bench import OpticalBench
from labctl_sim_devices.sequencer import SequencerTwin
from labctl_sim_devices.shutter import Gathered, Triggers

MAX_STEP_TAU = 0.22  # settle times within 0.5% (tests/physics), multiplicative noise resolved
TILE = 512  # samples integrated together: their states stay in cache


class ElectronicsTwin(LoopElectronics):
    """Integrates the loop on the bench's displayed weights; a queue is one batch."""

    def __init__(self, name: str, bench: OpticalBench) -> None:
        super().__init__(name)
        self._bench = bench
        p = bench.profile
        self._spec = LoopSpec(
            n_channels=p.n_channels,
            dac=Converter(p.dac_bits, p.full_scale_units),
            adc=Converter(p.adc_bits, p.full_scale_units),
            probe_dac=Converter(p.probe_dac_bits, 1.0),
            leak_bits=p.leak_bits,
            state_gain=GainScale(p.gain_bits, *p.state_gain_range),
            hidden_gain=GainScale(p.gain_bits, *p.hidden_gain_range),
            offset_dac=Converter(p.offset_dac_bits, p.photocurrent_range_units),
            volts_per_unit=p.volts_per_unit,
            phi="tanh",
            linear_rows=(),
            sample_rate_mhz=p.sample_rate_mhz,
            window_samples=p.window_samples,
            wait_us=p.wait_us,
            tau_us=p.tau_us,
            trip_us=p.trip_us,
            max_queue=p.max_queue,
            link=LinkSpec(p.link_latency_us, p.link_mbyte_per_s),
            chain=ChainSpec(p.chain_depth, p.chain_fraction_bits, p.chain_coefficient_bits),
            max_hold_us=p.max_hold_us,
        )
        self._null = np.zeros(p.n_channels, np.int64)
        self._probes, self._probed_frame = 0, -1

    @property
    def spec(self) -> LoopSpec:
        """As the twin's data sheet says."""
        return self._spec

    def _do_open(self) -> Identity:
        self._require_bench("open")
        serial = f"SIM-LOOP-{self._bench.seed}"
        return Identity("labctl", "simulated loop electronics", serial, "1", simulated=True)

    def _do_close(self) -> None:
        self._null = np.zeros_like(self._null)  # safe state: loop open, trims at zero

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._require_bench("snapshot")
        return {
            "offset_null_rms_units": float(np.sqrt(np.mean(self._null_units() ** 2))),
            "temperature_c": self._do_temperature_c(),
        }

    def _do_temperature_c(self) -> float:
        self._require_bench("temperature_c")
        return self._bench.profile.temperature_c

    def _do_set_offset_null(self, codes: NDArray[np.int64]) -> None:
        self._require_bench("set_offset_null")
        self._null = codes

    def _null_units(self) -> NDArray[np.float64]:
        return self._null.astype(np.float64) * self._spec.offset_dac.units_per_code

    def _do_probe(
        self, codes: NDArray[np.int64], at: Literal["phi", "emitter"], repeats: int, hold: Hold | None
    ) -> ProbeReadout:
        self._require_bench("probe")
        bench, p, noise = self._bench, self._bench.profile, self._bench.noise
        light = codes.astype(np.float64) * self._spec.probe_dac.units_per_code
        if at == "phi":
            light = light + p.pedestal_units
        bench.emitted_units = light
        window_us = self._spec.window_us * repeats
        paths = bench.optics.transmittances(bench.now_us)
        if self._probed_frame != bench.frames_shown:  # draws count from the frame: same program, same record
            self._probes, self._probed_frame = 0, bench.frames_shown
        row = np.arange(len(codes))
        draw = [
            Stream(bench.seed, self.name, name)
            .normal(row, p.n_channels, step=self._probes, dtype=torch.float64)
            .numpy()
            for name in ("probe rin", "probe detector")
        ]
        if hold is not None:
            triggers = Triggers(
                bench.now_us + np.arange(len(codes)) * self._spacing(0.0, window_us, hold), "probe", row,
                self._probes,
            )  # fmt: skip
            self._image_probe(triggers, light, max(window_us, hold.hold_us), at)
        self._probes += 1
        seconds = window_us * 1e-6
        noisy = light * (1 + noise.rin_sd(seconds) * draw[0])
        total = light @ (paths[0] + paths[1]).T
        density = noise.detector_density() + noise.shot_density() * total
        current = noisy @ (paths[0] - paths[1]).T + np.sqrt(density / (2 * seconds)) * draw[1]
        lsb = self._spec.offset_dac.units_per_code / self._spec.window_samples  # the window dithers
        counts = np.rint((current - self._null_units()) / lsb) / self._spec.window_samples
        limit = self._spec.offset_dac.max_code
        clipped = np.abs(counts) > limit
        bench.advance(self._spacing(0.0, window_us, hold) * len(codes))
        return ProbeReadout(np.clip(counts, -limit, limit), clipped, window_us)

    def _image_probe(self, triggers: Triggers, light: NDArray[np.float64], on_us: float, at: str) -> None:
        """A camera that waits sees each pattern while it is on; then phi is 0 again, or all is dark."""
        bench = self._bench
        if bench.shutter is None:
            return
        begin, end = bench.shutter.open_us(triggers)
        exposure_us = float((end - begin).mean())
        draw = Stream(bench.seed, self.name, "probe rin in frame")
        flicker = draw.normal(triggers.sample, light.shape[1], step=triggers.step, dtype=torch.float64)
        seen = light * (1 + bench.noise.rin_sd(exposure_us * 1e-6) * flicker.numpy())
        gathered = Gathered(begin, end, light.shape[1])
        gathered.add(0.0, 0.0, on_us, seen)
        gathered.add(0.0, on_us, on_us, seen)
        gathered.rest(on_us, bench.profile.pedestal_units if at == "phi" else 0.0)
        bench.shutter.expose(triggers, gathered.light_us)

    @staticmethod
    def _spacing(wait_us: float, window_us: float, hold: Hold | None) -> float:
        """Time from one release (or pattern) to the next."""
        if hold is None:
            return wait_us + window_us
        return max(wait_us + max(window_us, hold.hold_us), hold.period_us)

    def _do_settle(self, codes: SettleCodes, wait_us: float, trace: bool, hold: Hold | None) -> LoopReadout:
        self._require_bench("settle")
        bench = self._bench
        spacing = self._spacing(wait_us, self._spec.window_us, hold)
        parts = []
        for first in range(0, len(codes.bias), TILE):
            tile = _tile(codes, slice(first, first + TILE))
            times = bench.now_us + wait_us + spacing * (first + np.arange(len(tile.bias)))
            triggers = None
            if hold is not None and bench.shutter is not None:
                triggers = Triggers(times, "settle", tile.sample_id, tile.step_id)
            parts.append(self._settle_tile(tile, wait_us, trace, hold, triggers))
        bench.advance(len(codes.bias) * spacing)
        return joined_readouts([part.readout(wait_us, self._spec.window_us) for part in parts])

    def _do_run_chain(self, codes: ChainCodes) -> ChainReadout:
        self._require_bench("run_chain")
        sequencer = SequencerTwin(self._spec, codes)
        for k in range(len(codes.step_ids)):
            settle = sequencer.settle_codes(k)
            sequencer.settled(self._do_settle(settle, self._spec.wait_us, trace=False, hold=None))
        return sequencer.readout()

    def _settle_tile(
        self, codes: SettleCodes, wait_us: float, trace: bool, hold: Hold | None, triggers: Triggers | None
    ) -> _Window:
        spec, shutter = self._spec, self._bench.shutter
        run = _Run(self, codes)
        if triggers is not None and shutter is not None:
            begin, end = shutter.open_us(triggers)
            run.gathered = Gathered(wait_us + begin, wait_us + end, spec.n_channels)
        interval_us = 1.0 / spec.sample_rate_mhz
        inner = math.ceil(interval_us / spec.tau_us / MAX_STEP_TAU - 1e-9)
        step_us = interval_us / inner
        window = _Window(spec, len(codes.bias))
        if trace:
            window.note_trace(0.0, run.z)
        if wait_us > 0:
            waits = max(1, math.ceil(wait_us / step_us - 1e-9))
            run.use_step(wait_us / waits)
            for k in range(waits):
                run.advance()
                if trace and (k + 1) % inner == 0:
                    window.note_trace((k + 1) * wait_us / waits, run.z)
        run.use_step(step_us)
        for k in range(spec.window_samples):
            for _ in range(inner):
                run.advance()
            window.sample(k, run.z)
            if trace:
                window.note_trace(wait_us + (k + 1) * interval_us, run.z)
        if hold is not None and run.gathered is not None:
            left_us = hold.hold_us - spec.window_us
            if left_us > 0:
                steps = max(1, math.ceil(left_us / step_us - 1e-9))
                run.use_step(left_us / steps)
                for _ in range(steps):
                    run.advance()
            run.release()
            if triggers is not None and shutter is not None:
                shutter.expose(triggers, run.gathered.light_us)
        return window

    def _require_bench(self, operation: str) -> None:
        if not self._bench.present:
            raise DeviceUnavailable("the bench has disappeared", device=self.name, operation=operation)


class _Run:
    """The state of one tile between release and hold."""

    def __init__(self, twin: ElectronicsTwin, codes: SettleCodes) -> None:
        spec, bench = twin.spec, twin._bench
        self._spec, self._noise = spec, bench.noise
        dtype = bench.dtype
        dac = spec.dac.units_per_code

        def tensor(values: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)

        paths = bench.optics.transmittances(bench.now_us)
        self._pedestal = bench.profile.pedestal_units
        weights = paths[0] - paths[1]
        gain = spec.gain_value(codes.gain, codes.gain_range)
        leftover = self._pedestal * weights.sum(axis=1) - twin._null_units()
        bias = codes.bias.astype(np.float64) * dac + gain * leftover
        self._law = LoopLaw(
            tensor(weights),
            tensor(gain),
            tensor(codes.leak.astype(np.float64) / spec.max_leak_code),
            tensor(bias),
            spec.linear_rows,
        )
        self.z = tensor(codes.start.astype(np.float64) * dac)
        self._weights, self._total = tensor((paths[0] - paths[1]).T), tensor((paths[0] + paths[1]).T)
        self._sample, self._step_id, self._substep = codes.sample_id, codes.step_id, 0
        self._streams = [Stream(bench.seed, twin.name, name) for name in ("rin", "additive")]
        self._quiet = torch.zeros_like(self.z)
        self._phi, self._light, self._flicker, self._now, self._before = (
            torch.empty_like(self.z) for _ in range(5)
        )
        self._started = False
        self.gathered: Gathered | None = None  # a camera's exposures, where one waits
        self._time_us, self._past_us, self._step_us = 0.0, 0.0, 0.0

    def use_step(self, step_us: float) -> None:
        law, spec, noise = self._law, self._spec, self._noise
        self._step_us = step_us
        dt = step_us / spec.tau_us
        step = ExponentialStep.of(law.leak, dt, trip=spec.trip_us / spec.tau_us)
        floor, slope = noise.additive_variance(law.gain, law.leak, dt, spec.tau_us * 1e-6)
        self._tables = [t.contiguous().numpy() for t in (step.decay, step.now, step.before, floor, slope)]
        self._rin_sd = noise.rin_sd(step_us * 1e-6)

    def advance(self) -> None:
        """One step: light out, photocurrents in, the state moves on."""
        law, noise = self._law, self._noise
        phi = saturate(self.z, out=self._phi) if not law.linear_rows else law.phi(self.z)
        rin = self._draw(0) if self._rin_sd > 0 else self._quiet
        light, flicker = self._light, self._flicker
        modulate(phi.numpy(), self._pedestal, self._rin_sd, rin.numpy(), light.numpy(), flicker.numpy())
        self._gather(self._time_us + self._step_us)
        y = phi @ self._weights
        jitter = flicker @ self._weights if self._rin_sd > 0 else self._quiet
        total = light @ self._total if noise.shot else light
        decay, share, extend, floor, slope = self._tables
        normal = self._quiet if noise.quiet else self._draw(1)
        if not self._started:  # nothing is known of the time before release: hold the first forcing
            torch.addcmul(law.bias, law.gain, y, out=self._before)
            self._started = True
        noisy_step(
            self.z.numpy(), y.numpy(), jitter.numpy(), self._now.numpy(), self._before.numpy(),
            law.gain.numpy(), law.bias.numpy(), decay, share, extend, floor, slope, total.numpy(),
            normal.numpy(),
        )  # fmt: skip
        self._now, self._before = self._before, self._now
        self._substep += 1
        self._past_us, self._time_us = self._time_us, self._time_us + self._step_us

    def release(self) -> None:
        """The loop opens: what is still exposed sees the pedestal alone."""
        if self.gathered is not None:
            phi = self._law.phi(self.z)
            torch.add(phi, self._pedestal, out=self._light)
            self._flicker.zero_()
            self._gather(self._time_us)
            self.gathered.rest(self._time_us, self._pedestal)

    def _gather(self, next_us: float) -> None:
        if self.gathered is not None:
            light = self._light.numpy() + self._flicker.numpy()
            self.gathered.add(self._past_us, self._time_us, next_us, light)

    def _draw(self, stream: int) -> Tensor:
        return self._streams[stream].normal(
            self._sample, self._spec.n_channels, step=self._step_id, substep=self._substep, dtype=self.z.dtype
        )


class _Window:
    """ADC samples of one tile: mean, halves, spread, clipping, trace, in counts."""

    def __init__(self, spec: LoopSpec, batch: int) -> None:
        self._spec = spec
        shape = (batch, spec.n_channels)
        self._halves, self._squares = np.zeros((2, *shape)), np.zeros(shape)
        self._first, self._clipped = np.zeros(shape), np.zeros(shape, np.bool_)
        self._trace: list[NDArray[np.float64]] = []
        self._trace_us: list[float] = []

    def sample(self, k: int, z: Tensor) -> None:
        adc = self._spec.adc
        half = self._halves[0 if k < self._spec.window_samples // 2 else 1]
        adc_sample(
            z.numpy(), adc.units_per_code, float(adc.max_code), self._first, k == 0, half, self._squares,
            self._clipped,
        )  # fmt: skip

    def note_trace(self, time_us: float, z: Tensor) -> None:
        limit = float(self._spec.adc.max_code)
        raw = np.rint(z.numpy().astype(np.float64) / self._spec.adc.units_per_code)
        self._trace.append(np.clip(np.nan_to_num(raw, nan=limit), -limit, limit))
        self._trace_us.append(time_us)

    def readout(self, wait_us: float, window_us: float) -> LoopReadout:
        samples = self._spec.window_samples
        first = samples // 2
        sizes = np.array([first, samples - first], np.float64)
        mean = self._halves.sum(axis=0) / samples
        variance = self._squares / samples - (mean - self._first) ** 2
        return LoopReadout(
            counts=mean,
            half_counts=self._halves / sizes[:, None, None],
            spread_counts=np.sqrt(np.maximum(variance, 0)),
            adc_clipped=self._clipped,
            wait_us=wait_us,
            window_us=window_us,
            trace_counts=np.stack(self._trace) if self._trace else None,
            trace_time_us=np.array(self._trace_us) if self._trace else None,
        )


def _tile(codes: SettleCodes, part: slice) -> SettleCodes:
    return SettleCodes(
        bias=codes.bias[part],
        gain=codes.gain if len(codes.gain) == 1 else codes.gain[part],
        leak=codes.leak if len(codes.leak) == 1 else codes.leak[part],
        gain_range=codes.gain_range,
        start=codes.start[part],
        step_id=codes.step_id,
        sample_id=codes.sample_id[part],
    )
