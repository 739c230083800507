"""Frames and probes of a bring-up, counted: the only way in which these procedures touch a bench."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceFault, LoopElectronics, LoopSpec, ModulatorSpec, WeightModulator, Wiring

FloatArray = NDArray[np.float64]
MOST_RAW_BYTES = 4_000_000  # of one procedure
ROUNDS = 8  # 48 emitters take 2.5 ms: a period or more of what panels flicker by


@dataclass(frozen=True)
class DeviceTime:
    """What was asked of the devices: frames shown, patterns probed, and their modelled time (s)."""

    frames: int
    probes: int
    modelled_s: float


class Probing:
    """A modulator and electronics with the loop open; offsets are not nulled. Currents are in units of a
    full-scale weight's photocurrent at phi = 1, positive minus negative path. Inputs and outputs are the
    panel's columns and rows by the electronics' wiring, or by another one (straight: as channels come).
    """

    def __init__(
        self, modulator: WeightModulator, electronics: LoopElectronics, wiring: Wiring | None = None
    ) -> None:
        self.modulator, self.electronics = modulator, electronics
        self.wiring = wiring or electronics.wiring or Wiring.straight(electronics.spec.n_channels)
        self._frames, self._probes, self._time_us = 0, 0, 0.0
        self._readings: list[FloatArray] = []
        electronics.set_offset_null(np.zeros(electronics.spec.n_channels, np.int64))

    @classmethod
    def by_channel(cls, modulator: WeightModulator, electronics: LoopElectronics) -> Probing:
        """Inputs and outputs in the electronics' own order and polarity."""
        return cls(modulator, electronics, Wiring.straight(electronics.spec.n_channels))

    @property
    def spec(self) -> LoopSpec:
        """The electronics' data sheet."""
        return self.electronics.spec

    @property
    def panel(self) -> ModulatorSpec:
        """The modulator's data sheet."""
        return self.modulator.spec

    @property
    def used(self) -> DeviceTime:
        """Frames, probes and device time so far."""
        return DeviceTime(self._frames, self._probes, self._time_us * 1e-6)

    def count(self, more: DeviceTime) -> None:
        """Add what was asked of the same devices elsewhere."""
        self._frames, self._probes = self._frames + more.frames, self._probes + more.probes
        self._time_us += 1e6 * more.modelled_s

    @property
    def raw(self) -> dict[str, FloatArray]:
        """Counts [B, n] of all probes so far, in their order; nothing where they are large."""
        if not self._readings or sum(part.nbytes for part in self._readings) > MOST_RAW_BYTES:
            return {}
        return {"probe_counts": np.concatenate(self._readings)}

    def show(self, levels: NDArray[np.integer]) -> None:
        """Display a frame [height, width] and wait until the panel has settled."""
        self._time_us += self.modulator.show(levels).duration_us
        self._frames += 1

    def show_half(self, path: int, level: int) -> None:
        """The designed half of a path at one level, the other at 0."""
        frame = np.zeros(self.panel.shape_px, np.uint16)
        frame[:, half(self.panel, path)] = level
        self.show(frame)

    def probe(self, drive: FloatArray, *, at: Literal["phi", "emitter"] = "emitter") -> FloatArray:
        """Currents [B, n] of drives [B, n] (of full scale), in queues of what the sequencer holds.

        Raises DeviceFault where a detector clips.
        """
        asked = self.wiring.drives(np.asarray(drive), at_phi=at == "phi")
        codes = np.rint(asked * self.spec.probe_dac.max_code).astype(np.int64)
        parts = []
        for first in range(0, len(codes), self.spec.max_queue):
            read = self.electronics.probe(codes[first : first + self.spec.max_queue], at=at)
            if read.clipped.any():
                rows = np.sort(self.wiring.row[read.clipped.any(axis=0)])
                raise DeviceFault(
                    f"the detectors of outputs {', '.join(map(str, rows[:8]))} clip; allowed: "
                    f"{self.spec.offset_dac.range_units:g} full-scale weights",
                    device=self.electronics.name, operation="probe",
                )  # fmt: skip
            parts.append(self.wiring.rows(read.counts))
            self._time_us += read.duration_us * len(read.counts)
        self._probes += len(codes)
        self._readings += parts
        return np.concatenate(parts) * self.spec.offset_dac.units_per_code

    def one_hot(self, *, rounds: int = ROUNDS) -> FloatArray:
        """What every output sees of every emitter alone at full drive, [out, in]; n probes a round.

        Emitter after emitter, and all of them again: so the light's slow flicker averages out of each.
        """
        n = self.spec.n_channels
        return np.asarray(self.probe(np.tile(np.eye(n), (rounds, 1))).reshape(rounds, n, n).mean(axis=0).T)

    def slopes(self, *, rounds: int = 1) -> FloatArray:
        """Current per unit of phi [out, in]: half the difference of phi = 1 and -1, emitters at their bias.

        2 n probes a round; the same quantity as an open-loop record's `effective_fractions`. The two are
        neighbours in time, so that the light's slow flicker does not tell them apart.
        """
        n = self.spec.n_channels
        pairs = np.stack([np.eye(n), -np.eye(n)], axis=1).reshape(-1, n)
        seen = self.probe(np.tile(pairs, (rounds, 1)), at="phi").reshape(rounds, n, 2, n).mean(axis=0)
        return np.asarray((seen[:, 0] - seen[:, 1]).T / 2)


def half(panel: ModulatorSpec, path: int) -> slice:
    """Columns of the panel that are designed for path 0 (positive) or 1."""
    middle = panel.shape_px[1] // 2
    return slice(0, middle) if path == 0 else slice(middle, 2 * middle)
