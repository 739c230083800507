"""A board of coupled oscillators: programs in, phases out, everything in codes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.device import Device
from labctl.devices.errors import DeviceFault, DeviceStateError, DeviceValueError
from labctl.devices.oscillator_spec import BoardSpec
from labctl.devices.oscillator_values import BoardImage, Codes, FrequencyCount, LoadReceipt, Phases, RunCodes


class OscillatorBoard(Device):
    """Coupled oscillators with a sequencer: shadow memory holds a program's segments, a queue runs them."""

    safe_stage = "loop"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._image: BoardImage | None = None

    @property
    @abstractmethod
    def spec(self) -> BoardSpec:
        """Wiring, converters, memory, time."""

    def load(self, image: BoardImage) -> LoadReceipt:
        """Write an image into the shadow memory and compare the board's CRC with the one sent.

        Raises DeviceValueError for another topology, too many segments, a coupling on an edge that cannot
        carry one, or a code out of range (the board then still holds what it held); DeviceFault where the
        memory reads back differently.
        """
        self._require_open("load")
        checked = self._checked_image(image)
        self._image = None  # a load that fails leaves nothing to run
        receipt = self._do_load(checked)
        if receipt.crc != checked.crc:
            raise DeviceFault(
                f"the board's memory has CRC-32 {receipt.crc}, sent was {checked.crc}",
                device=self.name, operation="load",
            )  # fmt: skip
        self._image = checked
        return receipt

    def close(self) -> None:
        """Leave the board in its safe state, nothing loaded."""
        super().close()
        self._image = None

    def loaded(self) -> BoardImage:
        """The image as read back from the board; DeviceStateError where it holds none."""
        self._require_open("loaded")
        return self._present("loaded", self._do_loaded("loaded"))

    def run(self, codes: RunCodes, *, read_at_us: Sequence[float] | None = None) -> Phases:
        """Seed the phases, release, play the segments, read; for every sample of the queue.

        read_at_us: times after the release, ascending (None: the end). Raises DeviceValueError naming the
        field, the value and what is allowed. Loss of lock is data: `Phases.locked`.
        """
        self._require_open("run")
        image, spec = self._held("run"), self.spec
        sample_id = self._codes("run", "sample_id", codes.sample_id, (None,), 0, 2**32 - 1)
        batch = len(sample_id)
        if batch > spec.max_queue:
            raise self._refused("run", f"the queue holds {batch} samples; allowed: 1 to {spec.max_queue}")
        play = np.arange(image.segments) if codes.play is None else codes.play
        play = self._codes("run", "play", play, (None,), 0, image.segments - 1)
        if len(play) > spec.depth:
            raise self._refused("run", f"play names {len(play)} segments; allowed: 1 to {spec.depth}")
        anchors = [
            None if part is None else self._codes("run", field, part, (batch, spec.n), -top, top)
            for field, part, top in (
                ("anchor_in_phase", codes.anchor_in_phase, spec.injection.max_code),
                ("anchor_quadrature", codes.anchor_quadrature, spec.injection.max_code),
            )
        ]
        if (anchors[0] is None) != (anchors[1] is None):
            raise self._refused("run", "one anchor table is missing; allowed: both parts or none")
        for field, anchor, table in (
            ("anchor_in_phase", anchors[0], image.in_phase),
            ("anchor_quadrature", anchors[1], image.quadrature),
        ):
            if anchor is not None:
                self._check_sum(field, anchor, table[play])
        start = codes.start_phase
        if start is not None:
            start = self._codes("run", "start_phase", start, (batch, spec.n), 0, spec.max_start_code)
        checked = RunCodes(sample_id, int(codes.step_id), play, anchors[0], anchors[1], start)
        if self.guard is not None:
            self.guard.temperature(self, "run")
        return self._do_run(checked, self._read_times(read_at_us, image, play))

    def count_frequency(self, gate_us: float, detuning: ArrayLike | None = None) -> FrequencyCount:
        """Count every oscillator's periods in one gate, couplings and injections off.

        detuning [n]: trim codes during the count (None: all 0). What is loaded stays loaded.
        """
        self._require_open("count_frequency")
        spec, gate = self.spec, float(gate_us)
        low, high = spec.gate_range_us
        if not low <= gate <= high:
            raise self._refused("count_frequency", f"gate_us is {gate_us}; allowed: {low:g} to {high:g}")
        top = spec.detuning.max_code
        trim = np.zeros(spec.n, np.int64) if detuning is None else detuning
        return self._do_count_frequency(
            gate, self._codes("count_frequency", "detuning", trim, (spec.n,), -top, top)
        )

    def temperature_c(self) -> float:
        """Board temperature in degrees Celsius."""
        self._require_open("temperature_c")
        return self._do_temperature_c()

    def run_us(self, play: ArrayLike | None = None) -> float:
        """Evolution of one sample of the loaded program (or of the segments named)."""
        self._require_open("run_us")
        image = self._held("run_us")
        return float(image.ticks[slice(None) if play is None else np.asarray(play)].sum()) * self.spec.tick_us

    def _held(self, operation: str) -> BoardImage:
        """What was loaded, by the host's own copy: checked by CRC when it was written."""
        image = self._do_loaded(operation) if self._image is None else self._image
        return self._present(operation, image)

    def _present(self, operation: str, image: BoardImage | None) -> BoardImage:
        if image is None:
            raise DeviceStateError(
                "no program is loaded; call load() first", device=self.name, operation=operation
            )
        return image

    def _checked_image(self, image: BoardImage) -> BoardImage:
        spec, wiring = self.spec, self.spec.topology
        if image.topology_hash != wiring.hash:
            raise self._refused(
                "load",
                f"the program is wired for topology {image.topology_hash[:8]}; allowed: this board's, "
                f"{wiring.summary}",
            )
        k = len(image.ticks)
        if not 1 <= k <= spec.depth:
            raise self._refused("load", f"the program has {k} segments; allowed: 1 to {spec.depth}")
        n, top = spec.n, spec.max_coupling_code
        signed = {
            "in_phase": spec.injection,
            "quadrature": spec.injection,
            "second": spec.second,
            "detuning": spec.detuning,
        }
        if wiring.n_edges:
            coupling = self._codes("load", "coupling", image.coupling, (k, wiring.n_edges), -top, top)
        else:  # nobody hears anybody: a table without columns
            coupling = np.empty((k, 0), np.int64)
        dead = (coupling != 0) & ~spec.usable
        if dead.any():
            segment, edge = (int(i) for i in np.argwhere(dead)[0])
            raise self._refused(
                "load",
                f"coupling is {coupling[segment, edge]} in segment {segment} on {wiring.name(edge)}, which "
                "is masked or dead; allowed: 0",
            )
        nodes = {
            field: self._codes("load", field, getattr(image, field), (k, n), -part.max_code, part.max_code)
            for field, part in signed.items()
        }
        return BoardImage(
            topology_hash=image.topology_hash,
            coupling=coupling,
            scale=self._codes("load", "scale", image.scale, (k,), 0, spec.max_scale_code),
            ticks=self._codes("load", "ticks", image.ticks, (k,), 1, spec.max_ticks),
            start_phase=self._codes("load", "start_phase", image.start_phase, (n,), 0, spec.max_start_code),
            start_amplitude=self._codes(
                "load", "start_amplitude", image.start_amplitude, (n,), 0, spec.max_amplitude_code
            ),
            **nodes,
        )

    def _check_sum(self, field: str, anchor: Codes, tables: Codes) -> None:
        """Anchor [B, n] and a segment's own injection [S, n] share one converter."""
        top = self.spec.injection.max_code
        high = anchor.max(axis=0) + tables.max(axis=0)
        low = anchor.min(axis=0) + tables.min(axis=0)
        worst = np.where(high >= -low, high, low)
        i = int(np.abs(worst).argmax())
        if abs(int(worst[i])) > top:
            raise self._refused(
                "run", f"{field} and the program's injection add up to {worst[i]} at oscillator {i}; "
                f"allowed: -{top} to {top}",
            )  # fmt: skip

    def _read_times(
        self, read_at_us: Sequence[float] | None, image: BoardImage, play: Codes
    ) -> NDArray[np.float64]:
        """Times on the board's ticks."""
        spec = self.spec
        end_ticks = int(image.ticks[play].sum())
        if read_at_us is None:
            return np.array([end_ticks * spec.tick_us])
        times = np.asarray(read_at_us, np.float64)
        if times.ndim != 1 or not 1 <= len(times) <= spec.max_reads:
            raise self._refused(
                "run", f"read_at_us has shape {times.shape}; allowed: 1 to {spec.max_reads} times"
            )
        end_us = end_ticks * spec.tick_us
        # each segment may have lost half a tick to rounding: the end that was meant is still the end
        slack_us = 0.5 * (len(play) + 1e-6) * spec.tick_us
        inside = np.isfinite(times) & (times >= 0) & (times <= end_us + slack_us)
        if not inside.all():
            raise self._refused("run", f"read_at_us has {times[~inside][0]:g}; allowed: 0 to {end_us:g}")
        ticks = np.rint(times / spec.tick_us)
        if (np.diff(ticks) <= 0).any():
            raise self._refused("run", "read_at_us does not ascend by at least a tick; allowed: ascending")
        return np.asarray(np.minimum(ticks, end_ticks) * spec.tick_us)

    def _refused(self, operation: str, message: str) -> DeviceValueError:
        return DeviceValueError(message, device=self.name, operation=operation)

    @abstractmethod
    def _do_load(self, image: BoardImage) -> LoadReceipt: ...

    @abstractmethod
    def _do_loaded(self, operation: str) -> BoardImage | None: ...

    @abstractmethod
    def _do_run(self, codes: RunCodes, read_at_us: NDArray[np.float64]) -> Phases: ...

    @abstractmethod
    def _do_count_frequency(self, gate_us: float, detuning: Codes) -> FrequencyCount: ...

    @abstractmethod
    def _do_temperature_c(self) -> float: ...
