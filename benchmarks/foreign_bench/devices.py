"""The foreign bench behind labctl's interfaces: a panel and loop electronics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from foreign_bench.bench import PANEL_SETTLE_US, ForeignBench
from foreign_bench.draws import Draws
from foreign_bench.electronics import ELEMENTARY_CHARGE, Knobs, Loop
from foreign_bench.unit import LEVELS, PANEL_PX, TAU_US, N
from labctl.devices import (
    Converter,
    GainScale,
    Hold,
    Identity,
    LinkSpec,
    LoopElectronics,
    LoopReadout,
    LoopSpec,
    ModulatorSpec,
    ProbeReadout,
    Scalar,
    SettleCodes,
    ShowReceipt,
    WeightModulator,
    frame_checksum,
)

Codes = NDArray[np.int64]
FloatArray = NDArray[np.floating]

PANEL = ModulatorSpec(
    shape_px=PANEL_PX, n_levels=LEVELS, settle_time_us=PANEL_SETTLE_US, refresh_hz=60.0, kind="lcos-intensity"
)
LOOP = LoopSpec(
    n_channels=N,
    dac=Converter(14, 3.8),
    adc=Converter(14, 3.8),
    probe_dac=Converter(14, 1.0),
    leak_bits=8,
    state_gain=GainScale(8, 5e-4, 1.0),
    hidden_gain=GainScale(8, 0.02, 20.0),
    offset_dac=Converter(20, 128.0),
    volts_per_unit=0.34,
    phi="tanh",
    linear_rows=(),
    sample_rate_mhz=6.25,
    window_samples=40,
    wait_us=8.5,
    tau_us=TAU_US,
    trip_us=0.02,
    max_queue=4096,
    link=LinkSpec(50.0, 1000.0),
    max_hold_us=1e5,
)


class ForeignPanel(WeightModulator):
    """The bench's liquid-crystal panel."""

    def __init__(self, name: str, bench: ForeignBench) -> None:
        super().__init__(name)
        self._bench = bench
        self._frames = 0
        self._levels = np.zeros(PANEL_PX, np.uint16)

    @property
    def spec(self) -> ModulatorSpec:
        return PANEL

    def _require_open(self, operation: str) -> None:
        super()._require_open(operation)
        self._bench.require_plugged(self.name, operation)

    def _do_open(self) -> Identity:
        self._bench.require_plugged(self.name, "open")
        return Identity("foreign bench", "field-level panel", f"FP-{self._bench.serial}", "1", simulated=True)

    def _do_close(self) -> None:
        self._levels = np.zeros(PANEL_PX, np.uint16)
        self._bench.frame_changed(self._levels)

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        return {"frame_id": self._frames, "frame_crc32": frame_checksum(self._levels)}

    def _do_show(self, levels: NDArray[np.uint16], wait: bool) -> ShowReceipt:
        self._bench.frame_changed(levels)
        if wait:
            self._bench.advance(PANEL_SETTLE_US)
        self._levels, self._frames = levels, self._frames + 1
        return ShowReceipt(self._frames, frame_checksum(levels), True, wait, PANEL_SETTLE_US)

    def _do_shown(self) -> NDArray[np.uint16]:
        return self._levels.copy()


