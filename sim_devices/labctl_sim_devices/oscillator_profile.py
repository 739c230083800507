"""A board of coupled oscillators as dated data: one number, one source."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from labctl.devices import ConfigError, ProgramError, Topology, all_to_all, grid, king, of_edges
from labctl_sim_devices.oscillator_distributions import OscillatorDistribution
from labctl_sim_devices.profile_files import ProfileFolder


class OscillatorProfile(BaseModel):
    """True parameters of one simulated board; units are in the names, meanings in the TOML's sources.

    rows x columns sites of kind "grid" (with radius and hidden_share), "king" or "all-to-all"; "edges" wires
    rows x columns oscillators by `edges`, pairs of (target, source). masked_edges: pairs that the data sheet
    says carry nothing. `unit` describes a population of boards of which one is drawn by seed; `truth` gives
    parameters of one board explicitly (fields of `OscillatorTruth`); `terms` scales faults by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    topology: Literal["grid", "king", "all-to-all", "edges"]
    rows: PositiveInt
    columns: PositiveInt
    radius: float
    hidden_share: float
    edges: tuple[tuple[int, int], ...]
    masked_edges: tuple[tuple[int, int], ...]
    f0_hz: PositiveFloat
    eps: float = Field(gt=0, le=0.1)
    coupling_bits: int = Field(ge=1, le=12)
    scale_bits: int = Field(ge=1, le=24)
    max_scale_units: PositiveFloat
    injection_bits: int = Field(ge=2, le=32)
    injection_units: PositiveFloat
    second_bits: int = Field(ge=2, le=32)
    second_units: PositiveFloat
    detuning_bits: int = Field(ge=2, le=32)
    detuning_units: PositiveFloat
    start_bits: int = Field(ge=1, le=30)
    amplitude_bits: int = Field(ge=1, le=30)
    depth: PositiveInt
    tick_us: PositiveFloat
    max_ticks: PositiveInt
    reference: int | Literal["beside"]
    read_bits: int = Field(ge=1, le=30)
    max_reads: PositiveInt
    max_turns: PositiveInt
    lock_limit_units: PositiveFloat
    setup_us: NonNegativeFloat
    read_us: NonNegativeFloat
    max_queue: PositiveInt
    gate_range_us: tuple[PositiveFloat, PositiveFloat]
    link_latency_us: NonNegativeFloat
    link_mbyte_per_s: PositiveFloat
    diffusion_rad2_per_unit: NonNegativeFloat
    start_jitter_rad: NonNegativeFloat
    segment_jitter_us: NonNegativeFloat
    read_jitter_us: NonNegativeFloat
    reference_jitter_us: NonNegativeFloat
    temperature_c: float
    unit: OscillatorDistribution | None = None
    truth: dict[str, Any] = {}
    terms: dict[str, float] = {}

    @cached_property
    def wiring(self) -> Topology:
        """The board's topology; ConfigError where the profile describes none."""
        n = self.rows * self.columns
        try:
            if self.topology == "grid":
                return grid(self.rows, self.columns, self.radius, self.hidden_share)
            if self.topology == "king":
                return king(self.rows, self.columns)
            return all_to_all(n) if self.topology == "all-to-all" else of_edges(n, self.edges)
        except ProgramError as error:
            raise ConfigError(str(error)) from None

    @property
    def n_channels(self) -> int:
        """Oscillators."""
        return self.wiring.n


PROFILES = ProfileFolder("oscillator_profiles", OscillatorProfile, "board50")


def load_oscillator_profile(name: str, overrides: dict[str, Any] | None = None) -> OscillatorProfile:
    """A shipped oscillator profile by name, or a profile file, with single values replaced."""
    return PROFILES.load(name, overrides)


def oscillator_profile_names() -> list[str]:
    """Names of the shipped oscillator profiles."""
    return PROFILES.names()
