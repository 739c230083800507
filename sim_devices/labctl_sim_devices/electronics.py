"""Twin of the loop electronics: codes in, loop law with noise, counts out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

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
from labctl.physics import Stream
from labctl_sim_devices.bench import OpticalBench, by_path
from labctl_sim_devices.cables import CabledLight
from labctl_sim_devices.integration import LoopRun, Released, Window
from labctl_sim_devices.loop_light import REACH_UNITS, LoopLight, PlainLight, TrueLight
from labctl_sim_devices.sequencer import SequencerTwin
from labctl_sim_devices.shutter import Gathered, Triggers
from labctl_sim_devices.truth import tensor

FloatArray = NDArray[np.floating]
MAX_STEP_TAU = 0.22  # settle times within 0.5% (tests/physics), multiplicative noise resolved
MAX_WINDOW_STEP_TAU = 0.25  # most states rest there; an ADC's interval just above the limit is one step
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
        self._streams = (Stream(bench.seed, name, "rin"), Stream(bench.seed, name, "additive"))

    @property
    def spec(self) -> LoopSpec:
        """As the twin's data sheet says."""
        return self._spec

    def _do_open(self) -> Identity:
        self._require_bench("open")
        serial = f"SIM-LOOP-{self._bench.serial}"
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
        return self._bench.temperature_c()

    def _do_set_offset_null(self, codes: NDArray[np.int64]) -> None:
        self._require_bench("set_offset_null")
        self._null = codes

    def _null_units(self) -> FloatArray:
        return self._null.astype(np.float64) * self._spec.offset_dac.units_per_code

    def _do_probe(
        self, codes: NDArray[np.int64], at: Literal["phi", "emitter"], repeats: int, hold: Hold | None
    ) -> ProbeReadout:
        self._require_bench("probe")
        bench, p, noise = self._bench, self._bench.profile, self._bench.noise
        drive = codes.astype(np.float64) * self._spec.probe_dac.units_per_code
        if at == "phi":
            drive = (drive if bench.cables is None else bench.cables.phi(drive)) + p.pedestal_units
        if bench.cables is not None:
            drive = bench.cables.to_emitters(drive)
        bench.emitted_units = drive
        bench.strain(self.name, drive)
        window_us = self._spec.window_us * repeats
        spacing_us = self._spacing(0.0, window_us, hold)
        times_us = bench.now_us + np.arange(len(codes)) * spacing_us
        light = bench.light_of(drive)
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
            triggers = Triggers(times_us, "probe", row, self._probes)
            after = p.pedestal_units if at == "phi" else 0.0  # phi is 0 again, or all is dark
            rest = bench.light_of(np.full((1, p.n_channels), after))[0]
            bench.image(self.name, triggers, light, max(window_us, hold.hold_us), rest)
        self._probes += 1
        seconds = window_us * 1e-6
        noisy = light * (1 + noise.rin_sd(seconds) * by_path(draw[0], light))
        signal, total = self._detected(noisy, light, times_us, window_us)
        if bench.cables is not None:
            signal, total = bench.cables.from_detectors(signal), bench.cables.total(total)
        density = noise.detector_density() + noise.shot_density() * total
        louder = 1.0 if bench.broken.noise is None else bench.broken.noise
        current = signal + np.sqrt(density / (2 * seconds)) * draw[1] * louder
        lsb = self._spec.offset_dac.units_per_code / self._spec.window_samples  # the window dithers
        counts = np.rint((current - self._null_units()) / lsb) / self._spec.window_samples
        limit = self._spec.offset_dac.max_code
        clipped = np.abs(counts) > limit
        bench.spend(spacing_us * len(codes), drive.mean(axis=0))
        return ProbeReadout(np.clip(counts, -limit, limit), clipped, window_us)

    def _detected(
        self,
        noisy: FloatArray,
        light: FloatArray,
        times_us: FloatArray,
        window_us: float,
    ) -> tuple[FloatArray, FloatArray]:
        """Photocurrent (difference of the paths) and total light [B, n] of open-loop patterns [B, f]."""
        bench = self._bench
        if bench.plain_light:
            paths = bench.transmittances()
            return noisy @ (paths[0] - paths[1]).T, light @ (paths[0] + paths[1]).T
        law = bench.law()
        folded, constants = law.path.folded(law.transmittance)
        matrices = folded.numpy() * bench.emitters()
        paths_in = light.shape[1] // self._spec.n_channels
        if paths_in == 1:
            slopes = law.path.emission[:, :, 2].numpy()
            matrices = (matrices * slopes[None, :, None, :]).sum(axis=1)[:, None]
        seen = matrices.transpose(0, 2, 1, 3).reshape(2, self._spec.n_channels, -1)  # [to, out, features]
        swing = bench.clock.modulation(times_us, window_us)[:, None]
        signal = np.einsum("bf,tof->bto", noisy * swing, seen) + constants.numpy()
        detected = law.path.compressed(torch.from_numpy(signal)).numpy()
        total = np.einsum("bf,tof->bo", light, seen)
        return detected[:, 0] - detected[:, 1], np.maximum(total, 0.0)

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
        loop = _Loop(bench, self._spec, self._null_units())
        bench.strain(self.name, loop.highest_drive)
        settle_us = wait_us + self._spec.window_us
        batch, duration_us = len(codes.bias), len(codes.bias) * spacing
        gated_us = bench.clock.gated(bench.now_us, spacing, settle_us, batch)
        if gated_us is not None:
            duration_us = float(gated_us[-1]) + spacing - bench.now_us
        parts, mean_light = [], np.zeros(self._spec.n_channels)
        for first in range(0, len(codes.bias), TILE):
            tile = _tile(codes, slice(first, first + TILE))
            times = bench.now_us + wait_us + spacing * (first + np.arange(len(tile.bias)))
            if gated_us is not None:
                times = gated_us[first : first + TILE] + wait_us
            triggers = None
            if hold is not None and bench.shutter is not None:
                triggers = Triggers(times, "settle", tile.sample_id, tile.step_id)
            light = loop.light(times - wait_us, settle_us)
            released = loop.released(tile, times - wait_us, light)
            run = LoopRun(released, light, bench.noise, self._streams, bench.dtype, bench.broken.noise)
            parts.append(self._settle_tile(run, light, len(tile.bias), wait_us, trace, hold, triggers))
            if bench.clock.heats:
                mean_light += loop.by_emitter(light).sum(axis=0) / batch
        bench.spend(duration_us, mean_light)
        return joined_readouts([part.readout(wait_us, self._spec.window_us) for part in parts])

    def _do_run_chain(self, codes: ChainCodes) -> ChainReadout:
        self._require_bench("run_chain")
        sequencer = SequencerTwin(self._spec, codes)
        for k in range(len(codes.step_ids)):
            settle = sequencer.settle_codes(k)
            sequencer.settled(self._do_settle(settle, self._spec.wait_us, trace=False, hold=None))
        return sequencer.readout()

    def _settle_tile(
        self,
        run: LoopRun,
        light: LoopLight,
        batch: int,
        wait_us: float,
        trace: bool,
        hold: Hold | None,
        triggers: Triggers | None,
    ) -> Window:
        spec, shutter = self._spec, self._bench.shutter
        late_us = min(self._bench.broken.early_us, wait_us)  # read so early, it is released so late
        wait_us -= late_us
        if triggers is not None and shutter is not None:
            begin, end = shutter.open_us(triggers)
            run.gathered = Gathered(wait_us + begin, wait_us + end, light.light.shape[1])
        interval_us = 1.0 / spec.sample_rate_mhz
        shortest_us = spec.tau_us * float(self._bench.unit.tau_ratio.min())
        inner = math.ceil(interval_us / shortest_us / MAX_WINDOW_STEP_TAU - 1e-9)
        step_us = interval_us / inner
        window = Window(spec, batch, self._bench.broken.adc)
        if trace:
            window.note_trace(0.0, run.z)
            if late_us:
                window.note_trace(late_us, run.z)
        if wait_us > 0:
            waits = max(1, math.ceil(wait_us / min(step_us, MAX_STEP_TAU * shortest_us) - 1e-9))
            run.use_step(wait_us / waits)
            every = max(1, round(interval_us * waits / wait_us))
            for k in range(waits):
                run.advance()
                if trace and (k + 1) % every == 0:
                    window.note_trace(late_us + (k + 1) * wait_us / waits, run.z)
        run.use_step(step_us)
        for k in range(spec.window_samples):
            for _ in range(inner):
                run.advance()
            window.sample(k, run.z)
            if trace:
                window.note_trace(late_us + wait_us + (k + 1) * interval_us, run.z)
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


