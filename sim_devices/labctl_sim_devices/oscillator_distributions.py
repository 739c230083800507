"""What a population of oscillator boards is like: one table a term, as in a profile's [unit] section."""

from __future__ import annotations

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
)

from labctl_sim_devices.distributions import ChannelNormal, Population, Term


class CouplingBow(Term):
    """Integral nonlinearity of a cell, in shares of full scale: even and odd part, sd over cells."""

    even_sd: NonNegativeFloat
    odd_sd: NonNegativeFloat


class DeadCells(Term):
    """Cells that pass nothing on, whatever their code: share of all, and share of these that is masked."""

    share: float = Field(ge=0, le=1)
    listed: float = Field(ge=0, le=1)


class Injection(Term):
    """How the injection reaches each oscillator: relative strength, and phase against the reference."""

    gain_sd: NonNegativeFloat
    phase_sd_rad: NonNegativeFloat


class ReadPath(Term):
    """Phase error of each read path: a skew, and a part that goes with twice the phase."""

    skew_sd_rad: NonNegativeFloat
    bow_sd_rad: NonNegativeFloat


class PhaseLag(Term):
    """Lag of what a cell passes on."""

    mean_rad: float
    sd_rad: NonNegativeFloat


class Temperature(Term):
    """Frequency over temperature in units a degree (common part against the reference, spread), and the
    temperature over time: rise after switching on, swing of the room.
    """

    units_per_c: float
    units_per_c_sd: NonNegativeFloat
    rise_c: float
    rise_us: PositiveFloat
    room_c: NonNegativeFloat
    room_us: PositiveFloat


class Ageing(Term):
    """Free frequencies wander, each by itself, and do not come back: units per square root of an hour.
    Opt-in: no shipped profile has it.
    """

    units_per_sqrt_hour: NonNegativeFloat


class Supply(Term):
    """Frequency shift by the supply's load: units for each unit of the mean pull sum_j |K_ij|."""

    mean: float
    sd: NonNegativeFloat


class LockLoss(Term):
    """The reference slips during a run: probability a sample."""

    probability: float = Field(ge=0, le=1)


class OscillatorDistribution(Population):
    """Every term of a drawn board. A term that is left out is absent."""

    detuning: ChannelNormal | None = None
    coupling_gain: ChannelNormal | None = None
    coupling_offset: ChannelNormal | None = None
    coupling_bow: CouplingBow | None = None
    dead_cells: DeadCells | None = None
    injection: Injection | None = None
    read_path: ReadPath | None = None
    phase_lag: PhaseLag | None = None
    temperature: Temperature | None = None
    supply: Supply | None = None
    lock_loss: LockLoss | None = None
    ageing: Ageing | None = None
