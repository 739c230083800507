"""Light and electronics close the loop: a fixed-point engine out of a modulator, electronics and a record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import (
    CalibrationRecord,
    Coercion,
    LoopElectronics,
    LoopReadout,
    Outcome,
    ProgramError,
    SettleCodes,
    UnsupportedFeature,
    WeightModulator,
    joined_readouts,
)
from labctl.engines.display import Display, LightOf, ReadNoise, Shown
from labctl.engines.host_model import residual
from labctl.engines.ledgers import frames_ledger, step_ledger
from labctl.engines.queues import queue_of, queues_of
from labctl.engines.readout import CameraRead, CameraReadout
from labctl.engines.result import AppliedKnobs, Batch, FixedPointResult, Ledger
from labctl.engines.sequencer import require_sequencer, run_on_sequencer
from labctl.physics import FittedMap, Stream, cycling, row_peaks, settle_times
from labctl.programs import (
    ChainUpdate,
    CodedTables,
    EncodedFrame,
    LoopProgram,
    LoopSegment,
    PlacedWeights,
    RowTrims,
    encode_tables,
    to_codes,
)

FloatArray = NDArray[np.float64]
SETTLE_BAND = 0.01  # of full scale (conventions, section 4)
REFERENCE_TAU = 80.0  # the state that settle times are measured against
NOISE_SIGMAS = 5.0  # a window's halves may differ by so many of their own standard deviations
NORMAL_95 = 1.96  # 95% of a normal's draws lie within so many standard deviations
AUDIT_STEP = 2**31  # step ids from here on belong to audits: their draws disturb no sample's
MAX_TRACE_REPEATS = 16
NEAR_START, FAR_START = 0.25, 2.0  # distance of a second start in u from the preset; of a far corner, a row
ROOTS_APART = 0.25  # of the settle band: where roots are looked for, settling has 80 tau
NOISE_AMPLIFICATION = 4.0  # 1 / (1 - kappa) at kappa = 0.75


@dataclass(frozen=True, eq=False)
class _Settled:
    """One settle of a batch as it came back, and what it was given."""

    segment: LoopSegment
    tables: CodedTables
    codes: SettleCodes
    bias_clipped: NDArray[np.bool_]
    labels: NDArray[np.int64] | None
    readout: LoopReadout
    notes: tuple[Coercion, ...]
    camera: CameraRead | None = None


class OpticalLoopEngine:
    """Shows W once, then settles queue after queue. The same class drives twins and hardware.

    `panel_record` holds the panel's response and registration, by design or measured (then with the
    photocurrent of a full-scale weight, which the gains make up for); `after_show(electronics)` measures what
    depends on the displayed weights (offset null, effective weights) and returns that record. States are
    read by the electronics' ADC, or through `camera` where one is set before `load`; the ADC's window then
    still tells whether the loop was at rest.
    """

    def __init__(
        self,
        modulator: WeightModulator,
        electronics: LoopElectronics,
        panel_record: CalibrationRecord,
        after_show: Callable[[LoopElectronics], CalibrationRecord],
        *,
        name: str = "optical-loop",
    ) -> None:
        if modulator.spec.kind == "dmd":
            raise UnsupportedFeature(
                "pulse-width planes outlast the loop's settling: it would find each plane's fixed point",
                device=modulator.name, operation="build OpticalLoopEngine",
            )  # fmt: skip
        self._display = Display(modulator, electronics, panel_record, after_show)
        self._name = name
        self._program: LoopProgram | None = None
        self._tables: list[tuple[LoopSegment, CodedTables]] = []
        self._matrices: list[Shown] = []
        self._shown = 0
        self._upload_us = 0.0
        self._buffers = np.empty((2, 0, electronics.spec.n_channels), np.int64)
        self.camera: CameraReadout | None = None  # None: states from the electronics' ADC

    @property
    def name(self) -> str:
        """For messages and the log."""
        return self._name

    @property
    def n_channels(self) -> int:
        """Variables of the loop."""
        return self.electronics.spec.n_channels

    @property
    def electronics(self) -> LoopElectronics:
        """The loop electronics, in the program's order of rows."""
        return self._display.electronics

    @property
    def trims(self) -> RowTrims | None:
        """What brings each of the program's rows to the data sheet; None: as the data sheet has them."""
        return self._display.trims

    def load(self, program: LoopProgram) -> None:
        """Show W, check what the panel says it shows, measure offsets and weights, measure read noise.

        Of several matrices each in turn; the first is on display in the end. Raises ProgramError when the
        program does not fit this machine, UnsupportedFeature for several matrices read by camera.
        """
        if program.placement.n_channels != self.n_channels:
            raise ProgramError(
                f"{self._name}: the program is for {program.placement.n_channels} channels; "
                f"allowed: {self.n_channels}"
            )
        if self.camera is not None and len(program.matrices) > 1:
            raise UnsupportedFeature(
                f"spots are calibrated for one frame, the program shows {len(program.matrices)}; "
                "allowed: states read by the ADC",
                device=self.electronics.name, operation="load a program of several matrices",
            )  # fmt: skip
        self._tables = [(segment, self._encoded(program, segment)) for segment in program.segments]
        self._program = program
        self._matrices = []
        for matrix in program.matrices:
            self._shown = len(self._matrices)
            self._matrices.append(self._display.show(matrix))
            self._upload_us = self._matrices[-1].upload_us
            if self.camera is not None:
                self.camera.load(self.electronics)
                for _, tables in self._tables:
                    self.camera.require_leak(tables.leak_codes)
            for segment in program.segments:  # the first of each kind on this matrix
                if segment.matrix == self._shown and segment.kind not in self.read_noise:
                    self.read_noise[segment.kind] = self._measure_read_noise(program, segment)
        self._show(program.segments[0].matrix)

    @property
    def null_codes(self) -> FloatArray:
        """The offset null in force [n], in the channels' own order."""
        self._loaded()
        return self._display.null_of(self._matrices[self._shown])

    @property
    def channel_trims(self) -> RowTrims | None:
        """Errors of the channels, in their own order; None where the bench was not brought up."""
        return self._display.channel_trims

    def reload(self, trims: RowTrims | None = None) -> None:
        """Show and measure the loaded program anew, by new errors of the channels where `trims` are given:
        a bench that drifted.
        """
        if trims is not None:
            self._display.use_trims(trims)
        self.load(self._loaded())

    def use_bench(self, trims: RowTrims, light_of: LightOf) -> None:
        """Work by a bring-up from the next load on: `Display.use_bench`."""
        self._display.use_bench(trims, light_of)

    def use_order(self, order: NDArray[np.int64]) -> None:
        """Put a program's row i on channel order[i], from the next load on."""
        self._display.use_order(order)

    def show(self, weights: PlacedWeights) -> CalibrationRecord:
        """Put one matrix on display and null its offsets, for measurements; the next load shows its own."""
        self._matrices, self._program = [], None
        return self._display.put(weights)[2]

    def light(self, z: FloatArray, rows: slice, columns: slice) -> FloatArray:
        """y [B, r] of rows from states [B, n], network units: measured W over tanh of `columns`; on a bench
        that was brought up its own map, over the curves of all channels.
        """
        program = self._loaded()
        measured = self._matrices[self._shown]
        if measured.light is None:
            return np.asarray(np.tanh(z[:, columns]) @ measured.weights[rows, columns].T)
        seen = measured.light(torch.from_numpy(np.asarray(z, dtype=np.float64))).numpy()[:, rows]
        return np.asarray(seen * program.matrices[self._shown].scale_out[rows])

    def _show(self, matrix: int) -> None:
        """Put another of the program's matrices on display, with the offset null that belongs to it."""
        if matrix == self._shown:
            return
        self._upload_us = self._display.show_again(self._matrices[matrix])
        self._shown = matrix

    @property
    def frame(self) -> EncodedFrame | None:
        """The frame on display; None before a program is loaded."""
        return self._matrices[self._shown].frame if self._matrices else None

    @property
    def frame_checksum(self) -> str:
        """Checksums of the program's frames as the panel gave them, one a matrix."""
        return " ".join(matrix.checksum for matrix in self._matrices)

    @property
    def read_noise(self) -> dict[str, ReadNoise]:
        """Noise of the watched rows, by kind of segment, measured at load on the matrix on display."""
        return self._matrices[self._shown].read_noise if self._matrices else {}

    def measured_weights(self) -> FloatArray:
        """W [n, n] in network units: effective fractions as probed, times the program's row scales.

        Of several matrices that on display: the last settle's.
        """
        self._loaded()
        return self._matrices[self._shown].weights

    def measured_map(self) -> FittedMap:
        """What the frame on display makes of states, in full-scale weights, as its load measured it.

        Raises ProgramError on a bench that was not brought up: nothing of that was measured.
        """
        self._loaded()
        light = self._matrices[self._shown].light
        if light is None:
            raise ProgramError(f"{self._name}: maps are measured on a bench that was brought up")
        return light

    def solve(
        self, segment: LoopSegment, batch: Batch, *, audit: int = 0, wait_us: float | None = None
    ) -> FixedPointResult:
        """Settle a batch in queues of what the sequencer holds.

        `wait_us` overrides the profile's wait (read early, get what is there).
        """
        program = self._loaded()
        self._show(segment.matrix)
        started = time.perf_counter()
        spec = self.electronics.spec
        tables = self._coded(segment)
        codes, bias_clipped, notes = self._codes(program, segment, tables, batch)
        readout, read, queues = self._settled(codes, wait_us)
        settled = _Settled(segment, tables, codes, bias_clipped, batch.labels, readout, notes, read)
        ledger = step_ledger(spec, codes, readout, queues, self._frame_us())
        if self.camera is not None:
            ledger += frames_ledger(self.camera.link, self.camera.frame_bytes, readout, queues)
        return self._result(settled, audit, started, ledger)

    def solve_chain(
        self,
        segments: Sequence[LoopSegment],
        batch: Batch,
        updates: Sequence[ChainUpdate],
        *,
        noise: FloatArray | None = None,
        audit: int = 0,
    ) -> list[tuple[FloatArray, FixedPointResult]]:
        """Settle segment after segment on the electronics' own sequencer: (injection [B, d], result) of each.

        updates say how each settle makes the next (one fewer than segments); noise [K - 1, B, d] is added
        between. Host time stands in the first result. Raises UnsupportedFeature without a sequencer.
        """
        program = self._loaded()
        self._show(segments[0].matrix)
        started = time.perf_counter()
        require_sequencer(
            self.electronics, segments, camera=self.camera is not None, trimmed=self.trims is not None
        )
        tables = [self._coded(segment) for segment in segments]
        ran = run_on_sequencer(
            self.electronics, segments, tables, batch, updates,
            state=program.placement.state, noise=noise, frame_us=self._frame_us(),
        )  # fmt: skip
        out = []
        for segment, coded, one in zip(segments, tables, ran, strict=True):
            settled = _Settled(
                segment, coded, one.codes, one.bias_clipped, batch.labels, one.readout, one.notes
            )
            out.append((one.inject, self._result(settled, audit, started, one.ledger)))
            started = time.perf_counter()
        return out

    def _frame_us(self) -> float:
        """Time of the frame that was shown since the last settle; it is counted once."""
        frame_us, self._upload_us = self._upload_us, 0.0
        return frame_us

    def _result(self, settled: _Settled, audit: int, started: float, ledger: Ledger) -> FixedPointResult:
        """What one settle says of itself: state, outcome, norms, the audit share's settle times."""
        program = self._loaded()
        segment, readout, codes = settled.segment, settled.readout, settled.codes
        rows = program.watched(segment)
        unit = self.electronics.spec.adc.units_per_code
        z = readout.counts * unit if settled.camera is None else settled.camera.z
        halves = readout.half_counts[1, :, rows] - readout.half_counts[0, :, rows]
        step_norm = row_peaks(halves * unit)
        outcome = self._outcomes(
            segment, step_norm, readout.spread_counts[:, rows] * unit, settled.bias_clipped,
            readout.adc_clipped[:, rows],
        )  # fmt: skip
        if settled.camera is not None:
            outcome[settled.camera.saturated] = Outcome.SATURATED
        settle_us, transient = self._audit(segment, codes, min(audit, len(z)), rows)
        tables = settled.tables
        return FixedPointResult(
            z=z,
            outcome=outcome,
            step_norm=step_norm,
            residual_norm=self._residual(tables, codes, settled.labels, z, rows),
            applied=AppliedKnobs(
                tables.gain, tables.leak, tables.gain_codes, tables.leak_codes,
                codes.bias[:, program.placement.state].copy(),
            ),
            ledger=replace(ledger, host_s=time.perf_counter() - started),
            audit=np.arange(len(settle_us)),
            settle_time_us=settle_us,
            transient=transient,
            camera=settled.camera,
            coercions=(*self._matrices[self._shown].frame.coercions, *tables.coercions, *settled.notes),
        )  # fmt: skip

    def _settled(
        self, codes: SettleCodes, wait_us: float | None
    ) -> tuple[LoopReadout, CameraRead | None, int]:
        """Settle in queues of what the sequencer (and the camera) holds; how many queues that took."""
        spec, camera = self.electronics.spec, self.camera
        if camera is None:
            parts = queues_of(len(codes.bias), spec.max_queue)
            run = [self.electronics.settle(queue_of(codes, part), wait_us=wait_us) for part in parts]
            return joined_readouts(run), None, len(parts)
        parts = queues_of(len(codes.bias), min(spec.max_queue, camera.max_queue))
        filmed = [camera.settle(self.electronics, queue_of(codes, part), wait_us) for part in parts]
        readout = joined_readouts([beside for beside, _ in filmed])
        period_us = camera.period_us(readout.wait_us, readout.window_us)
        timed = replace(readout, window_us=period_us - readout.wait_us)  # exposure, and the sensor's read-out
        return timed, camera.states([spots for _, spots in filmed], codes, spec), len(parts)

    def settling(self, segment: LoopSegment, batch: Batch) -> tuple[FloatArray, FloatArray]:
        """Settle times (us, nan = unsettled) and transients (units, in the window's mean) of a batch [B]."""
        program = self._loaded()
        self._show(segment.matrix)
        codes, _, _ = self._codes(program, segment, self._coded(segment), batch)
        return self._audit(segment, codes, len(batch.inject), program.watched(segment))

    def second_start(self, segment: LoopSegment, batch: Batch, first: FloatArray) -> NDArray[np.bool_]:
        """Settle again, for 80 tau, from beside the preset and from far corners; True [B] where that ends
        at another root than the preset does. first [B, n] is the state that was read.

        Such a step has several answers and the start chooses: the caller marks it MULTISTABLE.
        """
        program = self._loaded()
        self._show(segment.matrix)
        spec, state = self.electronics.spec, program.placement.state
        band = SETTLE_BAND * spec.adc.range_units
        noise = NOISE_SIGMAS * self.read_noise[segment.kind].half_difference
        long_step = AUDIT_STEP + AUDIT_STEP // 2 + batch.step_id  # draws of its own
        home = self._settled_u(segment, replace(batch, step_id=long_step))
        other = row_peaks(home - first[:, state]) > 2 * band  # `first` may be read early
        for start in _other_starts(batch.start, state):
            u = self._settled_u(segment, replace(batch, start=start, step_id=long_step))
            other |= row_peaks(u - home) > max(ROOTS_APART * band, noise)
        return np.asarray(other)

    def _settled_u(self, segment: LoopSegment, batch: Batch) -> FloatArray:
        """u [B, d] after 80 tau."""
        program = self._loaded()
        spec, state = self.electronics.spec, program.placement.state
        codes, _, _ = self._codes(program, segment, self._coded(segment), batch)
        parts = [
            self.electronics.settle(queue_of(codes, part), wait_us=REFERENCE_TAU * spec.tau_us)
            for part in queues_of(len(codes.bias), spec.max_queue)
        ]
        return np.concatenate([p.counts[:, state] for p in parts]) * spec.adc.units_per_code

    def _loaded(self) -> LoopProgram:
        if self._program is None or not self._matrices:
            raise ProgramError(f"{self._name}: no program is loaded; call load(program) first")
        return self._program

    def _coded(self, segment: LoopSegment) -> CodedTables:
        program = self._loaded()
        for known, tables in self._tables:
            if known is segment:
                return tables
        return self._encoded(program, segment)

    def tables_of(self, program: LoopProgram) -> tuple[CodedTables, ...]:
        """What this bench would be given for each segment of a program; nothing is shown."""
        return tuple(self._encoded(program, segment) for segment in program.segments)

    def _encoded(self, program: LoopProgram, segment: LoopSegment) -> CodedTables:
        return encode_tables(
            segment, program.matrix_of(segment), self.electronics.spec, self.trims,
            full_scale_units=self._display.full_scale_units,
        )  # fmt: skip

    def _residual(
        self,
        tables: CodedTables,
        codes: SettleCodes,
        labels: NDArray[np.int64] | None,
        z: FloatArray,
        rows: slice,
    ) -> FloatArray:
        """The host model's |F(z) - z| on the watched rows, with the knobs as applied."""
        spec = self.electronics.spec
        program = self._loaded()
        columns = next(c for r, c in program.placement.blocks if r == rows)
        bias = tables.bias_acting(codes.bias[:, rows] * spec.dac.units_per_code, rows)
        gain = tables.gain[:, rows] if labels is None else tables.gain[labels, rows]
        weights = self._matrices[self._shown].weights[rows, columns]
        limit = spec.adc.range_units
        return residual(z, weights, gain, tables.leak[rows], bias, rows, columns, limit=limit)

    def _codes(
        self, program: LoopProgram, segment: LoopSegment, tables: CodedTables, batch: Batch
    ) -> tuple[SettleCodes, NDArray[np.bool_], tuple[Coercion, ...]]:
        """Codes of a batch, where the injection's bias was clipped [B, d], and what was coerced.

        Bias and start stand in buffers that the next call fills again: fresh pages would cost more than all
        else that the host does in a step.
        """
        spec = self.electronics.spec
        state = program.placement.state
        row = slice(0, 1) if batch.labels is None else batch.labels
        own = tables.bias_to_set(segment.bias[row, state] + segment.inject_scale * batch.inject, state)
        own_codes, clipped, note = to_codes(own, spec.dac, "bias")
        if self._buffers.shape[1] != len(own):
            self._buffers = np.empty((2, len(own), self.n_channels), np.int64)
        bias_codes, start_codes = self._buffers
        bias_codes[:] = tables.bias_codes[row]
        bias_codes[:, state] = own_codes
        # hidden presets beyond the DAC's range start at its end: phi is saturated there anyway
        _, _, start_note = to_codes(batch.start, spec.dac, "start", out=start_codes)
        gain_codes = tables.gain_codes if batch.labels is None else tables.gain_codes[batch.labels]
        codes = SettleCodes(
            bias=bias_codes,
            gain=gain_codes,
            leak=tables.leak_codes[None],
            gain_range=tables.gain_range,
            start=start_codes,
            step_id=batch.step_id,
            sample_id=batch.sample_id,
        )
        return codes, clipped, tuple(n for n in (note, start_note) if n is not None)

    def _outcomes(
        self,
        segment: LoopSegment,
        step_norm: FloatArray,
        spread: FloatArray,
        bias_clipped: NDArray[np.bool_],
        adc_clipped: NDArray[np.bool_],
    ) -> NDArray[np.uint8]:
        noise = self.read_noise[segment.kind]
        tolerance = max(segment.end.tolerance, NOISE_SIGMAS * noise.half_difference)
        still = step_norm <= tolerance
        outcome = np.where(still, np.uint8(Outcome.CONVERGED), np.uint8(Outcome.MAX_TIME))
        band = SETTLE_BAND * self.electronics.spec.adc.range_units
        outcome[still & cycling(spread, noise.spread, band)] = Outcome.LIMIT_CYCLE
        if bias_clipped.any():
            outcome[bias_clipped.any(axis=1)] = Outcome.SATURATED
        # hidden rows, read in "evaluate", may run beyond the ADC harmlessly
        if segment.kind == "implicit" and adc_clipped.any():
            outcome[adc_clipped.any(axis=1)] = Outcome.SATURATED
        return outcome

    def _audit(
        self, segment: LoopSegment, codes: SettleCodes, count: int, rows: slice
    ) -> tuple[FloatArray, FloatArray]:
        """Trace the first `count` settles out to 80 tau; settle time and transient of each.

        The definition is noise-free. Where noise would cross the band, traces are averaged over repeats (16
        at most) until it is a sixth of the band; what is left then widens the band.
        """
        if count == 0:
            return np.empty(0), np.empty(0)
        spec = self.electronics.spec
        band = SETTLE_BAND * spec.adc.range_units
        noise = self.read_noise[segment.kind].spread
        repeats = min(MAX_TRACE_REPEATS, max(1, math.ceil((6 * noise / band) ** 2)))
        band = max(band, 6 * noise / math.sqrt(repeats))
        reference_us = REFERENCE_TAU * spec.tau_us
        unit = spec.adc.units_per_code
        final: FloatArray | float = 0.0
        seen: FloatArray | float = 0.0
        time_us = np.empty(0)
        for repeat in range(repeats):
            step_id = AUDIT_STEP + (codes.step_id << 8) + repeat
            queue = replace(queue_of(codes, slice(0, count)), step_id=step_id)
            readout = self.electronics.settle(queue, wait_us=reference_us, trace=True)
            trace, time_us = _trace(readout)
            final = final + readout.counts[:, rows] * (unit / repeats)
            seen = seen + trace[:, :, rows] * (unit / repeats)
        final, seen = np.asarray(final), np.asarray(seen)
        before = time_us <= reference_us + 1e-9
        settled = settle_times(time_us[before], seen[before], final, band)
        if self.camera is not None:
            leak = codes.leak[:count, rows] / spec.max_leak_code
            return settled, self.camera.transient(time_us, seen, final, settled, leak, spec)
        inside = (time_us > spec.wait_us) & (time_us <= spec.wait_us + spec.window_us + 1e-9)
        transient = np.abs(seen[inside].mean(axis=0) - final).max(axis=1)
        return settled, transient

    def _measure_read_noise(self, program: LoopProgram, segment: LoopSegment) -> ReadNoise:
        """Noise of the watched rows at this segment's gains.

        A loop that cycles would pass its swing off as noise. With the u rows' gain off nothing can cycle;
        feedback amplifies that noise by at most `NOISE_AMPLIFICATION` where a step is any good.
        """
        closed = self._window_statistics(program, segment)
        if segment.kind == "evaluate":
            return closed
        gain = segment.gain.copy()
        gain[:, program.placement.state] = 0.0
        opened = self._window_statistics(program, replace(segment, gain=gain))
        return ReadNoise(
            spread=min(closed.spread, NOISE_AMPLIFICATION * opened.spread),
            half_difference=min(closed.half_difference, NOISE_AMPLIFICATION * opened.half_difference),
        )

    def _window_statistics(self, program: LoopProgram, segment: LoopSegment) -> ReadNoise:
        """Settle 64 typical injections (unit variance in u) for 80 tau; 95th percentile, worst row."""
        spec = self.electronics.spec
        repeats, n = 64, spec.n_channels
        d = program.placement.sizes[0]
        sample = np.arange(repeats)
        typical = Stream(0, "host", "read noise").normal(sample, d).numpy().astype(np.float64)
        batch = Batch(
            inject=typical / segment.inject_scale,
            start=np.zeros((repeats, n)),
            labels=None if program.n_classes == 1 else sample % program.n_classes,
            sample_id=sample,
            step_id=AUDIT_STEP - 1,  # draws of its own, shared with no diffusion step
        )
        codes, _, _ = self._codes(program, segment, self._coded(segment), batch)
        readout = self.electronics.settle(codes, wait_us=REFERENCE_TAU * spec.tau_us)
        rows, unit = program.watched(segment), spec.adc.units_per_code
        difference = (readout.half_counts[1] - readout.half_counts[0])[:, rows] * unit
        return ReadNoise(
            spread=float(np.quantile(readout.spread_counts[:, rows], 0.95, axis=0).max() * unit),
            half_difference=float(np.quantile(np.abs(difference), 0.95, axis=0).max() / NORMAL_95),
        )


def _trace(readout: LoopReadout) -> tuple[FloatArray, FloatArray]:
    if readout.trace_counts is None or readout.trace_time_us is None:
        raise ProgramError("the electronics returned no trace")
    return readout.trace_counts, readout.trace_time_us


def _other_starts(start: FloatArray, state: slice) -> Iterator[FloatArray]:
    """Two opposite pairs beside the preset (a basin's edge runs close by where engines disagree), the same
    directions as far corners with h = 0. In two dimensions the corners are all there are.
    """
    d = state.stop - state.start
    signs = np.sign(Stream(0, "host", "far corners").normal(np.arange(1), d).numpy()[0])
    flipped = signs * (-1.0) ** np.arange(d)
    for way in (signs, -signs, flipped, -flipped):
        near = start.copy()
        near[:, state] += NEAR_START / math.sqrt(d) * way
        yield near
        far = np.zeros_like(start)
        far[:, state] = FAR_START * way
        yield far