class _Loop:
    """The bench as one operation finds it: what tiles of samples are released into."""

    def __init__(self, bench: OpticalBench, spec: LoopSpec, null_units: FloatArray) -> None:
        self._bench, self._spec, self._null = bench, spec, null_units
        self._plain_light, self._plain_loop = bench.plain_light, bench.plain_loop
        self._paths = bench.transmittances() if self._plain_light else None
        self._law = None if self._plain_light and self._plain_loop else bench.law()
        self._emitters = np.ones(spec.n_channels) if self._plain_light else bench.emitters()

    @property
    def highest_drive(self) -> FloatArray:
        """The largest drive [1, n] that the nonlinearity can ask of the emitters."""
        pedestal, n = self._bench.profile.pedestal_units, self._spec.n_channels
        if self._plain_light or self._law is None:
            return np.full((1, n), pedestal + 1.0)
        reach = torch.tensor([[-REACH_UNITS], [REACH_UNITS]], dtype=torch.float64).expand(-1, n).contiguous()
        drive = pedestal + self._bench.phi_at_emitters(self._law.phi(reach))
        return np.asarray(drive.numpy().max(axis=0, keepdims=True))

    def light(self, times_us: FloatArray, duration_us: float) -> LoopLight:
        """The light of samples released at these times."""
        light = self._uncabled(times_us, duration_us)
        return light if self._bench.cables is None else CabledLight(light, self._bench.cables)

    def _uncabled(self, times_us: FloatArray, duration_us: float) -> LoopLight:
        bench = self._bench
        if self._paths is not None:
            return PlainLight(self._paths, bench.profile.pedestal_units, len(times_us), bench.dtype)
        law = bench.law() if self._law is None else self._law
        swing = bench.clock.flicker(times_us + duration_us / 2)
        dips = None
        if bench.unit.mirror_dip:
            clock = bench.clock

            def dips(after_us: float) -> NDArray[np.float64]:
                return clock.dips(times_us + after_us)

        return TrueLight(law, bench.emission(law), self._emitters, swing, bench.dtype, dips)

    def by_emitter(self, light: LoopLight) -> FloatArray:
        """Each emitter's light [B, n] as it is now, mean of its paths."""
        n = self._spec.n_channels
        now = light.light.numpy().astype(np.float64)
        return np.asarray(now.reshape(len(now), -1, n).mean(axis=1))

    def released(self, codes: SettleCodes, times_us: FloatArray, light: LoopLight) -> Released:
        """Gains, leaks, biases and start in network units, the loop's own errors in them."""
        spec, dac = self._spec, self._spec.dac.units_per_code
        gain = spec.gain_value(codes.gain, codes.gain_range)
        leak = codes.leak.astype(np.float64) / spec.max_leak_code
        bias = codes.bias.astype(np.float64) * dac
        leftover = light.offset_units - self._null
        tau_us: float | FloatArray = spec.tau_us
        trip_us = spec.trip_us
        if self._plain_loop or self._law is None:
            bias = bias + gain * leftover
        else:
            unit, errors = self._bench.unit, self._law.loop
            asked = tensor(gain)
            picked_up = self._bench.clock.mains(times_us)
            summed = errors.bias(tensor(bias + picked_up), asked).numpy()
            gain, leak = errors.gain(asked).numpy(), errors.leak(tensor(leak)).numpy()
            bias = summed + gain * leftover
            tau_us, trip_us = spec.tau_us * unit.tau_ratio, trip_us + float(unit.tia_delay_us)
        return Released(
            gain=gain,
            leak=leak,
            bias=bias,
            start=codes.start.astype(np.float64) * dac,
            tau_us=tau_us,
            trip_us=trip_us,
            sample_id=codes.sample_id,
            step_id=codes.step_id,
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
