"""The waveform board behind labctl's interface."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike, NDArray

from foreign_board.unit import COUPLING_BITS, TOP_CODE, WaveformUnit, perfect_board
from foreign_board.waveform import STEPS_A_PERIOD, Wiring, played, stretches
from labctl.devices import (
    BoardImage,
    BoardSpec,
    Converter,
    DeviceUnavailable,
    FrequencyCount,
    Identity,
    LinkSpec,
    LoadReceipt,
    OscillatorBoard,
    Phases,
    RunCodes,
    Scalar,
    Topology,
    grid,
)

Real = NDArray[np.float64]
SUPPLY_C = 25.0
BLOCK = 256  # samples that are integrated together: what a core's cache holds
NOISE, READ, GATE = 1, 2, 3  # streams


class WaveformWorld:
    """Oscillators with their carrier: a unit, or a perfect one. In steps of `steps_a_period`, with phases of
    `dtype`.
    """

    def __init__(
        self,
        topology: Topology | None = None,
        *,
        seed: int = 0,
        f0_hz: float = 50e6,
        eps: float = 0.005,
        read_bits: int = 16,
        trim_units: float = 1.0,
        trim_bits: int = 8,
        unit: WaveformUnit | None = None,
        steps_a_period: int = STEPS_A_PERIOD,
        dtype: DTypeLike = np.float64,
    ) -> None:
        wiring = grid(8, 8, 2) if topology is None else topology
        self.seed = seed
        self.unit = perfect_board(wiring) if unit is None else unit
        self.steps_a_period, self.dtype = steps_a_period, dtype
        self.gates = 0
        self.now_us = 0.0
        self.present = True
        self.spec = BoardSpec(
            topology=wiring,
            usable=np.ones(wiring.n_edges, np.bool_),
            coupling_bits=COUPLING_BITS,
            scale_bits=16,
            max_scale_units=20.0,
            injection=Converter(8, 3.0),
            second=Converter(8, 1.0),
            detuning=Converter(trim_bits, trim_units),
            start_bits=16,
            amplitude_bits=8,
            depth=16,
            tick_us=1e-5,
            max_ticks=2**31 - 1,
            f0_hz=f0_hz,
            eps=eps,
            reference=None,
            read_bits=read_bits,
            max_reads=64,
            max_turns=64,
            lock_limit_units=1e3,
            setup_us=0.5,
            read_us=0.2,
            max_queue=1024,
            gate_range_us=(1.0, 1e6),
            link=LinkSpec(50.0, 100.0),
        )

    def unplug(self) -> None:
        """Take the board away, as a pulled plug would."""
        self.present = False


class WaveformBoard(OscillatorBoard):
    """The board in such a world."""

    def __init__(self, name: str, world: WaveformWorld) -> None:
        super().__init__(name)
        self._world, self._spec = world, world.spec
        self._memory: BoardImage | None = None

    @property
    def spec(self) -> BoardSpec:
        return self._spec

    def _do_open(self) -> Identity:
        self._require_power("open")
        return Identity("elsewhere", "waveform board", f"WAVE-{self._world.seed}", "1", simulated=True)

    def _do_close(self) -> None:
        self._memory = None

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._require_power("snapshot")
        return {"temperature_c": SUPPLY_C, "carrier_mhz": self._spec.f0_hz * 1e-6}

    def _do_temperature_c(self) -> float:
        self._require_power("temperature_c")
        return SUPPLY_C

    def _do_load(self, image: BoardImage) -> LoadReceipt:
        self._require_power("load")
        self._memory = image
        n_bytes = self._spec.image_bytes(image.segments)
        took_us = self._spec.link.latency_us + n_bytes / self._spec.link.mbyte_per_s
        self._world.now_us += took_us
        return LoadReceipt(image.crc, True, n_bytes, took_us)

    def _do_loaded(self, operation: str) -> BoardImage | None:
        self._require_power(operation)
        return self._memory

    def _do_count_frequency(self, gate_us: float, detuning: NDArray[np.int64]) -> FrequencyCount:
        self._require_power("count_frequency")
        world, spec = self._world, self._spec
        world.gates += 1
        periods = spec.f0_hz * (1 + spec.eps * self._detuned(detuning)) * gate_us * 1e-6
        world.now_us += gate_us
        reference = round(spec.f0_hz * gate_us * 1e-6)
        opened = self._opened()  # where in a period the gate opens
        return FrequencyCount(np.floor(periods + opened).astype(np.int64), reference, gate_us)

    def _do_run(self, codes: RunCodes, read_at_us: Real) -> Phases:
        self._require_power("run")
        spec, world, image = self._spec, self._world, self._held("run")
        play = np.arange(image.segments) if codes.play is None else codes.play
        radians_per_us = 2 * np.pi * spec.f0_hz * 1e-6
        reads = (read_at_us * radians_per_us).tolist()
        batch = len(codes.sample_id)
        start = self._seeded(codes, image)
        parts = []
        for first in range(0, batch, BLOCK):
            held = slice(first, first + BLOCK)
            wirings = [self._wiring(int(k), image, codes, radians_per_us, held) for k in play]
            periods = sum(part.periods for part in stretches([w.length for w in wirings], reads))
            parts.append(
                played(
                    np.broadcast_to(start, (batch, spec.n))[held].astype(world.dtype),
                    wirings,
                    spec.eps,
                    reads,
                    steps_a_period=world.steps_a_period,
                    diffusion=world.unit.diffusion,
                    normals=self._normals(codes, held, NOISE, periods) if world.unit.diffusion else None,
                )
            )
        phases = np.concatenate(parts, axis=1) + world.unit.skew_rad
        if world.unit.read_noise_rad:
            noise = self._normals(codes, slice(None), READ, len(reads))
            phases = phases + world.unit.read_noise_rad * noise.transpose(1, 0, 2)
        turn = 2**spec.read_bits
        read = np.rint(phases * (turn / (2 * np.pi))).astype(np.int64) % turn
        run_us = float(image.ticks[play].sum() * spec.tick_us)
        world.now_us += batch * (spec.setup_us + run_us + len(read_at_us) * spec.read_us)
        fine = np.ones(batch, np.bool_)
        return Phases(read.transpose(1, 0, 2), fine, ~fine, SUPPLY_C, read_at_us, run_us)

    def _opened(self) -> Real:
        key = [self._world.seed, GATE]
        return np.random.Generator(np.random.Philox(key=key, counter=self._world.gates)).random(self._spec.n)

    def _normals(self, codes: RunCodes, held: slice, stream: int, count: int) -> NDArray[np.float32]:
        """[B, count, n], the same for a sample whatever it is run with."""
        return np.stack(
            [
                np.random.Generator(
                    np.random.Philox(key=[self._world.seed, stream], counter=[0, 0, int(i), codes.step_id])
                ).standard_normal((count, self._spec.n), np.float32)
                for i in codes.sample_id[held]
            ]
        )  # fmt: skip

    def _seeded(self, codes: RunCodes, image: BoardImage) -> Real:
        spec = self._spec
        turn = 2**spec.start_bits
        if codes.start_phase is not None:
            return np.asarray(codes.start_phase * (2 * np.pi / turn))
        noise = np.stack(
            [
                np.random.Generator(np.random.Philox(key=[self._world.seed, int(i)], counter=codes.step_id))
                .standard_normal(spec.n)
                for i in codes.sample_id
            ]
        )  # fmt: skip
        width = image.start_amplitude * (np.pi / (2**spec.amplitude_bits - 1))
        return np.asarray(image.start_phase * (2 * np.pi / turn) + width * noise)

    def _detuned(self, codes: NDArray[np.int64]) -> Real:
        """Detunings [n] at trims [n], units."""
        unit = self._world.unit
        units = codes * (self._spec.detuning.range_units / self._spec.detuning.max_code)
        return np.asarray(unit.offsets + unit.trim_gain * units + unit.trim_curve * units**2)

    def _wiring(
        self, k: int, image: BoardImage, codes: RunCodes, radians_per_us: float, held: slice
    ) -> Wiring:
        spec, wires, unit = self._spec, self._spec.topology, self._world.unit
        gains = np.zeros((wires.n, wires.n))
        full = image.scale[k] * spec.max_scale_units / (2**spec.scale_bits - 1)
        code = image.coupling[k]
        share = code / spec.max_coupling_code + unit.codes[np.arange(wires.n_edges), code + TOP_CODE]
        gains[wires.target, wires.source] = full * unit.cell_gain * share + unit.feedthrough
        sag = unit.sag * float(np.abs(gains).sum()) / wires.n
        amp = spec.injection.range_units / spec.injection.max_code
        cosine, sine = image.in_phase[k][None] * amp, image.quadrature[k][None] * amp
        if codes.anchor_in_phase is not None and codes.anchor_quadrature is not None:
            cosine = cosine + codes.anchor_in_phase[held] * amp
            sine = sine + codes.anchor_quadrature[held] * amp
        # an injection that is late by d: a cos(t - d) + b sin(t - d)
        on, across = (unit.injection_gain * of(unit.injection_rad) for of in (np.cos, np.sin))
        return Wiring(
            gains=gains,
            cosine=on * cosine + across * sine,
            sine=on * sine - across * cosine,
            double=image.second[k][None] * (spec.second.range_units / spec.second.max_code),
            offset=(self._detuned(image.detuning[k]) - sag)[None],
            length=float(image.ticks[k] * spec.tick_us * radians_per_us),
            harmonic=unit.harmonic,
            delay=unit.delay_rad,
        )

    def _require_power(self, operation: str) -> None:
        if not self._world.present:
            raise DeviceUnavailable("no power", device=self.name, operation=operation)
