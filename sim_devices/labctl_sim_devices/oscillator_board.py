"""Twin of an oscillator board: codes in, the oscillator law with a board's faults, phase codes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

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
    turn_codes,
)
from labctl.physics import Stream
from labctl_sim_devices.oscillator_bench import OscillatorBench
from labctl_sim_devices.oscillator_integration import LANES, advance, rates_into

FloatArray = NDArray[np.float64]
Floats = NDArray[np.floating]
MAX_STEP_RATE = 0.35  # step times the fastest rate: phases within 1e-5 rad rms of eight times finer steps
MIN_STEPS_PER_UNIT = 10.0


@dataclass(frozen=True, eq=False)
class BoardLaw:
    """What the board does where it was asked for a program: S segments in the order played.

    direct, lagging [S, E]: P and Q of the integrator; in_phase, quadrature, second, detuning [S, n] in units.
    """

    direct: FloatArray
    lagging: FloatArray
    in_phase: FloatArray
    quadrature: FloatArray
    second: FloatArray
    detuning: FloatArray


class OscillatorBoardTwin(OscillatorBoard):
    """Integrates the phases of a whole queue, sixteen samples side by side."""

    def __init__(self, name: str, bench: OscillatorBench) -> None:
        super().__init__(name)
        self._bench = bench
        wiring = bench.topology
        self._row_start = np.searchsorted(wiring.target, np.arange(wiring.n + 1)).astype(np.int32)
        self._memory: BoardImage | None = None
        self.flip_bit = False  # a fault to inject: the next load writes one bit wrongly

    @property
    def spec(self) -> BoardSpec:
        """As the twin's data sheet says; cells that it lists as dead are masked."""
        p, wiring = self._bench.profile, self._bench.topology
        usable = self._bench.unit.listed < 0.5
        if p.masked_edges:
            target, source = np.array(p.masked_edges).T
            usable[wiring.index(target, source)] = False
        return BoardSpec(
            topology=wiring,
            usable=usable,
            coupling_bits=p.coupling_bits,
            scale_bits=p.scale_bits,
            max_scale_units=p.max_scale_units,
            injection=Converter(p.injection_bits, p.injection_units),
            second=Converter(p.second_bits, p.second_units),
            detuning=Converter(p.detuning_bits, p.detuning_units),
            start_bits=p.start_bits,
            amplitude_bits=p.amplitude_bits,
            depth=p.depth,
            tick_us=p.tick_us,
            max_ticks=p.max_ticks,
            f0_hz=p.f0_hz,
            eps=p.eps,
            reference=None if p.reference == "beside" else p.reference,
            read_bits=p.read_bits,
            max_reads=p.max_reads,
            max_turns=p.max_turns,
            lock_limit_units=p.lock_limit_units,
            setup_us=p.setup_us,
            read_us=p.read_us,
            max_queue=p.max_queue,
            gate_range_us=p.gate_range_us,
            link=LinkSpec(p.link_latency_us, p.link_mbyte_per_s),
        )

    def _do_open(self) -> Identity:
        self._require_bench("open")
        serial = f"SIM-OSC-{self._bench.serial}"
        return Identity("labctl", "simulated oscillator board", serial, "1", simulated=True)

    def _do_close(self) -> None:
        self._memory = None  # safe state: couplings and injections off

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._require_bench("snapshot")
        p = self._bench.profile
        return {
            "oscillator_count": self._bench.topology.n,
            "f0_mhz": p.f0_hz * 1e-6,
            "unit_us": self.spec.unit_us,
            "segment_count": 0 if self._memory is None else self._memory.segments,
            "temperature_c": self._do_temperature_c(),
        }

    def _do_temperature_c(self) -> float:
        self._require_bench("temperature_c")
        return self._bench.temperature_c()

    def _do_load(self, image: BoardImage) -> LoadReceipt:
        self._require_bench("load")
        spec = self.spec
        n_bytes = spec.image_bytes(image.segments)
        if self.flip_bit:
            image, self.flip_bit = replace(image, ticks=image.ticks ^ 1), False
        self._memory = image
        duration_us = spec.link.beside_us(n_bytes, 0.0)
        self._bench.advance(duration_us)
        return LoadReceipt(image.crc, read_back=True, n_bytes=n_bytes, duration_us=duration_us)

    def _do_loaded(self, operation: str) -> BoardImage | None:
        self._require_bench(operation)
        return self._memory

    def _do_count_frequency(self, gate_us: float, detuning: NDArray[np.int64]) -> FrequencyCount:
        self._require_bench("count_frequency")
        spec = self.spec
        units = self._bench.detuning() + detuning * spec.detuning.units_per_code
        periods = spec.f0_hz * (1 + spec.eps * units) * gate_us * 1e-6
        # the gate opens anywhere in a period: the count is the whole number below or above
        words = Stream(self._bench.seed, self.name, "gate").words(
            np.array([int(self._bench.now_us * 1e3) % 2**32]), spec.n + 1
        )[0] / 2.0**32  # fmt: skip
        counts = np.floor(periods + words[1 : spec.n + 1]).astype(np.int64)
        reference = int(spec.f0_hz * gate_us * 1e-6 + words[0])
        self._bench.advance(gate_us)
        return FrequencyCount(counts, reference, gate_us)

    def law(self, play: NDArray[np.int64] | None = None) -> BoardLaw:
        """The exact law of the loaded program on this board now, for tests; no device reveals it."""
        image, spec, unit = self._held("law"), self.spec, self._bench.unit
        rows = np.arange(image.segments) if play is None else play
        share = image.coupling[rows] / spec.max_coupling_code
        bow = unit.bow_even * (1 - share**2) + unit.bow_odd * share * (1 - share**2)
        scale = (image.scale[rows] * spec.scale_units_per_code)[:, None]
        coupling = scale * (share * (1 + unit.coupling_gain) + bow) + unit.coupling_offset
        coupling = coupling * (1 - np.minimum(unit.dead, 1.0))
        a = image.in_phase[rows] * spec.injection.units_per_code
        b = image.quadrature[rows] * spec.injection.units_per_code
        a, b = self._injected(a, b)
        w = image.detuning[rows] * spec.detuning.units_per_code + self._bench.detuning()
        load = np.abs(coupling).sum(axis=1) / spec.n
        return BoardLaw(
            direct=coupling * np.cos(unit.lag_rad),
            lagging=coupling * np.sin(unit.lag_rad),
            in_phase=a,
            quadrature=b,
            second=image.second[rows] * spec.second.units_per_code * (1 + unit.injection_gain),
            detuning=w - unit.supply * load[:, None],
        )

    def _injected(self, a: Floats, b: Floats) -> tuple[FloatArray, FloatArray]:
        """What arrives of an injection a cos theta - b sin theta: stronger or weaker, and turned."""
        unit = self._bench.unit
        gain = 1 + unit.injection_gain
        cosine, sine = np.cos(unit.injection_phase_rad), np.sin(unit.injection_phase_rad)
        return np.asarray(gain * (a * cosine + b * sine)), np.asarray(gain * (b * cosine - a * sine))

    def _do_run(self, codes: RunCodes, read_at_us: FloatArray) -> Phases:
        self._require_bench("run")
        image, spec, bench = self._held("run"), self.spec, self._bench
        bench.strain(self.name)
        play = np.arange(image.segments) if codes.play is None else codes.play
        law, ticks = self.law(play), image.ticks[play]
        batch = len(codes.sample_id)
        read = np.empty((batch, len(read_at_us), spec.n))
        locked, overflow = np.ones(batch, np.bool_), np.zeros(batch, np.bool_)
        draw = _Draws(bench.seed, self.name, codes.step_id, codes.sample_id)
        theta = self._start(codes, image, draw)
        jitter_us = bench.noise.segment_us * draw.normal("segments", len(play))
        anchors = None
        if codes.anchor_in_phase is not None and codes.anchor_quadrature is not None:
            step = spec.injection.units_per_code
            anchors = self._injected(codes.anchor_in_phase * step, codes.anchor_quadrature * step)
        pieces = _pieces(ticks * spec.tick_us, read_at_us)
        for first in range(0, batch, LANES):
            tile = slice(first, min(first + LANES, batch))
            run = _TileRun(self, law, theta[tile], None if anchors is None else
                           (anchors[0][tile], anchors[1][tile]))  # fmt: skip
            for segment, begin_us, end_us, reads in pieces:
                length_us = float(ticks[segment]) * spec.tick_us
                stretch = np.maximum(1 + jitter_us[tile, segment] / length_us, 0.0)
                run.advance(segment, (end_us - begin_us) / spec.unit_us, stretch, draw.of(tile))
                for t in reads:
                    read[tile, t] = run.phases
            moved = np.abs(run.phases - theta[tile]).max(axis=1)
            overflow[tile] = moved > 2 * np.pi * spec.max_turns
            locked[tile] = run.fastest(len(play) - 1) <= spec.lock_limit_units
        lost = draw.uniform("lock") < float(bench.unit.lock_loss)
        read[lost] += 2 * np.pi * draw.uniform("slip")[lost, None, None]
        phases = self._read(read, draw)
        evolution_us = float(ticks.sum()) * spec.tick_us
        temperature = bench.temperature_c()
        bench.advance(batch * spec.queue_us(evolution_us, len(read_at_us)))
        return Phases(phases, locked & ~lost, overflow, temperature, read_at_us, evolution_us)

    def _start(self, codes: RunCodes, image: BoardImage, draw: _Draws) -> FloatArray:
        spec = self.spec
        if codes.start_phase is None:
            amplitude = spec.amplitude_rad(image.start_amplitude)
            start = spec.start_rad(image.start_phase) + amplitude * draw.normal("start", spec.n)
        else:
            start = spec.start_rad(codes.start_phase)
        if self._bench.noise.start_rad:
            start = start + self._bench.noise.start_rad * draw.normal("seeding", spec.n)
        return np.asarray(start)

    def _read(self, theta: FloatArray, draw: _Draws) -> NDArray[np.int64]:
        """Codes [B, T, n] of phases: against the reference, through skewed paths and jittering edges."""
        spec, unit, noise = self.spec, self._bench.unit, self._bench.noise
        seen = theta if spec.reference is None else theta - theta[:, :, [spec.reference]]
        seen = seen + unit.read_skew_rad
        if unit.has("read_path"):
            sine, cosine = unit.read_bow_rad.T
            seen = seen + sine * np.sin(2 * theta) + cosine * np.cos(2 * theta)
        omega = 2 * np.pi * spec.f0_hz * 1e-6
        if noise.read_us or noise.reference_us:
            own = np.stack([draw.normal("read", spec.n, substep=t) for t in range(seen.shape[1])], axis=1)
            common = draw.normal("reference", seen.shape[1])[:, :, None]
            seen = seen + omega * (noise.read_us * own + noise.reference_us * common)
        return turn_codes(seen, spec.read_bits)

    def _require_bench(self, operation: str) -> None:
        if not self._bench.present:
            raise DeviceUnavailable("the board has disappeared", device=self.name, operation=operation)


