"""What a device can do, as data. The spec is what a host may rely on; a twin's truth may differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ModulatorSpec:
    """An SLM or DMD. `shape_px` is (height, width); levels are 0 .. n_levels - 1.

    repeat_us: period with which the light of a static frame dips (a DMD's mirror resets; 0: it is steady).
    max_planes: of a repeated sequence (0: none can be shown), each of min_plane_us or longer and dark for
    blank_us at its beginning.
    """

    shape_px: tuple[int, int]
    n_levels: int
    settle_time_us: float
    refresh_hz: float
    kind: Literal["lcos-intensity", "lcos-phase", "dmd"]
    repeat_us: float = 0.0
    max_planes: int = 0
    min_plane_us: float = 0.0
    blank_us: float = 0.0


@dataclass(frozen=True)
class DriveSpec:
    """Emitter drivers: codes 0 .. n_codes - 1 over 0 .. full_scale_ma on each channel.

    max_hold_us: how long a pattern of a queue can stay on after its trigger output, for a camera (0: there is
    no such output).
    """

    n_channels: int
    n_codes: int
    full_scale_ma: float
    max_channel_ma: float
    max_total_ma: float
    max_hold_us: float = 0.0

    @property
    def ma_per_code(self) -> float:
        """Current of one code step, mA."""
        return self.full_scale_ma / (self.n_codes - 1)


@dataclass(frozen=True)
class Converter:
    """A bipolar converter of `bits` bits over +-`range_units` (network units); codes are signed."""

    bits: int
    range_units: float

    @property
    def max_code(self) -> int:
        """Largest code; codes run from -max_code to +max_code."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def units_per_code(self) -> float:
        """Network units of one code step."""
        return self.range_units / self.max_code


@dataclass(frozen=True)
class GainScale:
    """A row-gain knob: code 0 is off, codes 1 .. 2^bits - 1 run logarithmically from `low` to `high`.

    The value is gain * scale_out: the network gain that a full-scale weight of the row sees.
    """

    bits: int
    low: float
    high: float

    @property
    def max_code(self) -> int:
        """Largest code."""
        return int(2**self.bits - 1)

    def value(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Gain of each code."""
        step = np.log(self.high / self.low) / (self.max_code - 1)
        return np.where(codes > 0, self.low * np.exp(step * (codes - 1.0)), 0.0)

    def code(self, gain: NDArray[np.float64]) -> NDArray[np.int64]:
        """Nearest code of each gain: 0 for exactly 0, otherwise the nearest of 1 .. max (ends included)."""
        step = np.log(self.high / self.low) / (self.max_code - 1)
        with np.errstate(divide="ignore"):
            raw = np.rint(np.log(np.maximum(gain, 1e-300) / self.low) / step) + 1
        return np.where(gain > 0, np.clip(raw, 1, self.max_code), 0).astype(np.int64)


@dataclass(frozen=True)
class LinkSpec:
    """A cable between host and device. Bytes stream while the queue settles."""

    latency_us: float
    mbyte_per_s: float

    def beside_us(self, n_bytes: float, busy_us: float) -> float:
        """What a command of `n_bytes` adds to a queue of `busy_us`: latency, and what does not fit beside."""
        return self.latency_us + max(0.0, n_bytes / self.mbyte_per_s - busy_us)


@dataclass(frozen=True)
class ChainSpec:
    """The electronics' sequencer: settles in a chain, grid of its registers and of its coefficients.

    A register's step is 2^-fraction_bits of the DAC's, its range `HEADROOM` times the DAC's; coefficients
    are words of 2^-coefficient_fraction_bits below `MAX_COEFFICIENT`.
    """

    HEADROOM: ClassVar[int] = 16
    MAX_COEFFICIENT: ClassVar[int] = 64

    depth: int
    fraction_bits: int
    coefficient_fraction_bits: int

    def max_word(self, dac: Converter) -> int:
        """Largest register word."""
        return int(dac.max_code * self.HEADROOM * 2**self.fraction_bits)

    @property
    def max_coefficient(self) -> int:
        """Largest coefficient word."""
        return int(self.MAX_COEFFICIENT * 2**self.coefficient_fraction_bits)


@dataclass(frozen=True)
class LoopSpec:
    """Loop electronics with n channels.

    bias and preset DACs share one converter; the ADC has its own; leak codes 0 .. 2^leak_bits - 1 span
    0 .. 1. Each row offers both gain scales, chosen by range code: `state_gain` for rows that carry the
    sample, `hidden_gain` for the others. probe codes drive phi's output or the emitters directly.
    volts_per_unit converts network units to the volts at the connectors. max_hold_us: how long the loop can
    be held closed after its trigger output, for a camera (0: there is no such output). chain is None without
    a sequencer.
    """

    n_channels: int
    dac: Converter
    adc: Converter
    probe_dac: Converter
    leak_bits: int
    state_gain: GainScale
    hidden_gain: GainScale
    offset_dac: Converter
    volts_per_unit: float
    phi: Literal["tanh"]
    linear_rows: tuple[int, ...]
    sample_rate_mhz: float
    window_samples: int
    wait_us: float
    tau_us: float
    trip_us: float
    max_queue: int
    link: LinkSpec
    chain: ChainSpec | None = None
    max_hold_us: float = 0.0

    @property
    def window_us(self) -> float:
        """Length of the read-out window."""
        return self.window_samples / self.sample_rate_mhz

    @property
    def max_leak_code(self) -> int:
        """Code of leak 1."""
        return int(2**self.leak_bits - 1)

    def gain_value(self, codes: NDArray[np.int64], gain_range: NDArray[np.int64]) -> NDArray[np.float64]:
        """Gain of each row's code on the scale that its range code [n] chooses."""
        return np.where(gain_range == 0, self.state_gain.value(codes), self.hidden_gain.value(codes))


@dataclass(frozen=True)
class CameraSpec:
    """A camera. `shape_px` is (height, width); counts 0 .. max_code; one code is e_per_code electrons.

    The full well fills the codes above the black level at 0 dB. delay_us and jitter_us: an exposure starts
    so long after its trigger (plus TriggerDelay), later by up to the jitter. A frame of h rows needs
    (h + overhead_rows) line_us to be read; triggers that come earlier are lost. Noise figures are the data
    sheet's: electrons rms, electrons a second, share of the signal from pixel to pixel.
    """

    shape_px: tuple[int, int]
    bit_depth: int
    shutter: Literal["global", "rolling"]
    exposure_range_us: tuple[float, float]
    gain_range_db: tuple[float, float]
    full_well_e: float
    quantum_efficiency: float
    read_noise_e: float
    dark_e_per_s: float
    prnu: float
    delay_us: float
    jitter_us: float
    line_us: float
    overhead_rows: int
    max_frames: int
    link: LinkSpec
    trigger_sources: tuple[str, ...] = ("Line0",)
    max_trigger_delay_us: float = 1e6

    @property
    def max_code(self) -> int:
        """Largest count."""
        return int(2**self.bit_depth - 1)

    @property
    def pixel_format(self) -> str:
        """SFNC PixelFormat."""
        return f"Mono{self.bit_depth}"

    def e_per_code(self, gain_db: float, black_level_codes: int) -> float:
        """Electrons of one count."""
        return float(self.full_well_e / (self.max_code - black_level_codes) * 10 ** (-gain_db / 20))

    def frame_bytes(self, width_px: int, height_px: int) -> int:
        """What a frame is on the cable: pixels of one byte, or of two where they have more than 8 bits."""
        return width_px * height_px * (1 if self.bit_depth <= 8 else 2)

    def period_us(self, exposure_us: float, height_px: int) -> float:
        """Shortest time from trigger to trigger: exposure, then read-out."""
        return self.delay_us + self.jitter_us + exposure_us + (height_px + self.overhead_rows) * self.line_us
