"""Coupled oscillators: the law of their phases, its evolution and the gradient of that."""

from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.evolve import Backend, evolve
from labctl.physics.oscillators.law import OscillatorLaw, coupled_sum, rhs
from labctl.physics.oscillators.noise import PhaseNoise
from labctl.physics.oscillators.schemes import SCHEMES, Method

__all__ = [
    "SCHEMES",
    "Backend",
    "Edges",
    "Method",
    "OscillatorLaw",
    "PhaseNoise",
    "coupled_sum",
    "evolve",
    "rhs",
]