@dataclass(frozen=True)
class _Draws:
    """Draws of one queue: by sample and step, never by batch."""

    seed: int
    device: str
    step_id: int
    sample_id: NDArray[np.int64]

    def of(self, tile: slice) -> _Draws:
        """The same for some of the samples."""
        return replace(self, sample_id=self.sample_id[tile])

    def normal(self, name: str, channels: int, substep: int = 0) -> FloatArray:
        """Standard normals [B, channels]."""
        drawn = Stream(self.seed, self.device, name).normal(
            self.sample_id, channels, step=self.step_id, substep=substep, dtype=torch.float64
        )
        return np.asarray(drawn.numpy())

    def uniform(self, name: str) -> FloatArray:
        """Uniform numbers [B] in [0, 1)."""
        words = Stream(self.seed, self.device, name).words(self.sample_id, 1, step=self.step_id)
        return np.asarray(words[:, 0] / 2.0**32)


class _TileRun:
    """Up to LANES samples on their way; lanes without a sample repeat the first and are never looked at."""

    def __init__(
        self,
        board: OscillatorBoardTwin,
        law: BoardLaw,
        theta: FloatArray,
        anchors: tuple[FloatArray, FloatArray] | None,
    ) -> None:
        self._law, self._anchors, self._samples = law, anchors, len(theta)
        self._row_start, wiring = board._row_start, board._bench.topology
        self._source, self._target, self._n = wiring.source, wiring.target, wiring.n
        self._diffusion = board._bench.noise.diffusion
        self._full_injection = board._bench.profile.injection_units
        self._theta = self._lanes(theta)
        self._drawn = 0

    def _lanes(self, values: FloatArray) -> FloatArray:
        """[samples, n] as [n, LANES]."""
        lanes = np.empty((values.shape[1], LANES))
        lanes[:, : len(values)] = values.T
        lanes[:, len(values) :] = values[0][:, None]
        return lanes

    def _injection(self, segment: int) -> tuple[FloatArray, FloatArray]:
        both = []
        for k, table in enumerate((self._law.in_phase, self._law.quadrature)):
            row = np.broadcast_to(table[segment][:, None], (self._n, LANES))
            both.append(row.copy() if self._anchors is None else row + self._lanes(self._anchors[k]))
        return both[0], both[1]

    @property
    def phases(self) -> FloatArray:
        """Unwrapped phases [samples, n] now."""
        return self._theta[:, : self._samples].T

    def advance(self, segment: int, duration: float, stretch: FloatArray, draw: _Draws) -> None:
        """Play part of a segment: `duration` units, times each sample's own `stretch` [samples].

        The number of steps does not depend on which samples share the tile.
        """
        if duration <= 0:
            return
        law, (a, b) = self._law, self._injection(segment)
        steps = max(1, math.ceil(duration * max(self._rate(segment) / MAX_STEP_RATE, MIN_STEPS_PER_UNIT)))
        step = np.full(LANES, duration / steps)
        step[: self._samples] *= stretch
        fixed = (
            self._row_start, self._source, law.direct[segment], law.lagging[segment], a, b,
            law.second[segment], law.detuning[segment],
        )  # fmt: skip
        if not self._diffusion:
            advance(self._theta, step, steps, *fixed)
            return
        sd = np.sqrt(2 * self._diffusion * step)
        for _ in range(steps):
            advance(self._theta, step, 1, *fixed)
            kick = draw.normal("phase noise", self._n, substep=self._drawn)
            self._theta[:, : self._samples] += kick.T * sd[: self._samples]
            self._drawn += 1

    def _rate(self, segment: int) -> float:
        """A bound of how fast any phase can turn (but for detuning, which is the same for all steps)."""
        law = self._law
        pull = np.bincount(self._target, np.hypot(law.direct[segment], law.lagging[segment]), self._n)
        if self._anchors is None:
            injected = np.hypot(law.in_phase[segment], law.quadrature[segment])
        else:  # program and anchors share one converter
            injected = np.full(self._n, np.sqrt(2.0) * self._full_injection)
        return float((pull + injected + 2 * np.abs(law.second[segment])).max())

    def fastest(self, segment: int) -> FloatArray:
        """Largest |dtheta/dt| of each sample [samples] in a segment, from where it is now."""
        law, (a, b) = self._law, self._injection(segment)
        s, c, rate = (np.empty_like(self._theta) for _ in range(3))
        rates_into(
            self._theta, self._row_start, self._source, law.direct[segment], law.lagging[segment], a, b,
            law.second[segment], law.detuning[segment], s, c, rate,
        )  # fmt: skip
        return np.asarray(np.abs(rate).max(axis=0)[: self._samples])


def _pieces(lengths_us: Floats, read_at_us: FloatArray) -> list[tuple[int, float, float, tuple[int, ...]]]:
    """(segment, begin, end, reads at its end) of stretches that no segment's end or read interrupts."""
    found: list[tuple[int, float, float, tuple[int, ...]]] = []
    begin, t = 0.0, 0
    ends = np.cumsum(lengths_us)
    for k, end in enumerate(ends):
        while t < len(read_at_us) and (read_at_us[t] < end or k == len(ends) - 1):
            at = min(float(read_at_us[t]), float(end))
            found.append((k, begin, at, (t,)))
            begin, t = at, t + 1
        if begin < end:
            found.append((k, begin, float(end), ()))
            begin = float(end)
    return found
