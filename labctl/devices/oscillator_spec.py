"""What a board of coupled oscillators can do, as data; and what its codes stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.specs import Converter, LinkSpec
from labctl.devices.topology import Topology

FloatArray = NDArray[np.float64]
TWO_PI = 2 * np.pi


@dataclass(frozen=True, eq=False)
class BoardSpec:
    """A board whose phases obey the oscillator law (conventions, section 1), rates in units of eps omega0.

    usable [E]: edges that can carry a coupling. A coupling is scale * k / max_coupling_code with signed codes
    k of `coupling_bits` bits and a segment's scale code over 0 .. max_scale_units. `injection` converts both
    parts of the first-harmonic injection, `second` the second-harmonic one, `detuning` the frequency trim.
    A start phase has start_bits over a turn, its noise amplitude amplitude_bits over 0 .. pi rad. `depth`
    segments fit the shadow memory, each of 1 .. max_ticks ticks. Phases are read against the reference
    oscillator (`reference` is its number, None: one beside the array) with read_bits over a turn. A board
    counts up to max_turns turns against the reference before it overflows, and takes an oscillator that is
    still faster than lock_limit_units against it for unlocked. A sample takes setup_us beside its evolution,
    and read_us a read.
    """

    topology: Topology
    usable: NDArray[np.bool_]
    coupling_bits: int
    scale_bits: int
    max_scale_units: float
    injection: Converter
    second: Converter
    detuning: Converter
    start_bits: int
    amplitude_bits: int
    depth: int
    tick_us: float
    max_ticks: int
    f0_hz: float
    eps: float
    reference: int | None
    read_bits: int
    max_reads: int
    max_turns: int
    lock_limit_units: float
    setup_us: float
    read_us: float
    max_queue: int
    gate_range_us: tuple[float, float]
    link: LinkSpec

    @property
    def n(self) -> int:
        """Oscillators."""
        return self.topology.n

    @property
    def unit_us(self) -> float:
        """Unit of time, 1 / (eps omega0)."""
        return 1e6 / (TWO_PI * self.f0_hz * self.eps)

    @property
    def period_us(self) -> float:
        """One period of a free oscillator."""
        return 1e6 / self.f0_hz

    @property
    def max_coupling_code(self) -> int:
        """Largest |k| of a coupling."""
        return max(1, int(2 ** (self.coupling_bits - 1) - 1))

    @property
    def max_scale_code(self) -> int:
        """Scale code of max_scale_units."""
        return int(2**self.scale_bits - 1)

    @property
    def scale_units_per_code(self) -> float:
        """Units of one step of the scale code."""
        return self.max_scale_units / self.max_scale_code

    @property
    def max_start_code(self) -> int:
        """Largest start phase code: one step below a turn."""
        return int(2**self.start_bits - 1)

    @property
    def max_amplitude_code(self) -> int:
        """Amplitude code of pi rad."""
        return int(2**self.amplitude_bits - 1)

    @property
    def max_read_code(self) -> int:
        """Largest phase code: one step below a turn."""
        return int(2**self.read_bits - 1)

    def coupling_units(self, codes: ArrayLike, scale_codes: ArrayLike) -> FloatArray:
        """Couplings [K, E] of codes [K, E] and scale codes [K]."""
        scale = np.asarray(scale_codes, np.float64) * self.scale_units_per_code
        return np.asarray(codes, np.float64) * (scale / self.max_coupling_code)[:, None]

    def start_rad(self, codes: ArrayLike) -> FloatArray:
        """Start phases of codes."""
        return np.asarray(codes, np.float64) * (TWO_PI / (self.max_start_code + 1))

    def start_codes(self, phases_rad: ArrayLike) -> NDArray[np.int64]:
        """Nearest start codes of phases, turns taken off."""
        return turn_codes(phases_rad, self.start_bits)

    def amplitude_rad(self, codes: ArrayLike) -> FloatArray:
        """Noise amplitudes of codes."""
        return np.asarray(codes, np.float64) * (np.pi / self.max_amplitude_code)

    def read_rad(self, codes: ArrayLike) -> FloatArray:
        """Phases of read codes, in [-pi, pi)."""
        turn = self.max_read_code + 1
        signed = (np.asarray(codes, np.int64) + turn // 2) % turn - turn // 2
        return np.asarray(signed * (TWO_PI / turn))

    def image_bytes(self, segments: int) -> int:
        """Size of a program of so many segments on the cable, codes packed without gaps."""
        node_bits = 2 * self.injection.bits + self.second.bits + self.detuning.bits
        segment = self.topology.n_edges * self.coupling_bits + self.n * node_bits + self.scale_bits + 32
        return -(-(segments * segment + self.n * (self.start_bits + self.amplitude_bits)) // 8)

    def queue_us(self, evolution_us: float, reads: int) -> float:
        """Time of one sample of a queue: set-up, evolution, reads."""
        return self.setup_us + evolution_us + reads * self.read_us


def turn_codes(phases_rad: ArrayLike, bits: int) -> NDArray[np.int64]:
    """Nearest codes 0 .. 2^bits - 1 of phases over a turn, whole turns taken off."""
    steps = np.rint(np.asarray(phases_rad, np.float64) * (2**bits / TWO_PI)).astype(np.int64)
    return np.asarray(steps % 2**bits)