class ForeignElectronics(LoopElectronics):
    """The bench's loop electronics, which wait `wait_us` before they read; no sequencer."""

    def __init__(self, name: str, bench: ForeignBench, *, wait_us: float = LOOP.wait_us) -> None:
        super().__init__(name)
        self._bench, self._spec = bench, replace(LOOP, wait_us=wait_us)
        self._null: Codes = np.zeros(N, np.int64)

    @property
    def spec(self) -> LoopSpec:
        return self._spec

    def _require_open(self, operation: str) -> None:
        super()._require_open(operation)
        self._bench.require_plugged(self.name, operation)

    def _do_open(self) -> Identity:
        self._bench.require_plugged(self.name, "open")
        return Identity("foreign bench", "field-level loop", f"FL-{self._bench.serial}", "1", simulated=True)

    def _do_close(self) -> None:
        self._null = np.zeros(N, np.int64)

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        null_units = float(np.sqrt(np.mean((self._null * LOOP.offset_dac.units_per_code) ** 2)))
        return {"offset_null_rms_units": null_units, "temperature_c": self._bench.temperature_c}

    def _do_temperature_c(self) -> float:
        return self._bench.temperature_c

    def _do_set_offset_null(self, codes: Codes) -> None:
        self._null = codes

    def _do_probe(
        self, codes: Codes, at: Literal["phi", "emitter"], repeats: int, hold: Hold | None
    ) -> ProbeReadout:
        bench, unit = self._bench, self._bench.unit
        window_us = LOOP.window_us * repeats
        each_us = window_us if hold is None else max(window_us, hold.hold_us, hold.period_us)
        time_us = bench.now_us + each_us * np.arange(len(codes))
        drive = codes / LOOP.probe_dac.max_code
        light = bench.light(torch.float64)
        current = torch.from_numpy(drive)
        if at == "phi":
            current = light.phi(current) + unit.pedestal_units
        current = current.clamp_min(0.0)
        emitted = light.emitted(current)
        flicker = torch.from_numpy(bench.flicker(time_us, window_us)[:, None])
        plus, minus = light.photocurrents(emitted, flicker)
        net, whole = (plus - minus).numpy(), (plus + minus).numpy()
        amperes = unit.photocurrent_ua * 1e-6
        # one-sided densities over the band 1 / (2 T) that a mean over T leaves
        band_hz = 1e6 / (2 * window_us)
        own = 2 * ELEMENTARY_CHARGE / amperes * whole + (unit.detector_pa_per_rthz * 1e-12 / amperes) ** 2
        common = 10 ** (unit.rin_dbc_per_hz / 10)
        drawn = bench.probe_draws(len(codes)).normals(0, N + 2).astype(np.float64)
        louder = 1.0 if bench.broken.noise is None else bench.broken.noise
        noise = drawn[:, :N] * np.sqrt(own) * louder + drawn[:, N : N + 1] * math.sqrt(common) * net
        seen = net + bench.noise_scale * math.sqrt(band_hz) * noise
        counts = seen / LOOP.offset_dac.units_per_code - self._null
        top = LOOP.offset_dac.max_code
        bench.emitted_units = (emitted * torch.from_numpy(unit.efficiency)).numpy()
        bench.advance(each_us * len(codes))
        return ProbeReadout(np.clip(counts, -top, top), np.abs(counts) > top, window_us)

    def _do_settle(self, codes: SettleCodes, wait_us: float, trace: bool, hold: Hold | None) -> LoopReadout:
        bench, size = self._bench, len(codes.bias)
        held_us = LOOP.window_us if hold is None else max(LOOP.window_us, hold.hold_us)
        each_us = max(wait_us + held_us, 0.0 if hold is None else hold.period_us)
        released_us = bench.now_us + each_us * np.arange(size)
        period_us = 1 / LOOP.sample_rate_mhz
        window_us = wait_us + (np.arange(LOOP.window_samples) + 1) * period_us
        early_us = np.arange(0.0, wait_us + 1e-9, period_us) if trace else np.empty(0)
        knobs = Knobs(
            bias=codes.bias * LOOP.dac.units_per_code,
            start=codes.start * LOOP.dac.units_per_code,
            gain=LOOP.gain_value(codes.gain, codes.gain_range),
            leak=codes.leak / LOOP.max_leak_code,
            null=self._null * LOOP.offset_dac.units_per_code,
            hum=bench.hum(released_us + wait_us),
            flicker=bench.flicker(released_us + wait_us),
        )
        loop = Loop(bench.unit, bench.light(torch.float32), bench.noise_scale, bench.broken.noise)
        draws = Draws.of(bench.seed, 1, codes.step_id, codes.sample_id)
        # read so early, it is as if it were released so late
        times_us = np.maximum(np.concatenate([early_us, window_us]) - bench.broken.early_us, 0.0)
        states = loop.run(knobs, times_us, draws)
        top = LOOP.adc.max_code
        counts = bench.broken.read(states, LOOP.adc.units_per_code, top)
        beyond = np.abs(counts) > top
        np.clip(counts, -top, top, out=counts)
        window = counts[len(early_us) :].astype(np.float64)
        middle = LOOP.window_samples // 2
        mean = window.mean(axis=0)
        away = window - mean
        bench.advance(each_us * size)
        return LoopReadout(
            counts=mean,
            half_counts=np.stack([window[:middle].mean(axis=0), window[middle:].mean(axis=0)]),
            spread_counts=np.sqrt(np.einsum("sbn,sbn->bn", away, away) / len(window)),
            adc_clipped=np.asarray(beyond[len(early_us) :].any(axis=0)),
            wait_us=wait_us,
            window_us=LOOP.window_us,
            trace_counts=counts.astype(np.float64) if trace else None,
            trace_time_us=np.concatenate([early_us, window_us]) if trace else None,
        )
