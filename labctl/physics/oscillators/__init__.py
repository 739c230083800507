"""Coupled oscillators: the law of their phases, its evolution and the gradient of that; Ising machines."""

from labctl.physics.oscillators.analysis import (
    Locking,
    beat_rate,
    contraction_rate,
    energy,
    gershgorin_margin,
    hessian,
    locked_phase,
    locking,
    stationary_covariance,
    symmetric,
)
from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.equilibrium import Gradient, Rest, rest_of, settle
from labctl.physics.oscillators.evolve import Backend, evolve
from labctl.physics.oscillators.ising import PolynomialLaw, SaturatingLaw
from labctl.physics.oscillators.lagged import LaggedLaw, settle_lagged
from labctl.physics.oscillators.law import Inject, Law, OscillatorLaw, coupled_sum, rhs
from labctl.physics.oscillators.noise import PhaseNoise
from labctl.physics.oscillators.schemes import SCHEMES, Method

__all__ = [
    "SCHEMES",
    "Backend",
    "Edges",
    "Gradient",
    "Inject",
    "LaggedLaw",
    "Law",
    "Locking",
    "Method",
    "OscillatorLaw",
    "PhaseNoise",
    "PolynomialLaw",
    "Rest",
    "SaturatingLaw",
    "beat_rate",
    "contraction_rate",
    "coupled_sum",
    "energy",
    "evolve",
    "gershgorin_margin",
    "hessian",
    "locked_phase",
    "locking",
    "rest_of",
    "rhs",
    "settle",
    "settle_lagged",
    "stationary_covariance",
    "symmetric",
]
